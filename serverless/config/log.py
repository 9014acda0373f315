"""The form of the log: RunPod's JSON on the platform and plain lines elsewhere.

An exception is logged as its type and the places it passed through, without its message, because messages quote the
values that they are about: words, audio and addresses must not get into a log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serverless.config.settings import Settings

logger = logging.getLogger(__name__)

# Libraries that put addresses with their query strings into lines of these levels.
_QUIETED = {
    "aiohttp": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "urllib3": logging.ERROR,
    "botocore": logging.WARNING,
    "boto3": logging.WARNING,
    "s3transfer": logging.WARNING,
    "uvicorn.access": logging.WARNING,
}
_PLATFORM_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}


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


def log_lost_exceptions() -> None:
    """Log what nobody catches: by default Python prints such an exception with its message."""
    sys.excepthook = lambda kind, error, trace: logger.critical("the process ends", exc_info=error)
    threading.excepthook = lambda lost: logger.error("a thread has ended", exc_info=lost.exc_value)
    sys.unraisablehook = lambda lost: logger.error("an exception had nowhere to go", exc_info=lost.exc_value)


class PlainFormatter(logging.Formatter):
    """`09:15:02 INFO    job finished: duration_seconds=3.2 ... [job-1]`"""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:7} {_message(record)}"
        job_id = getattr(record, "job_id", None)
        return "\n".join([line if job_id is None else f"{line} [{job_id}]", *_trace(record)])


class PlatformFormatter(logging.Formatter):
    """One JSON object a line: `requestId`, `message` and `level` as RunPod's console reads them, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "requestId": getattr(record, "job_id", None),
            "message": "\n".join([_message(record), *_trace(record)]),
            "level": _PLATFORM_LEVELS.get(record.levelname, record.levelname),
        }
        fields: Mapping[str, object] | None = getattr(record, "fields", None)
        if fields:
            line["fields"] = dict(fields)
        return json.dumps(line, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    """The line's words. Of asyncio's only the first line: in the others it prints tasks with their exceptions."""
    message = record.getMessage()
    return message.partition("\n")[0] if record.name == "asyncio" else message


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
