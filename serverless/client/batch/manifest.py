"""A manifest (JSON Lines) as jobs: everything in it is checked before anything is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_core.errors import RequestError
from serverless.client.batch.names import folded, is_file_name, safe, slug
from serverless.client.errors import ClientError
from serverless.client.options import FORMATS, SUFFIXES, agreed_format
from serverless.payload.json_text import JsonTextError, parse_json, position_of, read_text
from serverless.payload.precheck import check_input
from serverless.payload.request_fields import RequestFields

MAX_MANIFEST_BYTES = 256_000_000
MAX_JOBS = 100_000
MAX_PROBLEMS = 20
"""Errors of a manifest that are named."""

TEXT_FIELDS = {*RequestFields.script.names, "dialogue", "messages"}
"""Fields of the input that say what is spoken."""
_DEFAULT_FORMAT = "wav"
_WRAPPER_KEYS = {"input", "id", "file", "s3Config"}


@dataclass(frozen=True)
class BatchJob:
    """body: what is sent. file: the name of its audio. title: what people call it. where: its line, for messages.

    key: the SHA-256 of body and file, so that a changed line is another job.
    """

    body: Mapping[str, Any]
    file: str
    title: str
    where: str
    key: str


class _Wrong(Exception):
    """What is wrong with a line. path: the field that it is about."""

    def __init__(self, sentence: str, path: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.path = path


def read_manifest(
    file: Path, defaults: Mapping[str, Any], audio_format: str | None, warn: Callable[[str], None]
) -> list[BatchJob]:
    """The jobs of all lines, in order.

    defaults: fields of the input for lines that do not give them. audio_format: for lines that name none.
    Raises ClientError with a line for each error: file, line, column, sentence.
    """
    text = text_of(file)
    jobs: list[BatchJob] = []
    problems: list[str] = []
    taken: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if len(jobs) + len(problems) >= MAX_JOBS:
            raise ClientError(f"{file}:{number}:1: a manifest has at most {MAX_JOBS} jobs; cut it in two.")
        try:
            value = parse_json(line)
            job, warnings = _job(value, defaults, audio_format, f"{file}:{number}", taken)
            other = taken.setdefault(folded(job.file), number)
            if other != number:
                named_by = "file" if isinstance(value, dict) and "file" in value else "id"
                raise _Wrong(f"the file {job.file!r} is that of line {other} already.", named_by)
        except JsonTextError as error:
            problems.append(f"{file}:{number}:{error.column}: {error.sentence}")
        except _Wrong as wrong:
            problems.append(f"{file}:{number}:{_column(line, wrong.path)}: {wrong.sentence}")
        else:
            jobs.append(job)
            for warning in warnings:
                warn(f"{file}:{number}: warning: {warning}")
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise ClientError("\n".join(problems[:MAX_PROBLEMS] + ([f"and {more} more errors."] if more > 0 else [])))
    if not jobs:
        raise ClientError(f"{file} has no job; give one in each line.")
    return jobs


def text_of(file: Path) -> str:
    """Raises ClientError."""
    try:
        return read_text(file, max_bytes=MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ClientError(f"{file} cannot be read: {error.strerror}.") from None
    except JsonTextError as error:
        raise ClientError(f"{file}:{error.line}:{error.column}: {error.sentence}") from None


def batch_job(body: Mapping[str, Any], file: str, title: str, where: str) -> BatchJob:
    """A job with its key."""
    return BatchJob(body, file, title, where, _digest({"body": body, "file": file}))


def _job(
    value: Any, defaults: Mapping[str, Any], audio_format: str | None, where: str, taken: Mapping[str, int]
) -> tuple[BatchJob, tuple[str, ...]]:
    """The job of a line, and warnings. taken: names of files that lines before it have. Raises _Wrong."""
    wrapper, job_input, prefix = _unwrapped(value)
    fields = {**defaults, **job_input}
    try:
        warnings = check_input(fields)
    except RequestError as error:
        path = f"{prefix}{error.field}" if error.field else None
        raise _Wrong(error.message, path) from None
    file_name, own_format = wrapper.get("file"), job_input.get("response_format")
    if file_name is not None:
        if not isinstance(file_name, str) or not is_file_name(file_name):
            raise _Wrong("file is not the name of a file such as 'hello.wav', without folders or odd signs.", "file")
        try:
            wanted = agreed_format(Path(file_name), {f"{prefix}response_format": own_format})
        except ClientError as error:
            raise _Wrong(str(error), "file") from None
    else:
        wanted = own_format.strip().lower() if isinstance(own_format, str) and own_format.strip() else audio_format
    fields["response_format"] = wanted or defaults.get("response_format") or _DEFAULT_FORMAT
    if fields["response_format"] not in FORMATS:
        raise _Wrong(f"response_format is not one of {', '.join(FORMATS)}.", f"{prefix}response_format")
    body = {"input": fields, **({"s3Config": wrapper["s3Config"]} if "s3Config" in wrapper else {})}
    title = _title(fields)
    if file_name is None:
        suffix = next(suffix for suffix, name in SUFFIXES.items() if name == fields["response_format"])
        file_name = _from_id(wrapper["id"], suffix) if "id" in wrapper else _from_text(title, body, suffix, taken)
    return batch_job(body, file_name, title, where), warnings


def _unwrapped(value: Any) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    """What surrounds the input, the input, and the path to it in the line. Raises _Wrong."""
    if isinstance(value, str):
        return {}, {"script": value}, ""
    if not isinstance(value, dict):
        raise _Wrong('a line is a text in quotes, an input such as {"script": "Hello."}, or {"input": {...}}.')
    if not isinstance(value.get("input"), dict):
        return {}, value, ""
    for name in value:
        if name not in _WRAPPER_KEYS:
            raise _Wrong(f"{name[:60]!r} is no key beside input; allowed is id, file or s3Config.", name)
    if "id" in value and "file" in value:
        raise _Wrong("id and file both name the audio; give one of them.", "id")
    return value, value["input"], "input."


def _from_id(value: Any, suffix: str) -> str:
    """Raises _Wrong."""
    text = str(value) if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)) else ""
    name = safe(text)
    if not name:
        raise _Wrong("id is not a text or a number that can name a file.", "id")
    if name != text:  # two ids may become one name
        name = f"{name}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
    return name + suffix


def _from_text(title: str, body: Mapping[str, Any], suffix: str, taken: Mapping[str, int]) -> str:
    """A name that stays when lines are added or moved: words of the text and its content's hash."""
    stem = "-".join(part for part in (slug(title), _digest(body)[:8]) if part)
    name, count = stem + suffix, 1
    while folded(name) in taken:  # the same line once more
        count += 1
        name = f"{stem}-{count}{suffix}"
    return name


def _title(fields: Mapping[str, Any]) -> str:
    """The first words that are spoken."""
    for name in RequestFields.script.names:
        if isinstance(text := fields.get(name), str) and text.strip():
            return " ".join(text[:200].split())
    turns = fields.get("dialogue")
    first = turns[0] if isinstance(turns, list) and turns else None
    return " ".join(str(first.get("text", ""))[:200].split()) if isinstance(first, dict) else ""


def _digest(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _column(line: str, path: str | None) -> int:
    return position_of(line, path)[1]
