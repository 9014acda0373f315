"""Sound files for the tests of decoding and encoding, and how alike two signals are."""

from __future__ import annotations

import io
import shutil
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.audio import StreamEncoder, decode_audio
from higgs_core.rates import SAMPLING_RATE

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
LOSSLESS = [("wav", "pcm_16"), ("wav", "float32"), ("flac", "pcm_16"), ("pcm", "pcm_16")]
EVERY_FORMAT = [
    *LOSSLESS,
    ("mp3", "pcm_16"),
    ("opus", "pcm_16"),
    pytest.param("aac", "pcm_16", marks=needs_ffmpeg),
]


def tone(seconds: float, rate: int, hertz: float = 1000, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def file(samples: np.ndarray, rate: int = SAMPLING_RATE, **options: Any) -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, rate, **({"format": "WAV", "subtype": "FLOAT"} | options))
    return target.getvalue()


def streamed(audio: np.ndarray, fmt: str, encoding: Any = "pcm_16", cuts: tuple[int, ...] = ()) -> list[bytes]:
    encoder = StreamEncoder(fmt, encoding)
    try:
        parts = [encoder.write(piece) for piece in np.split(audio, cuts)]
        return [*parts, encoder.finish()]
    finally:
        encoder.close()


def decoded(data: bytes, fmt: str) -> np.ndarray:
    """Decoded by what a client would use: numpy for pcm, ffmpeg for aac, libsndfile for the rest."""
    if fmt == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768
    if fmt == "aac":
        return decode_audio(data, origin="clip")
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == SAMPLING_RATE
    return samples


def delay_between(longer: np.ndarray, original: np.ndarray) -> int:
    """Samples by which `longer` comes later, by cross-correlation."""
    size = 2 ** (len(longer) + len(original)).bit_length()
    product = np.fft.rfft(longer, size) * np.conj(np.fft.rfft(original, size))
    lag = int(np.argmax(np.fft.irfft(product)))
    return lag if lag < size // 2 else lag - size


def signal_to_noise(signal: np.ndarray, other: np.ndarray) -> float:
    length = min(len(signal), len(other))
    noise = np.sum((signal[:length] - other[:length]) ** 2) + 1e-12
    return float(10 * np.log10(np.sum(signal[:length] ** 2) / noise))
