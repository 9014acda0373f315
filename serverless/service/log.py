"""What the worker writes down: one line per job, in RunPod's JSON on the platform and in plain words elsewhere.

A line holds ids, lengths, durations and codes. Words, audio, addresses and keys never get here: an exception is logged
as its type and the places it passed through, without its message, because messages quote what they choke on.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from higgs_core.errors import EngineStoppedError, HiggsError, RequestError

if TYPE_CHECKING:
    from serverless.config.settings import Settings

logger = logging.getLogger("serverless.jobs")

# Libraries that put addresses with their query strings into lines of these levels.
_QUIETED = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "urllib3": logging.ERROR,
    "botocore": logging.WARNING,
    "boto3": logging.WARNING,
    "s3transfer": logging.WARNING,
    "uvicorn.access": logging.WARNING,
}
_PLATFORM_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}

_FIELD = re.compile(r"[A-Za-z0-9_]{1,40}([.\[][A-Za-z0-9_]{1,40}\]?){0,4}")

Value = str | int | float | bool | None


def configure_logging(settings: Settings, *, on_platform: bool | None = None) -> None:
    """Send every logger's lines of the settings' level and above to stderr, in the form that their reader expects.

    on_platform: None means that RUNPOD_ENDPOINT_ID, which the platform sets, decides.
    """
    if on_platform is None:
        on_platform = bool(os.environ.get("RUNPOD_ENDPOINT_ID"))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlatformFormatter() if on_platform else PlainFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name, floor in _QUIETED.items():
        logging.getLogger(name).setLevel(max(floor, root.level))


class PlainFormatter(logging.Formatter):
    """`09:15:02 INFO    job finished: duration_seconds=3.2 ... [job-1]`"""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:7} {record.getMessage()}"
        job_id = getattr(record, "job_id", None)
        return "\n".join([line if job_id is None else f"{line} [{job_id}]", *_trace(record)])


class PlatformFormatter(logging.Formatter):
    """One JSON object a line: `requestId`, `message` and `level` as RunPod's console reads them, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "requestId": getattr(record, "job_id", None),
            "message": "\n".join([record.getMessage(), *_trace(record)]),
            "level": _PLATFORM_LEVELS.get(record.levelname, record.levelname),
        }
        fields: Mapping[str, Value] | None = getattr(record, "fields", None)
        if fields:
            line["fields"] = dict(fields)
        return json.dumps(line, ensure_ascii=False)


def _trace(record: logging.LogRecord) -> list[str]:
    # Not record.exc_text: another handler's formatter may have left the whole exception there.
    return [places(record.exc_info[1])] if record.exc_info and record.exc_info[1] else []


def places(error: BaseException | None) -> str:
    """The exception's type and the file, line and function of every frame, its causes first; no message, no values."""
    lines: list[str] = []
    while error is not None:
        frames = [
            f"  {os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        lines[:0] = [type(error).__name__, *frames]
        error = error.__cause__ or error.__context__
    return "\n".join(lines)


class JobRecord:
    """One job's line in the making. A `with` block around the job writes it, however the block is left.

    `note` adds fields. An exception passes through untouched, after the line has been written: as a warning where the
    client is at fault, as an error where the worker is.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._fields: dict[str, Value] = {}
        self._started = time.perf_counter()

    def note(self, **fields: Value) -> None:
        self._fields.update({name: value for name, value in fields.items() if value is not None})

    @property
    def seconds(self) -> float:
        """Since the job came in."""
        return time.perf_counter() - self._started

    def __enter__(self) -> JobRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write(logging.INFO, "finished")
        elif isinstance(error, HiggsError):
            if error.code == "cancelled":
                self._write(logging.INFO, "cancelled")
                return
            self.note(code=error.code, field=_plain_field(error.field))
            refused = isinstance(error, RequestError) or error.code == "busy"
            self._write(logging.WARNING if refused else logging.ERROR, "refused" if refused else "failed", error)
        elif isinstance(error, Exception):
            self.note(code=HiggsError.code)
            self._write(logging.ERROR, "failed", error)
        else:  # asyncio.CancelledError, GeneratorExit
            self._write(logging.INFO, "cancelled")

    def _write(self, level: int, outcome: str, error: BaseException | None = None) -> None:
        fields: dict[str, Value] = {"outcome": outcome, **self._fields, "seconds": round(self.seconds, 3)}
        words = " ".join(f"{name}={_short(value)}" for name, value in fields.items() if name != "outcome")
        # A HiggsError says all in its code, save one that means a defect or a dead device.
        unexpected = error is not None and (not isinstance(error, HiggsError) or isinstance(error, EngineStoppedError))
        logger.log(
            level,
            "job %s: %s",
            outcome,
            words,
            extra={"job_id": self.job_id, "fields": fields},
            exc_info=error if unexpected else None,
        )


def _plain_field(field: str | None) -> str | None:
    """The field's name, unless a client's own words stand in it."""
    return field if field is not None and _FIELD.fullmatch(field) else None


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
