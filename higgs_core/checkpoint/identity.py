"""Which checkpoint made or reads codes: a digest of samples of its files. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from higgs_core.checkpoint.snapshot import CONFIG

_SAMPLES = 8
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class CheckpointIdentity:
    """Digests of the language model and of the codec; blank for what has no files.

    Codes mean the same sound while the codec is the same; what a seed speaks depends on both.
    """

    model: str = ""
    codec: str = ""


def folder_digest(folder: Path | None) -> str:
    """A digest, 32 hex digits, of a checkpoint's config and weights; "" without a folder.

    Of each file of weights it reads the size, and samples that are spread over it, its header among them: checkpoints
    of one shape that were trained differently differ everywhere, and reading all of it would take minutes.
    """
    if folder is None:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted([*folder.glob(CONFIG), *folder.glob("*.safetensors")], key=lambda file: file.name):
        size = file.stat().st_size
        digest.update(f"{file.name}/{size}/".encode())
        with file.open("rb") as stream:
            for sample in range(_SAMPLES):
                stream.seek(sample * max(size - _SAMPLE_BYTES, 0) // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()
