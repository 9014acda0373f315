"""One line in the log for every job: ids, lengths, durations and codes; never words, audio, addresses or keys."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import TYPE_CHECKING

from higgs_core.errors import EngineStoppedError, HiggsError, RequestError
from serverless.payload.field_names import loggable

if TYPE_CHECKING:
    from serverless.delivery.response import SpeechResponse

logger = logging.getLogger("serverless.jobs")

Value = str | int | float | bool | None


class JobRecord:
    """One job's line in the making, and its response. A `with` block around the job writes the line.

    `note` adds fields. An exception passes through untouched, after the line has been written: as a warning where the
    client is at fault, as an error where the worker is.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.response: SpeechResponse | None = None
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
            self.note(code=error.code, field=loggable(error.field))
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


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
