"""The chapters of a book together: a list for players, and one file with all of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from higgs_core.rates import SAMPLING_RATE
from serverless.client.errors import ClientError, StorageError, printable

JOINED = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".mp3": ("MP3", "MPEG_LAYER_III")}
PAUSE_SECONDS = 1.0
"""Between two chapters."""

_BLOCK = 10 * SAMPLING_RATE
_MAX_WAV_SAMPLES = 2**31 - 1024  # a WAV has at most 4 GiB


def playlist(entries: Iterable[tuple[str, str, float]]) -> str:
    """An extended M3U of (file, title, seconds)."""
    lines = ["#EXTM3U"]
    for file, title, seconds in entries:
        lines += [f"#EXTINF:{round(seconds)},{printable(title)}", file]
    return "\n".join(lines) + "\n"


def check_join(target: Path, audio_format: str, output: Path) -> None:
    """Raises ClientError where chapters of this format cannot become that file. output: a folder that will be made."""
    if target.suffix.lower() not in JOINED:
        raise ClientError(f"--join is {target}; allowed is a name with .wav, .flac or .mp3.")
    if audio_format == "aac":
        raise ClientError("--join cannot read aac; take another --format, such as flac.")
    if target.is_dir() or not (target.parent.is_dir() or target.parent == output):
        raise ClientError(f"--join is {target}, where no file can be made; give a name in a folder that is there.")


def join(files: Sequence[Path], target: Path) -> float:
    """Write the audio of all files into one, which appears whole; its seconds. Raises ClientError. Blocking."""
    import soundfile

    container, subtype = JOINED[target.suffix.lower()]
    partial = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        with soundfile.SoundFile(
            partial, "w", samplerate=SAMPLING_RATE, channels=1, format=container, subtype=subtype
        ) as joined:
            for index, file in enumerate(files):
                if index:
                    joined.write(np.zeros(round(PAUSE_SECONDS * SAMPLING_RATE), np.float32))
                _copy(file, joined)
                if container == "WAV" and joined.frames > _MAX_WAV_SAMPLES:
                    raise ClientError(f"{target} would be larger than a WAV can be; take a name with .flac.")
            frames = joined.frames
        os.replace(partial, target)
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or "its audio cannot be read or written"
        raise StorageError(f"{target} cannot be made: {reason}.") from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return float(frames) / SAMPLING_RATE


def _copy(file: Path, joined: Any) -> None:
    import soundfile

    raw = {"samplerate": SAMPLING_RATE, "channels": 1, "format": "RAW", "subtype": "PCM_16", "endian": "LITTLE"}
    with soundfile.SoundFile(file, **(raw if file.suffix == ".pcm" else {})) as chapter:
        if (chapter.samplerate, chapter.channels) != (SAMPLING_RATE, 1):
            raise ClientError(f"{file} is not mono at {SAMPLING_RATE} Hz.")
        for block in chapter.blocks(_BLOCK, dtype="float32"):
            joined.write(block)
