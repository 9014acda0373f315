"""The process that submits a batch's jobs and writes down their ids: python -m serverless.client.batch.submit_child

It outlives the batch: where that is killed between a submission and the platform's answer, this process still reads
the answer and puts the id into the journal, so that the next run follows the job instead of submitting it again. It
reads orders, {"key", "body"}, a line each, from its standard input, ends when that has ended and all are answered, and
tells each outcome on its standard output. The API key is in the environment, under the name of the third argument.
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
from serverless.client.errors import ClientError, PassingError
from serverless.client.link import Link
from serverless.client.transports import job_id_of

READY = "ready"


def main(arguments: list[str]) -> int:
    """arguments: the endpoint's address, the journal, the name of the key's variable, the lock."""
    base_url, journal_path, variable, lock = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the batch decides when to end
    with FileLock(lock):
        _tell({"event": READY})
        asyncio.run(_serve(base_url, Journal(Path(journal_path), repair=False), os.environ.get(variable)))
    return 0


async def _serve(base_url: str, journal: Journal, key: str | None) -> None:
    async with asyncio.TaskGroup() as tasks:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            if line.endswith(b"\n"):  # else the batch was killed while it wrote
                tasks.create_task(_submit(base_url, journal, key, json.loads(line)))


async def _submit(base_url: str, journal: Journal, key: str | None, order: dict[str, Any]) -> None:
    """Submit one job and write down what became of it. A request without an answer leaves its outcome open."""
    name = order["key"]
    try:
        journal.append("sending", name)
        async with Link(key) as link:
            answer = await link.post(f"{base_url}/run", order["body"])
        try:
            job = job_id_of(answer)
        except ClientError as error:
            journal.append("refused", name)
            _tell({"event": "refused", "key": name, **_told(error)})
            return
        journal.append("sent", name, job=job, target=base_url)
        _tell({"event": "sent", "key": name, "job": job, "target": base_url})
    except ClientError as error:
        _tell({"event": "unanswered", "key": name, **_told(error)})


def _told(error: ClientError) -> dict[str, Any]:
    if not isinstance(error, PassingError):
        return {"sentence": str(error), "passing": False}
    return {"sentence": str(error), "passing": True, "busy": error.busy, "retry_after": error.retry_after}


def _tell(outcome: dict[str, Any]) -> None:
    """Write a line for the batch, if there still is one."""
    try:
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of the process)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
