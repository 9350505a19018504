"""The control plane's own certificate authority, for calls to agents over a network.

It is derived from the secret keys, so every process has it and nothing is stored: the newest key
signs, all are trusted. A certificate names one session, and nobody else can be taken for it, also
where an address went to another pod.
"""

import ssl
from datetime import UTC, datetime
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from control_plane.kit.crypto import Keyring

_PURPOSE = "agents.authority.v1"
# Fixed, so that all processes make the same certificate. An agent's ends with its session: it is
# not called any more.
_FROM, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class NotAKey(ValueError):
    """What an agent sent is no key that we sign."""


def name_of(session_id: UUID) -> str:
    """What the certificate of a session is for."""
    return f"{session_id}.agents.botyard.internal"


class Authority:
    """Makes certificates for agents and knows them again."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = [Ed25519PrivateKey.from_private_bytes(key) for key in keys.derive(_PURPOSE)]

    def trust(self) -> ssl.SSLContext:
        """For calls: only certificates of ours are believed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pem = serialization.Encoding.PEM
        for key in self._keys:
            context.load_verify_locations(cadata=_own(key).public_bytes(pem).decode())
        return context

    def certify(self, session_id: UUID, public_key: str) -> str:
        """The certificate of one session; raises NotAKey."""
        try:
            key = serialization.load_pem_public_key(public_key.encode())
        except (ValueError, TypeError) as error:
            raise NotAKey(type(error).__name__) from None
        if not isinstance(key, EllipticCurvePublicKey):
            raise NotAKey("not an elliptic curve")
        issuer = self._keys[0]
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        made = (
            _begun(f"session {session_id}", issuer)
            .public_key(key)
            .serial_number(session_id.int)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name_of(session_id))]), False)
            .add_extension(usage, critical=False)
            .sign(issuer, None)
        )
        return made.public_bytes(serialization.Encoding.PEM).decode()


def _own(key: Ed25519PrivateKey) -> x509.Certificate:
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        _begun(_name(key), key)
        .public_key(public)
        .serial_number(int.from_bytes(identifier.digest[:16]) >> 1 or 1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, None)
    )


def _begun(subject: str, issuer: Ed25519PrivateKey) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _name(issuer))])
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(name)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(identifier, critical=False)
    )


def _name(key: Ed25519PrivateKey) -> str:
    """By its key: two of them must not be taken for one another."""
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    return f"botyard agents {digest.hex()[:16]}"
