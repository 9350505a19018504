"""Writes down what an English voice on stdin says, with PocketSphinx and the model in its wheel.

Run as a script, in a process of its own, like `control_plane.media.decoder`: the model is loaded
first, then rights are given up, then the first byte is read. Writes JSON: text and duration_s.
"""

import json
import os
import sys
from typing import BinaryIO, cast

from control_plane.media.decoder import (
    NO_DECODER,
    OVER_LIMITS,
    SAMPLE,
    TOO_LONG,
    UNDECODABLE,
    Sound,
    TooLong,
    give_up_rights,
    pour,
)

# Seconds of a voice: it takes about twice as long to hear one.
MAX_SECONDS = 60
# Seconds of processor time for that, on a slow machine.
_PROCESSOR_S = 240
# Hertz: what the model was made for.
_RATE = 16_000

# FFmpeg's readers, by how files begin: what browsers play, and what came as AMR.
_READERS = {
    b"ID3": "mp3",
    b"\xff\xfb": "mp3",
    b"\xff\xf3": "mp3",
    b"RIFF": "wav",
    b"OggS": "ogg",
    b"\x1aE\xdf\xa3": "matroska",
    b"#!AMR": "amr",
}


def reader_of(voice: bytes) -> str:
    """Who reads what begins like this; raises ValueError."""
    if voice[4:8] == b"ftyp":
        return "mov"
    for start, reader in _READERS.items():
        if voice.startswith(start):
            return reader
    raise ValueError("nobody reads this")


def sound_of(voice: bytes) -> bytes:
    """Its samples as the model wants them; raises TooLong, ValueError or what FFmpeg raises."""
    sound = Sound(MAX_SECONDS, _RATE)
    pour(voice, reader_of(voice), sound)
    return bytes(sound.samples)


def main() -> int:
    try:
        from pocketsphinx import Decoder

        heard = Decoder(samprate=_RATE, loglevel="FATAL")
        # What the libraries load as they go, they load for a moment of silence.
        pour(b"#!AMR\n\x3c" + bytes(31), "amr", Sound(MAX_SECONDS, _RATE))
    except ImportError:
        return NO_DECODER
    give_up_rights(_PROCESSOR_S)
    stdin = cast(BinaryIO, sys.stdin.buffer)
    try:
        samples = sound_of(stdin.read())
        heard.start_utt()
        heard.process_raw(samples, full_utt=True)
        heard.end_utt()
        said = heard.hyp()
    except TooLong:
        return TOO_LONG
    except MemoryError:
        return OVER_LIMITS
    except Exception:  # whatever the libraries say of such bytes
        return UNDECODABLE
    text = said.hypstr if said is not None else ""
    told = {"text": text, "duration_s": round(len(samples) / SAMPLE / _RATE, 2)}
    sys.stdout.write(json.dumps(told))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    # No clean-up of libraries that have seen such bytes.
    os._exit(main())
