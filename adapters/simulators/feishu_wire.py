"""Feishu's side of its frames and its encryption, written from the published schemes."""

import base64
import hashlib
import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


@dataclass(kw_only=True)
class Packet:
    """A pbbp2 frame as the platform's gateway sees it."""

    seq: int = 0
    log: int = 0
    service: int = 0
    method: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b""


def pack(packet: Packet) -> bytes:
    out = b""
    for number, value in enumerate((packet.seq, packet.log, packet.service, packet.method), 1):
        out += _number(number << 3) + _number(value % 2**64)
    for name, text in packet.headers.items():
        out += _chunk(5, _chunk(1, name.encode()) + _chunk(2, text.encode()))
    return out + (_chunk(8, packet.payload) if packet.payload else b"")


def unpack(data: bytes) -> Packet:
    """Raises ValueError or IndexError for what the platform would not read."""
    packet = Packet()
    names = {1: "seq", 2: "log", 3: "service", 4: "method"}
    missing = set(names)
    for number, value in _chunks(data):
        if number in names and isinstance(value, int):
            setattr(packet, names[number], value)
            missing.discard(number)
        elif number == 5 and isinstance(value, bytes):
            pair = dict(_chunks(value))
            name, text = pair[1], pair[2]
            if not isinstance(name, bytes) or not isinstance(text, bytes):
                raise ValueError("a header is no text")
            packet.headers[name.decode()] = text.decode()
        elif number == 8 and isinstance(value, bytes):
            packet.payload = value
    if missing:
        raise ValueError("a required number is missing")
    return packet


def _number(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def _chunk(number: int, content: bytes) -> bytes:
    return _number(number * 8 + 2) + _number(len(content)) + content


def _chunks(data: bytes) -> list[tuple[int, int | bytes]]:
    found: list[tuple[int, int | bytes]] = []
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value += (byte % 128) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag % 8 == 0:
            found.append((tag // 8, number()))
        elif tag % 8 == 2:
            length = number()
            found.append((tag // 8, data[at : at + length]))
            at += length
        else:
            raise ValueError("no such field")
    return found


def close(encrypt_key: str, message: bytes) -> str:
    """The ciphertext in base64."""
    iv = os.urandom(16)
    padder = padding.PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(hashlib.sha256(encrypt_key.encode()).digest()), modes.CBC(iv))
    encryptor = cipher.encryptor()
    padded = padder.update(message) + padder.finalize()
    return base64.b64encode(iv + encryptor.update(padded) + encryptor.finalize()).decode()


def signature(timestamp: str, nonce: str, encrypt_key: str, body: bytes) -> str:
    return hashlib.sha256((timestamp + nonce + encrypt_key).encode() + body).hexdigest()
