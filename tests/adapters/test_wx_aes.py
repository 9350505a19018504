import base64

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from adapters.simulators.wecom_seal import Seal
from adapters.wx_aes import Envelope, EnvelopeError, sign

KEY = "NkFJSACJrnUk/Qq2wBZArzSACcQOpxdWZbeURqgtGtk"
ENVELOPE = Envelope(token="Tk9xYz", encoding_aes_key=KEY, receive_id="ww0123456789abcdef")
PLATFORM = Seal("Tk9xYz", KEY, "ww0123456789abcdef")


def opened(encrypt: str, *, envelope: Envelope = ENVELOPE, timestamp: str = "1") -> bytes:
    signature = sign(envelope.token, timestamp, "n", encrypt)
    return envelope.open(signature=signature, timestamp=timestamp, nonce="n", encrypt=encrypt)


def encrypted(plain: bytes) -> str:
    """Bytes as they are, without any padding of ours."""
    key = base64.b64decode(KEY + "=")
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(plain) + encryptor.finalize()).decode()


def reason(encrypt: str, **how) -> str:
    with pytest.raises(EnvelopeError) as error:
        opened(encrypt, **how)
    return error.value.reason


class TestOpen:
    @given(st.binary(max_size=200))
    def test_what_the_platform_seals_is_read(self, message):
        encrypt = PLATFORM.close(message)
        signature = PLATFORM.signature("1755850000", "n", encrypt)
        found = ENVELOPE.open(
            signature=signature, timestamp="1755850000", nonce="n", encrypt=encrypt
        )
        assert found == message

    @given(st.text(), st.text(), st.text(), st.text())
    def test_never_fails_in_another_way(self, signature, timestamp, nonce, encrypt):
        with pytest.raises(EnvelopeError):
            ENVELOPE.open(signature=signature, timestamp=timestamp, nonce=nonce, encrypt=encrypt)

    @given(st.binary(max_size=160))
    def test_bytes_that_somebody_signed_never_fail_in_another_way(self, sealed):
        with pytest.raises(EnvelopeError):
            opened(base64.b64encode(sealed).decode())

    @pytest.mark.parametrize("part", ["signature", "timestamp", "nonce", "encrypt"])
    def test_everything_is_signed(self, part):
        sealed = ENVELOPE.seal(b"hello", timestamp="1", nonce="n", random16=bytes(16))
        given_parts = {
            "signature": sealed.signature,
            "timestamp": sealed.timestamp,
            "nonce": sealed.nonce,
            "encrypt": sealed.encrypt,
        }
        assert ENVELOPE.open(**given_parts) == b"hello"
        with pytest.raises(EnvelopeError):
            ENVELOPE.open(**given_parts | {part: given_parts[part] + "0"})

    @pytest.mark.parametrize("other", ["", "ww0123456789abcde", "ww0123456789abcdef0"])
    def test_what_was_sealed_for_another_company_is_not_for_us(self, other):
        sealed = Seal("Tk9xYz", KEY, other).close(b"hello")
        assert reason(sealed) == "receiveid"

    @pytest.mark.parametrize("pad", [bytes([0]) * 32, bytes([33]) * 32, bytes([1, 2])])
    def test_a_wrong_padding_is_refused(self, pad):
        plain = bytes(16) + (0).to_bytes(4, "big") + b"ww0123456789abcdef"
        plain += bytes(96 - len(plain) - len(pad)) + pad
        assert reason(encrypted(plain)) == "padding"

    def test_a_length_that_leads_outside_is_refused(self):
        plain = bytes(16) + (2**32 - 1).to_bytes(4, "big") + b"ww0123456789abcdef"
        plain += bytes([26]) * 26
        assert len(plain) == 64
        assert reason(encrypted(plain)) == "length"

    def test_a_plaintext_shorter_than_its_head_is_refused(self):
        assert reason(encrypted(bytes(15) + bytes([17]) * 17)) == "length"

    @pytest.mark.parametrize("text", ["AAA", "A" * 44, "not base64!", "", "AAAA\n" * 16])
    def test_what_is_no_ciphertext_is_refused(self, text):
        assert reason(text) in {"base64", "length"}

    def test_no_secret_is_in_what_is_printed(self):
        assert KEY not in repr(ENVELOPE)
        assert "Tk9xYz" not in repr(ENVELOPE)


class TestSeal:
    @given(st.binary(max_size=200), st.binary(min_size=16, max_size=16))
    def test_the_platform_reads_it(self, message, random16):
        sealed = ENVELOPE.seal(message, timestamp="7", nonce="n", random16=random16)
        assert PLATFORM.open(sealed.encrypt) == message
        assert PLATFORM.signature("7", "n", sealed.encrypt) == sealed.signature
