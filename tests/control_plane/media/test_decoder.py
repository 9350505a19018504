"""The program that touches strangers' voices: what it makes, and that it can do nothing else."""

import json
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.media import child, decoder, kinds
from tests.control_plane.media import sound

PROGRAM = Path(decoder.__file__)

# Gives up its rights like the decoder, then tries what it should not be able to do.
_ATTACK = f"""
import importlib.util, io, json, os, socket, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("decoder", {str(PROGRAM)!r})
decoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)
decoder.give_up_rights()
def tries(what):
    try:
        what()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"
print(json.dumps({{
    "socket": tries(socket.socket),
    "file": tries(lambda: open("/etc/passwd")),
    "pipe": tries(os.pipe),
    "memory": tries(lambda: bytearray(2 ** 31)),
    "environment": sorted(os.environ),
    "said": len(sys.stdin.buffer.read()),
}}))
"""


async def made(voice: bytes) -> child.Ended:
    return await child.run(PROGRAM, voice, within_s=120, at_most=2**22)


class TestProgram:
    @pytest.mark.parametrize(
        "voice",
        [sound.amr(), sound.amr_wide(), sound.silk(), sound.silk(tencent=False)],
        ids=["amr", "amr-wb", "silk", "plain-silk"],
    )
    async def test_makes_an_mp3_of_what_platforms_send(self, voice: bytes) -> None:
        ended = await made(voice)

        assert ended.code == 0
        assert kinds.kind_of(ended.written[: kinds.HEAD]) == "audio/mpeg"
        codec, seconds, _ = sound.heard(ended.written)
        assert codec.startswith("mp3")
        assert seconds == pytest.approx(1, abs=0.2)

    @pytest.mark.parametrize("voice", [sound.amr(), sound.silk()], ids=["amr", "silk"])
    async def test_keeps_what_was_said(self, voice: bytes) -> None:
        assert sound.heard((await made(voice)).written)[2] > 4000

    @pytest.mark.parametrize(
        "voice",
        [
            b"",
            b"#!AMR\n",
            b"#!AMR\n" + bytes(range(256)) * 20,
            b"\x02#!SILK_V3",
            b"\x02#!SILK_V3" + bytes(range(256)) * 20,
            b"\x02#!SILK_V3\xff\x7f" + bytes(100),
            b"ID3" + bytes(1000),
            b"#EXTM3U\nfile:///etc/passwd\n",
        ],
    )
    async def test_refuses_what_is_no_voice(self, voice: bytes) -> None:
        ended = await made(voice)

        assert (ended.code, ended.written) == (decoder.UNDECODABLE, b"")

    async def test_refuses_more_sound_than_a_voice_has(self) -> None:
        hours = b"#!AMR\n" + (b"\x04" + bytes(12)) * 60 * (decoder.MAX_SECONDS + 1)

        assert (await made(hours)).code == decoder.TOO_LONG

    async def test_can_open_nothing_and_take_no_memory(self, tmp_path: Path) -> None:
        program = tmp_path / "attack.py"
        program.write_text(_ATTACK)

        ended = await child.run(program, b"12345", within_s=120, at_most=10_000)

        told = json.loads(ended.written)
        # What Python itself sets in an environment that has nothing.
        assert set(told.pop("environment")) <= {"LC_CTYPE"}
        assert told == {
            "socket": "OSError",
            "file": "OSError",
            "pipe": "OSError",
            "memory": "MemoryError",
            "said": 5,
        }


class TestDecoded:
    def test_stops_a_library_that_writes_too_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        voice = sound.silk(2)
        monkeypatch.setattr(decoder, "MAX_SECONDS", 1)

        with pytest.raises(decoder.TooLong):
            decoder.decoded(voice)

    @settings(max_examples=40, deadline=None)
    @given(st.binary(max_size=400))
    def test_of_any_amr_is_sound_or_refused(self, tail: bytes) -> None:
        try:
            samples = decoder.decoded(b"#!AMR\n" + tail)
        except (av.FFmpegError, ValueError):
            return
        assert len(decoder.encoded(samples)) > 0


def test_what_is_converted_is_known_by_its_bytes() -> None:
    voices = (sound.amr(), sound.amr_wide(), sound.silk(), sound.silk(tencent=False))

    assert [kinds.kind_of(voice) for voice in voices] == [*["audio/amr"] * 2, *["audio/silk"] * 2]
