"""What a response's audio really is, as an ordinary reader sees it."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

SNDFILE_FORMATS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "opus": "OGG"}


def decoded(data: bytes, audio_format: str) -> NDArray[np.float32]:
    """float32 [N] at 24 kHz, mono. Fails unless `data` is what `audio_format` promises."""
    if audio_format == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        assert sound.format == SNDFILE_FORMATS[audio_format]
        assert sound.samplerate == 24_000
        assert sound.channels == 1
        samples: NDArray[np.float32] = sound.read(dtype="float32")
        return samples


def audio_of(output: dict[str, Any]) -> NDArray[np.float32]:
    """The audio of an inline response, checked against everything that the response says about it."""
    audio = decoded(base64.b64decode(output["audio_base64"], validate=True), output["audio_format"])
    assert output["sampling_rate"] == 24_000
    assert len(audio) == round(output["duration_seconds"] * 24_000)
    return audio
