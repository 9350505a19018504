"""English, spoken by a machine: the same bytes every time."""

import ctypes
import io
import wave

import espeakng_loader

# Of its own interface: give the samples back, do not play them.
_SYNCHRONOUS = 2
_RATE_PARAMETER = 1
_WORDS_A_MINUTE = 130
_UTF8 = 1


def spoken(text: str) -> bytes:
    """A WAV file of one channel."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    folder = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, folder, 0)
    samples = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def take(piece: int | None, count: int, _events: int | None) -> int:
        if piece and count:
            samples.extend(ctypes.string_at(piece, 2 * count))
        return 0

    library.espeak_SetSynthCallback(take)
    library.espeak_SetVoiceByName(b"en-us")
    library.espeak_SetParameter(_RATE_PARAMETER, _WORDS_A_MINUTE, 0)
    words = text.encode() + b"\0"
    library.espeak_Synth(words, len(words), 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    library.espeak_Terminate()
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(samples))
    return made.getvalue()
