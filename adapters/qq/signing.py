"""QQ's signatures: an Ed25519 key that both sides derive from the bot's secret; pure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# The secret is repeated until it fills a seed.
SEED_BYTES = 32
_SIGNATURE_BYTES = 64


def seed(secret: str) -> bytes:
    """The secret over and over, cut to a seed; raises ValueError for an empty one."""
    given = secret.encode()
    if not given:
        raise ValueError("there is no secret")
    return (given * (SEED_BYTES // len(given) + 1))[:SEED_BYTES]


def public_key(secret: str) -> bytes:
    """What the platform's signatures are checked with."""
    return _key(secret).public_key().public_bytes_raw()


def sign(secret: str, message: bytes) -> bytes:
    """Only for what `adapters.qq.callback` has found to be a challenge."""
    return _key(secret).sign(message)


def holds(public: bytes, message: bytes, signature: str) -> bool:
    """Whether this is the platform's signature, in hexadecimal, over exactly these bytes."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(signature) != 2 * _SIGNATURE_BYTES or not signature.isascii():
        return False
    try:
        given = bytes.fromhex(signature)
    except ValueError:
        return False
    # `fromhex` skips spaces. The top bits of a real signature are clear, as the platform checks.
    if len(given) != _SIGNATURE_BYTES or given[-1] & 0xE0:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(given, message)
    except InvalidSignature:
        return False
    return True


def _key(secret: str) -> "Ed25519PrivateKey":
    # Here, because a bot that keeps a connection open never needs the library.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed(secret))
