"""Turns a voice of a chat platform (AMR, Silk v3) on stdin into an MP3 on stdout.

Run as a script: python -I decoder.py. The bytes are a stranger's and the decoders are C: so it
gives up everything before it reads them (memory, processor time, new files and sockets), imports
nothing of ours, and says by its exit code what was wrong. See `child`.
"""

import io
import os
import resource
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from av import AudioFrame

# Exit codes; a signal means that a limit ended it, too.
UNDECODABLE = 3
TOO_LONG = 4
NO_DECODER = 5
OVER_LIMITS = 6

# Seconds that a voice may last: platforms take a minute, QQ's clients some more.
MAX_SECONDS = 600
# Bytes of address space: the libraries take 150 MiB, ten minutes of sound 30 MiB and its copies.
_MEMORY = 768 * 1024 * 1024
# Seconds of processor time; ten minutes of sound take about two.
_PROCESSOR_S = 30
# Hertz: what Silk of chat platforms has, and every browser plays.
RATE = 24_000
# Bits a second: speech in one channel.
_BIT_RATE = 32_000
# Bytes of one sample.
SAMPLE = 2
_SILK = (b"\x02#!SILK_V3", b"#!SILK_V3")
# A voice of ours, 20 ms long: what the libraries load as they go, they load for it.
_FIRST = b"#!AMR\n\x3c" + bytes(31)


class TooLong(Exception):
    """More sound than a voice may have."""


class Sound(io.RawIOBase):
    """Samples of one channel, 16 bits each, of so many seconds at most."""

    def __init__(self, seconds: int, rate: int) -> None:
        super().__init__()
        self.samples = bytearray()
        self.rate = rate
        self._most = seconds * rate * SAMPLE

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(cast(bytes, data))
        if len(self.samples) + len(piece) > self._most:
            raise TooLong
        self.samples += piece
        return len(piece)


def decoded(voice: bytes) -> bytes:
    """The samples of a voice, at RATE; raises TooLong, ValueError or what the libraries raise."""
    import pysilk

    sound = Sound(MAX_SECONDS, RATE)
    if voice.startswith(_SILK):
        pysilk.decode(io.BytesIO(voice), sound, RATE)
    else:
        pour(voice, "amr", sound)
    if not sound.samples:
        raise ValueError("there is no sound")
    return bytes(sound.samples)


def pour(voice: bytes, reader: str, sound: Sound) -> None:
    """What FFmpeg's reader of this name finds; named, or the bytes would choose among hundreds."""
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=sound.rate)
    with av.open(io.BytesIO(voice), "r", format=reader) as container:
        for frame in container.decode(audio=0):
            _write(resampler.resample(frame), sound)
    _write(resampler.resample(None), sound)


def _write(frames: "list[AudioFrame]", sound: Sound) -> None:
    for frame in frames:
        # Planes are padded.
        sound.write(bytes(frame.planes[0])[: frame.samples * SAMPLE])


def encoded(samples: bytes) -> bytes:
    """Samples as an MP3."""
    import av

    made = io.BytesIO()
    with av.open(made, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=RATE)
        stream.layout = "mono"
        stream.bit_rate = _BIT_RATE
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples) // SAMPLE)
        frame.sample_rate = RATE
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        planar = av.AudioResampler(
            format="s16p", layout="mono", rate=RATE, frame_size=stream.codec_context.frame_size
        )
        for piece in (*planar.resample(frame), *planar.resample(None), None):
            container.mux(stream.encode(piece))
    return made.getvalue()


def give_up_rights(processor_s: int = _PROCESSOR_S) -> None:
    """From here on: no new file, socket or process with libraries, little memory and time."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CPU: processor_s,
        # Descriptors above the two pipes and the sink of errors.
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_AS: _MEMORY,
    }
    for limit, value in limits.items():
        # Only macOS refuses one: it knows no bound of the address space.
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def main() -> int:
    try:
        encoded(decoded(_FIRST))
    except ImportError:
        return NO_DECODER
    give_up_rights()
    stdin = cast(BinaryIO, sys.stdin.buffer)
    try:
        made = encoded(decoded(stdin.read()))
    except TooLong:
        return TOO_LONG
    except MemoryError:
        return OVER_LIMITS
    except Exception:  # whatever the libraries say of such bytes
        return UNDECODABLE
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    # No clean-up of libraries that have seen such bytes.
    os._exit(main())
