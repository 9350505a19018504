"""The agent's side of TLS: a key that never leaves the process, a certificate from the bootstrap.

Only an agent that is reached over a network needs it; on loopback the API is plain HTTP, unless
the agent is told otherwise.
"""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Until the bootstrap is done only the node's probes come, and those look at no certificate.
_FIRST_LIFE = timedelta(days=1)


class Identity:
    """One start's key; the listener takes the certificate up without a restart."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tls.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(self._own_word())

    @property
    def public_key(self) -> str:
        """For whoever makes the certificate."""
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, info).decode()

    def take(self, certificate: str) -> None:
        """Show this certificate from the next connection on."""
        self._load(certificate.encode())

    def _load(self, certificate: bytes) -> None:
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        # The ssl module reads files only; this one is gone again at once, from a private folder.
        self._file.touch(mode=0o600)
        try:
            self._file.write_bytes(key + certificate)
            self.context.load_cert_chain(self._file)
        finally:
            self._file.unlink()

    def _own_word(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "botyard agent")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _FIRST_LIFE)
            .not_valid_after(now + _FIRST_LIFE)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)
