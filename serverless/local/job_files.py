"""Jobs in files, and what is left of them in a folder: the audio, and the rest of the response beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_core.errors import RequestError
from higgs_core.speech.voices import VoiceLibrary
from serverless.config.settings import Settings
from serverless.delivery.response import SpeechResponse
from serverless.delivery.serialise import describe, response_json
from serverless.local.assets import asset_names, names_only_assets, with_address
from serverless.payload.json_text import JsonTextError, parse_json, position_of, read_text
from serverless.payload.parse import parse_job

MAX_JOB_BYTES = 64_000_000


@dataclass(frozen=True)
class LocalJob:
    """The job in a file, or what is wrong with the file, with line and column.

    text: what the file holds. opens_loopback: it names the run's own assets and no other address.
    """

    file: Path
    found: Mapping[str, Any] | RequestError
    text: str = ""
    opens_loopback: bool = False

    @property
    def name(self) -> str:
        """What its outputs are called."""
        return self.file.stem

    @property
    def content(self) -> Mapping[str, Any]:
        """Raises RequestError when the file holds no job."""
        if isinstance(self.found, RequestError):
            raise self.found
        return self.found

    @property
    def asset_names(self) -> set[str]:
        """The assets that it names by the placeholder."""
        return set() if isinstance(self.found, RequestError) else asset_names(self.found)

    def with_assets_at(self, address: str) -> LocalJob:
        """The job with its clips at the placeholder's address pointed at `address`."""
        if isinstance(self.found, RequestError):
            return self
        try:
            job = with_address(self.found, address)
        except RecursionError:
            return LocalJob(self.file, RequestError(f"{self.file}:1:1: this is nested too deep."))
        return LocalJob(self.file, job, self.text, names_only_assets(self.found))

    def checked(self, settings: Settings, voices: VoiceLibrary) -> tuple[LocalJob, tuple[str, ...]]:
        """The job, or with what is wrong in place of it; and a sentence for each field that had no effect."""
        if isinstance(self.found, RequestError):
            return self, ()
        try:
            parsed = parse_job(self.found["input"], settings, voices=voices)
        except RequestError as error:
            path = f"input.{error.field}" if error.field else "input"
            return LocalJob(self.file, _placed(self.file, self.text, path, error.message, error.hint)), ()
        return self, parsed.warnings


def read_job(file: Path) -> LocalJob:
    """The job in `file`."""
    try:
        text = read_text(file, max_bytes=MAX_JOB_BYTES)
        job = parse_json(text)
    except OSError as error:
        return LocalJob(file, RequestError(f"{file} cannot be read: {error.strerror or type(error).__name__}."))
    except JsonTextError as error:
        return LocalJob(file, RequestError(f"{file}:{error.line}:{error.column}: {error.sentence}"))
    if not isinstance(job, dict) or "input" not in job:
        return LocalJob(file, _placed(file, text, None, 'the file does not hold {"input": {...}}.', None))
    return LocalJob(file, job, text)


def _placed(file: Path, text: str, path: str | None, sentence: str, hint: str | None) -> RequestError:
    """The error of a field, with where it stands."""
    line, column = position_of(text, path)
    return RequestError(f"{file}:{line}:{column}: {sentence}", field=path, hint=hint)


def overwritten(jobs: Sequence[LocalJob], output: Path) -> str | None:
    """A sentence about the first file that the run would write over: another job's output, or a job's own file."""
    seen: dict[str, LocalJob] = {}
    for job in jobs:
        other = seen.setdefault(job.name.casefold(), job)  # some file systems tell no case
        if other is not job:
            return f"{other.file} and {job.file} would write to the same file of {output}; rename one or run it alone."
        if job.file.resolve() == (output / f"{job.name}.json").resolve():
            return f"The response to {job.file} would be written over it; send the output to another folder."
    return None


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
