"""The fewest bytes that speech takes in a format, whatever is said in it: known before it has been encoded."""

from __future__ import annotations

from higgs_core.audio.encode import WavEncoding
from higgs_core.rates import SAMPLING_RATE

# Bytes of a second. wav, pcm and mp3 have a fixed rate. Of the others this is below what they make of pure silence,
# which is 69, 228 and 259; speech takes many times as much.
_LEAST_PER_SECOND = {"wav": 48_000, "pcm": 48_000, "mp3": 16_000, "flac": 50, "opus": 150, "aac": 200}
_FLOAT_SAMPLE_BYTES = 4


def least_bytes(samples: int, fmt: str, wav_encoding: WavEncoding = "pcm_16") -> int:
    """A lower bound of `len(encode_audio(audio, fmt, wav_encoding))` for audio of so many samples."""
    if fmt == "wav" and wav_encoding == "float32":
        return _FLOAT_SAMPLE_BYTES * samples
    return samples * _LEAST_PER_SECOND[fmt] // SAMPLING_RATE
