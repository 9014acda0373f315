"""The batch's side of the process that submits its jobs (submit_child.py)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serverless.client.batch import submit_child
from serverless.client.batch.journal import Journal
from serverless.client.errors import ClientError, PassingError, StoppingError

_LINE_BYTES = 1_000_000


class Submitter:
    """Use as an async context manager. The process ends with the block, after the answers that it waits for."""

    def __init__(self, base_url: str, key_variable: str, journal: Journal, journal_path: Path, lock: Path) -> None:
        self._arguments = (base_url, str(journal_path), key_variable, str(lock))
        self._journal = journal
        self._waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self.sent_again = 0
        """Jobs that were submitted although nobody knows what became of their last submission."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", submit_child.__name__, *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES,
            start_new_session=True,  # what ends the terminal's processes leaves it alone
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._outcomes = self._process.stdin, self._process.stdout
        if not await self._outcomes.readline():
            raise _gone()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._orders.close()
        await self._reader
        await self._process.wait()

    async def submit(self, key: str, body: Mapping[str, Any]) -> str:
        """The id that the platform gives the job. Raises ClientError."""
        if self._reader.done():
            raise _gone()
        outcome: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = outcome
        self.sent_again += key in self._journal.state.doubtful
        try:
            self._orders.write(json.dumps({"key": key, "body": body}).encode() + b"\n")
            await self._orders.drain()
        except (OSError, RuntimeError):
            raise _gone() from None
        told = await outcome
        if told["event"] == "sent":
            return str(told["job"])
        if told.get("passing"):
            raise PassingError(told["sentence"], **told["passing"])
        raise (StoppingError if told["stopping"] else ClientError)(told["sentence"])

    async def _read(self) -> None:
        while line := await self._outcomes.readline():
            told = json.loads(line)
            self._journal.heard({name: told[name] for name in ("event", "key", "job", "target") if name in told})
            if (outcome := self._waiting.pop(told["key"], None)) is not None and not outcome.done():
                outcome.set_result(told)
        for outcome in self._waiting.values():
            with suppress(asyncio.InvalidStateError):
                outcome.set_exception(_gone())


def _gone() -> StoppingError:
    return StoppingError("The process that submits the jobs has ended; run the same command again.")
