"""The frames of Feishu's long connection (protobuf, package pbbp2) and their reassembly; pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from msgspec import Struct, field
from msgspec.structs import replace

# The platform sends five headers.
MAX_HEADERS = 64
# Parts of one message, messages that wait for parts, bytes of all that waits, and how long: the
# platform's own client forgets them after five seconds.
MAX_PARTS = 1024
MAX_WAITING = 64
MAX_BYTES = 8 * 1024 * 1024
MAX_AGE_S = 5.0

CONTROL, DATA = 0, 1

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_64_BITS = (1 << 64) - 1
_SEQ_ID, _LOG_ID, _SERVICE, _METHOD, _HEADERS = 1, 2, 3, 4, 5
_PAYLOAD_ENCODING, _PAYLOAD_TYPE, _PAYLOAD, _LOG_ID_NEW = 6, 7, 8, 9
_NUMBERS = {_SEQ_ID: "seq_id", _LOG_ID: "log_id", _SERVICE: "service", _METHOD: "method"}
_TEXTS = {
    _PAYLOAD_ENCODING: "payload_encoding",
    _PAYLOAD_TYPE: "payload_type",
    _LOG_ID_NEW: "log_id_new",
}


class FrameError(ValueError):
    """Not a frame of this platform."""


class Frame(Struct, frozen=True, kw_only=True):
    """One frame; `method` is CONTROL or DATA."""

    seq_id: int = 0
    log_id: int = 0
    service: int
    method: int
    headers: tuple[tuple[str, str], ...] = ()
    payload_encoding: str = ""
    payload_type: str = ""
    payload: bytes = b""
    log_id_new: str = ""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


def ping(service: int) -> Frame:
    return Frame(service=service, method=CONTROL, headers=(("type", "ping"),))


def answer(frame: Frame, payload: bytes, *, took_ms: int) -> Frame:
    """The acknowledgement: the same frame, how long it took, and what came of it."""
    return replace(frame, headers=(*frame.headers, ("biz_rt", str(took_ms))), payload=payload)


# --- protobuf --------------------------------------------------------------------------------


def encode(frame: Frame) -> bytes:
    out = bytearray()
    for number, name in _NUMBERS.items():
        out += _written(number << 3 | _VARINT) + _written(getattr(frame, name) & _64_BITS)
    for key, value in frame.headers:
        out += _field(_HEADERS, _field(1, key.encode()) + _field(2, value.encode()))
    for number, content in (
        (_PAYLOAD_ENCODING, frame.payload_encoding.encode()),
        (_PAYLOAD_TYPE, frame.payload_type.encode()),
        (_PAYLOAD, frame.payload),
        (_LOG_ID_NEW, frame.log_id_new.encode()),
    ):
        if content:
            out += _field(number, content)
    return bytes(out)


def decode(data: bytes) -> Frame:
    """Raises FrameError."""
    found: dict[str, int | str] = {}
    headers: list[tuple[str, str]] = []
    payload = b""
    for number, value in _fields(data):
        if number in _NUMBERS and isinstance(value, int):
            found[_NUMBERS[number]] = value if number in (_SEQ_ID, _LOG_ID) else _int32(value)
        elif number in _TEXTS and isinstance(value, bytes):
            found[_TEXTS[number]] = _text(value)
        elif number == _PAYLOAD and isinstance(value, bytes):
            payload = value
        elif number == _HEADERS and isinstance(value, bytes):
            if len(headers) == MAX_HEADERS:
                raise FrameError("too many headers")
            headers.append(_header(value))
        elif 1 <= number <= _LOG_ID_NEW:
            raise FrameError("a field has another type")
    if not found.keys() >= set(_NUMBERS.values()):
        raise FrameError("a number is missing")
    return Frame(headers=tuple(headers), payload=payload, **found)  # type: ignore[arg-type]


def _header(data: bytes) -> tuple[str, str]:
    found = {number: value for number, value in _fields(data) if isinstance(value, bytes)}
    if not found.keys() >= {1, 2}:
        raise FrameError("a header has no name or no value")
    return _text(found[1]), _text(found[2])


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) one after the other; fields of fixed size are skipped, nothing uses them."""
    at = 0
    while at < len(data):
        tag, at = _read(data, at)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise FrameError("a field has no number")
        if wire_type == _VARINT:
            value, at = _read(data, at)
            yield number, value
        elif wire_type == _BYTES:
            length, at = _read(data, at)
            if length > len(data) - at:
                raise FrameError("it ends too early")
            yield number, data[at : at + length]
            at += length
        elif wire_type in (_FIXED64, _FIXED32):
            at += 8 if wire_type == _FIXED64 else 4
            if at > len(data):
                raise FrameError("it ends too early")
        else:
            raise FrameError("there is no such type")


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(data):
            raise FrameError("it ends too early")
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value > _64_BITS:
                break
            return value, at + index + 1
    raise FrameError("a number is too long")


def _written(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _written(number << 3 | _BYTES) + _written(len(content)) + content


def _int32(value: int) -> int:
    signed = value - (1 << 64) if value >> 63 else value
    if not -(1 << 31) <= signed < 1 << 31:
        raise FrameError("a number is too large")
    return signed


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise FrameError("a text is no UTF-8") from None


# --- messages in parts -----------------------------------------------------------------------


class _Waiting(Struct):
    sum: int
    begun: float
    parts: dict[int, bytes] = field(default_factory=dict)
    size: int = 0


class Assembly:
    """Messages that came in parts, bounded in number, size and age."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def add(self, frame: Frame) -> bytes | None:
        """The whole message with its last part, None before; raises FrameError."""
        total, index = _count(frame.header("sum"), 1), _count(frame.header("seq"), 0)
        if total <= 1:
            return frame.payload
        if total > MAX_PARTS or index >= total:
            raise FrameError("its parts cannot be counted")
        name = frame.header("message_id")
        self._forget_old()
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = _Waiting(sum=total, begun=self._clock())
            if len(self._waiting) > MAX_WAITING:
                self._drop(next(iter(self._waiting)))
        if waiting.sum != total:
            self._drop(name)
            raise FrameError("its parts do not belong together")
        grown = len(frame.payload) - len(waiting.parts.get(index, b""))
        waiting.parts[index] = frame.payload
        waiting.size += grown
        self._size += grown
        return self._joined(name, waiting)

    def _joined(self, name: str, waiting: _Waiting) -> bytes | None:
        if len(waiting.parts) == waiting.sum:
            self._drop(name)
            return b"".join(waiting.parts[index] for index in range(waiting.sum))
        while self._size > MAX_BYTES:
            oldest = next(iter(self._waiting))
            self._drop(oldest)
            if oldest == name:
                raise FrameError("its parts are too large")
        return None

    def _forget_old(self) -> None:
        while self._waiting:
            name, oldest = next(iter(self._waiting.items()))
            if self._clock() - oldest.begun <= MAX_AGE_S:
                return
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._size -= self._waiting.pop(name).size


def _count(text: str, otherwise: int) -> int:
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise FrameError("its parts cannot be counted")
    return int(text)
