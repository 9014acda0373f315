"""Jobs in files, and what is left of them in a folder: the audio, and the rest of the response beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_core.errors import RequestError
from serverless.delivery.response import SpeechResponse
from serverless.delivery.serialise import describe, response_json
from serverless.local.assets import with_address


@dataclass(frozen=True)
class LocalJob:
    """The job in a file, or what is wrong with the file."""

    name: str
    found: Mapping[str, Any] | RequestError

    @property
    def content(self) -> Mapping[str, Any]:
        """Raises RequestError when the file holds no job."""
        if isinstance(self.found, RequestError):
            raise self.found
        return self.found


def read_job(file: Path, assets_address: str) -> LocalJob:
    """The job in `file`, clips at the placeholder's address pointed at `assets_address`."""
    try:
        job = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return LocalJob(file.stem, RequestError(f"the file cannot be read ({type(error).__name__})."))
    if not isinstance(job, dict) or "input" not in job:
        return LocalJob(file.stem, RequestError('the file does not hold {"input": {...}}.'))
    return LocalJob(file.stem, with_address(job, assets_address))


def save(response: SpeechResponse, name: str, output: Path) -> Path:
    """Write the response, and its audio beside it where it came inline; the file to look at first."""
    about = output / f"{name}.json"
    if response.audio is None:
        _write_json(about, response_json(response))
        return about
    _write_json(about, describe(response))
    audio = output / f"{name}.{response.audio_format.name}"
    audio.write_bytes(response.audio)
    return audio


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
