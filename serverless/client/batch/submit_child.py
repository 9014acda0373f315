"""The process that submits a batch's jobs and writes down their ids: python -m serverless.client.batch.submit_child

It outlives the batch: where that is killed between a submission and the platform's answer, this process still reads
the answer and puts the id into the journal, so that the next run follows the job instead of submitting it again. It
reads orders, {"key", "body"}, a line each, from its standard input, ends when that has ended and all are answered, and
tells each outcome on its standard output, under the event that the journal has for it. The API key is in the
environment, under the name of the third argument.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from serverless.client.batch.journal import Journal
from serverless.client.errors import ClientError, PassingError, StoppingError
from serverless.client.link import Answer, Link
from serverless.client.transports import job_id_of

READY = "ready"
SENDING = "sending"
_GATEWAYS = (502, 504)  # that say nothing of what is behind them
_ROOM_BYTES = 256
"""Of a sent record without its target: room for an id twice as long as the platform's."""


def main(arguments: list[str]) -> int:
    """arguments: the endpoint's address, the journal, the name of the key's variable, the lock."""
    base_url, journal_path, variable, lock = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the batch decides when to end
    with FileLock(lock):
        _tell({"event": READY})
        asyncio.run(_serve(base_url, Journal(Path(journal_path)), os.environ.get(variable)))
    return 0


async def _serve(base_url: str, journal: Journal, key: str | None) -> None:
    async with asyncio.TaskGroup() as tasks:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            if line.endswith(b"\n"):  # else the batch was killed while it wrote
                tasks.create_task(_submit(base_url, journal, key, json.loads(line)))


async def _submit(base_url: str, journal: Journal, key: str | None, order: dict[str, Any]) -> None:
    """Submit one job, write down what became of it, and tell it."""
    name = order["key"]
    try:
        _tell({"key": name, **await _outcome(base_url, journal, key, order)})
    except StoppingError as error:  # of the journal
        _tell({"event": SENDING, "key": name, **_told(error)})


async def _outcome(base_url: str, journal: Journal, key: str | None, order: dict[str, Any]) -> dict[str, Any]:
    """A request without an answer leaves its outcome open. Raises StorageError."""
    name = order["key"]
    journal.append(SENDING, name, room=_ROOM_BYTES + len(base_url))
    try:
        answer = await _answer(base_url, key, order["body"])
        if answer.status in _GATEWAYS:
            raise answer.failure
    except ClientError as error:
        if not isinstance(error, PassingError) or error.sent:
            return {"event": SENDING, **_told(error)}
        journal.append("refused", name)
        return {"event": "refused", **_told(error)}
    try:
        job = job_id_of(answer)
    except ClientError as error:
        journal.append("refused", name)
        return {"event": "refused", **_told(error)}
    journal.append("sent", name, job=job, target=base_url)
    return {"event": "sent", "job": job, "target": base_url}


async def _answer(base_url: str, key: str | None, body: dict[str, Any]) -> Answer:
    """Raises ClientError."""
    async with Link(key) as link:
        return await link.post(f"{base_url}/run", body)


def _told(error: ClientError) -> dict[str, Any]:
    told: dict[str, Any] = {"sentence": str(error), "stopping": isinstance(error, StoppingError)}
    if isinstance(error, PassingError):
        told["passing"] = {"busy": error.busy, "retry_after": error.retry_after, "sent": error.sent}
    return told


def _tell(outcome: dict[str, Any]) -> None:
    """Write a line for the batch, if there still is one."""
    try:
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of the process)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
