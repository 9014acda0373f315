"""The worker's voice library: read from the settings' folder once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from higgs_core.speech.voices import VoiceLibrary
from serverless.config.settings import Settings


def voice_library(settings: Settings) -> VoiceLibrary:
    """The worker's voices, read once. Call it at boot: it raises SettingsError for a folder with a broken voice."""
    if settings.voices_dir is None:
        return VoiceLibrary()
    return _read_library(
        settings.voices_dir,
        settings.max_reference_bytes,
        settings.max_reference_seconds,
        settings.min_reference_seconds,
    )


@lru_cache(maxsize=1)
def _read_library(folder: Path, max_bytes: int, max_seconds: float, min_seconds: float) -> VoiceLibrary:
    return VoiceLibrary.from_folder(folder, max_bytes=max_bytes, max_seconds=max_seconds, min_seconds=min_seconds)
