"""What a batch shows while it runs: a bar at a terminal, else a line for each job. All of it goes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from serverless.client.batch.manifest import BatchJob
from serverless.client.errors import printable, say
from serverless.client.items import number

_BAR_FORMAT = "{n_fmt}/{total_fmt} |{bar:30}| {elapsed}, {remaining} left{postfix}"


class Progress:
    """Use as a context manager. total: jobs; already: how many of them earlier runs have done."""

    def __init__(self, total: int, already: int) -> None:
        self._total = total
        self._ended = already
        self._failed = 0
        self._seconds = 0.0
        self.in_flight: Callable[[], int] = lambda: 0
        self._bar = tqdm(
            total=total, initial=already, unit="job", file=sys.stderr, disable=None, bar_format=_BAR_FORMAT
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def done(self, job: BatchJob, facts: Mapping[str, Any]) -> None:
        seconds = number(facts.get("duration_seconds"))
        self._seconds += seconds or 0.0
        self._end(None, f"{job.file}: {seconds:.2f} s of audio" if seconds is not None else job.file)

    def failed(self, job: BatchJob, sentence: str) -> None:
        self._failed += 1
        line = f"{job.file} ({job.where}) FAILED: {sentence}"
        self._end(line, line)

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self._bar.disable:
            say(sys.stderr, printable(line))
            sys.stderr.flush()
        else:
            tqdm.write(printable(line), file=sys.stderr)

    def _end(self, above_the_bar: str | None, without_bar: str) -> None:
        self._ended += 1
        if self._bar.disable:
            self.say(f"{self._ended}/{self._total} {without_bar}")
            return
        if above_the_bar is not None:
            self.say(above_the_bar)
        failed = f", {self._failed} failed" if self._failed else ""
        self._bar.set_postfix_str(
            f"{self._seconds:.0f} s of audio, {self.in_flight()} in flight{failed}", refresh=False
        )
        self._bar.update()
