"""The least size of speech in a format is never more than what the encoder makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgs_core.audio import FORMATS, WavEncoding, encode_audio, is_available
from higgs_core.audio.least_size import least_bytes

ENCODINGS: list[tuple[str, WavEncoding]] = [*((name, "pcm_16") for name in FORMATS), ("wav", "float32")]
SAMPLES = (0, 1, 575, 577, 24_000, 240_123)


def sounds(samples: int) -> list[NDArray[np.float32]]:
    """Silence, which packs best, a constant, a tone and noise."""
    at = np.arange(samples)
    noise = np.random.default_rng(0).uniform(-1, 1, samples)
    return [sound.astype(np.float32) for sound in (at * 0.0, at * 0.0 + 0.5, np.sin(at / 9), noise)]


@pytest.mark.parametrize(("fmt", "wav_encoding"), ENCODINGS)
def test_no_audio_is_encoded_in_fewer_bytes(fmt: str, wav_encoding: WavEncoding) -> None:
    if not is_available(fmt):
        pytest.skip(f"{fmt} needs ffmpeg")
    for samples in SAMPLES if fmt != "aac" else SAMPLES[::2]:  # each takes an ffmpeg
        for audio in sounds(samples):
            least = least_bytes(len(audio), fmt, wav_encoding)
            assert 0 <= least <= len(encode_audio(audio, fmt, wav_encoding))


@pytest.mark.parametrize(
    ("fmt", "wav_encoding"), [("wav", "pcm_16"), ("wav", "float32"), ("pcm", "pcm_16"), ("mp3", "pcm_16")]
)
def test_at_a_fixed_rate_it_is_nearly_the_size(fmt: str, wav_encoding: WavEncoding) -> None:
    size = len(encode_audio(sounds(480_000)[2], fmt, wav_encoding))
    assert least_bytes(480_000, fmt, wav_encoding) > 0.99 * size
