"""A voice library to test with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile


def voice_folder(folder: Path) -> Path:
    """A library in Boson's shape with one voice, `belinda`."""
    seconds = np.arange(24_000) / 24_000
    soundfile.write(folder / "belinda.wav", 0.3 * np.sin(2 * np.pi * 220 * seconds), 24_000)
    config = {"belinda": {"transcript": "A tone of one second.", "audio_file": "belinda.wav"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
