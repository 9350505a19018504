"""Voices as platforms send them: a tone, encoded by the libraries' own encoders."""

import io
import math
import struct

import av
import pysilk


def tone(rate: int, seconds: float) -> bytes:
    """Samples of one channel, 16 bits each."""
    count = int(rate * seconds)
    return b"".join(
        struct.pack("<h", int(8000 * math.sin(2 * math.pi * 440 * n / rate))) for n in range(count)
    )


def amr(seconds: int = 1) -> bytes:
    """AMR narrow band, as WeCom has it."""
    made = io.BytesIO()
    samples = tone(8000, seconds)
    with av.open(made, "w", format="amr") as container:
        stream = container.add_stream("libopencore_amrnb", rate=8000)
        stream.layout = "mono"
        stream.bit_rate = 12_200
        for start in range(0, len(samples), 320):
            frame = av.AudioFrame(format="s16", layout="mono", samples=160)
            frame.sample_rate = 8000
            piece = samples[start : start + 320]
            frame.planes[0].update(piece.ljust(frame.planes[0].buffer_size, b"\0"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return made.getvalue()


def amr_wide(frames: int = 50) -> bytes:
    """AMR wide band, frames of 20 ms: there is no encoder for it, so what it says is nothing."""
    return b"#!AMR-WB\n" + (b"\x04" + bytes(17)) * frames


def silk(seconds: int = 1, *, tencent: bool = True) -> bytes:
    """Silk v3 as QQ and WeChat have it, or with the plain beginning."""
    made = io.BytesIO()
    pysilk.encode(io.BytesIO(tone(24_000, seconds)), made, 24_000, 24_000, tencent=tencent)
    return made.getvalue()


def heard(mp3: bytes) -> tuple[str, float, int]:
    """(codec, seconds, loudest sample) of what a browser gets."""
    seconds, loudest = 0.0, 0
    with av.open(io.BytesIO(mp3), "r", format="mp3") as container:
        stream = container.streams.audio[0]
        wanted = av.AudioResampler(format="s16", layout="mono", rate=24_000)
        for frame in container.decode(stream):
            for piece in wanted.resample(frame):
                seconds += piece.samples / piece.sample_rate
                raw = bytes(piece.planes[0])[: piece.samples * 2]
                loudest = max(loudest, *map(abs, struct.unpack(f"<{piece.samples}h", raw)))
        return stream.codec_context.name, seconds, loudest
