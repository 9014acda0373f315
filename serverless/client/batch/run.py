"""A batch from its first job to its last: places, attempts, results."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from serverless.client.batch.doors import Door
from serverless.client.batch.folder import BatchFolder, Part
from serverless.client.batch.manifest import BatchJob
from serverless.client.batch.pace import Pace
from serverless.client.batch.progress import Progress
from serverless.client.download import download
from serverless.client.errors import ClientError, PassingError, PollError, StoppingError, printable
from serverless.client.items import address_of, audio_of, number
from serverless.client.link import Json
from serverless.client.terminal import MAX_WARNINGS

BACK_OFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Between two attempts, each with up to half as much more, so that jobs do not come back together."""
BUSY_SECONDS = 2.0
"""Between two attempts at a server that has no room and does not say when to come back."""
BUSY_NOTICE_SECONDS = 10.0
"""After which it is said that a server refuses every job."""
BUSY_PATIENCE_SECONDS = 900.0
"""For which a server may refuse every job."""

_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


@dataclass
class Outcome:
    """What became of the jobs of one run, by key: `done` in this run, `failed` with the sentence that says why.

    stopped_by: what ended the run before its last job.
    """

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    stopped_by: StoppingError | None = None


class BatchRun:
    """retries: attempts after the first one, for what may pass."""

    def __init__(self, door: Door, folder: BatchFolder, pace: Pace, progress: Progress, *, retries: int) -> None:
        self._door = door
        self._folder = folder
        self._pace = pace
        self._progress = progress
        self._retries = retries
        self._stopping = asyncio.Event()
        self._last_taken = 0.0
        self._was_reached = False
        self._busy_said = False
        self.outcome = Outcome()

    @property
    def in_flight(self) -> int:
        return self._pace.in_flight

    def stop(self) -> None:
        """Begin no further attempt. What is in flight goes on to its end."""
        self._stopping.set()

    async def run(self, jobs: Sequence[BatchJob]) -> None:
        """Work on every job until it is done or has failed, or until `stop` or a StoppingError."""
        self._last_taken = asyncio.get_running_loop().time()
        tasks: set[asyncio.Task[None]] = set()
        for job in jobs:
            epoch = await self._place()
            if epoch is None:
                break
            task = asyncio.create_task(self._work(job, epoch))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _place(self) -> int | None:
        """A place, or None once the run is to stop."""
        if self._stopping.is_set():
            return None
        place = asyncio.create_task(self._pace.acquire())
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((place, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not self._stopping.is_set():
            return await place
        place.cancel()
        if not (await asyncio.gather(place, return_exceptions=True) and place.cancelled()):
            await self._pace.release()
        return None

    async def _work(self, job: BatchJob, epoch: int) -> None:
        """Attempts at a job, the first of them in a place that it has."""
        failures, polls = 0, 0
        while True:
            try:
                facts = await self._attempt(job)
                self.outcome.done.add(job.key)
                self._progress.done(job, facts)
                return
            except PollError as error:
                polls += 1
                if polls > self._retries:
                    self._give_up(job, error)  # its id stays in the journal: the next run asks again
                    return
                wait = _back_off(polls)
            except PassingError as error:
                if error.busy:
                    wait = BUSY_SECONDS if error.retry_after is None else error.retry_after
                    await self._pace.refused(epoch, wait)
                    if self._is_refused_for_long(error):
                        return
                else:
                    failures += 1
                    if failures > (1 if error.once and self._retries else self._retries):
                        self._give_up(job, error)
                        return
                    wait = max(_back_off(failures), error.retry_after or 0.0)
            except StoppingError as error:
                self._stop_by(error)
                return
            except ClientError as error:
                self._fail(job, error)
                return
            finally:
                await self._pace.release()
            if not await self._rested(wait) or (again := await self._place()) is None:
                return
            epoch = again

    async def _rested(self, seconds: float) -> bool:
        """Whether the run still goes on after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return True
        return False

    async def _attempt(self, job: BatchJob) -> dict[str, Any]:
        """What the result says besides its audio, which is in the folder then. Raises ClientError."""
        part = self._folder.part()
        try:
            result = await self._receive(job, part)
            facts = _facts(result)
            await asyncio.to_thread(self._folder.keep, part, job, facts)
            return facts
        finally:
            part.discard()

    async def _receive(self, job: BatchJob, part: Part) -> Json:
        """The items of a result joined; its audio goes into the part. Raises ClientError."""
        result: Json = {}
        address = None
        async with aclosing(self._door.items(job, self._taken)) as items:
            async for item in items:
                part.write(audio_of(item))
                address = address_of(item) or address
                result |= {name: value for name, value in item.items() if name != "audio_base64"}
        if not part.size and address:  # a stream's audio may be in a bucket as well
            part.write(await download(address, endpoint=self._door.base_url))
        if not part.size:
            raise ClientError("The endpoint returned no audio.")
        return result

    async def _taken(self) -> None:
        self._was_reached = True
        self._busy_said = False
        self._last_taken = asyncio.get_running_loop().time()
        await self._pace.taken()

    def _is_refused_for_long(self, error: PassingError) -> bool:
        """Whether the endpoint has taken no job for so long that the run ends. Before that it is said once."""
        seconds = asyncio.get_running_loop().time() - self._last_taken
        if seconds > BUSY_PATIENCE_SECONDS:
            self._stop_by(StoppingError(f"The endpoint has taken no job for {seconds / 60:.0f} minutes: {error}"))
            return True
        if seconds > BUSY_NOTICE_SECONDS and not self._busy_said:
            self._busy_said = True
            self._progress.say(f"The endpoint takes no job now, and is asked again and again: {error}")
        return False

    def _give_up(self, job: BatchJob, error: PassingError) -> None:
        """Fail the job. An endpoint that was never reached would fail all of them, each after its attempts."""
        if error.sent or self._was_reached:
            self._fail(job, error)
        else:
            self._stop_by(StoppingError(str(error)))

    def _stop_by(self, error: StoppingError) -> None:
        self.outcome.stopped_by = error
        self.stop()

    def _fail(self, job: BatchJob, error: ClientError) -> None:
        self.outcome.failed[job.key] = str(error)
        self._progress.failed(job, str(error))


def _facts(result: Json) -> dict[str, Any]:
    """What is kept of a result besides its audio, bounded: a server may have sent anything."""
    seed, usage, warnings = result.get("seed"), result.get("usage"), result.get("warnings")
    usage = usage if isinstance(usage, dict) else {}
    facts = {
        "audio_format": printable(result.get("audio_format"))[:20] or None,
        "duration_seconds": number(result.get("duration_seconds")),
        "seed": seed if isinstance(seed, int) and 0 <= seed < 2**63 and not isinstance(seed, bool) else None,
        "finish_reason": printable(result.get("finish_reason"))[:40] or None,
        "usage": {name: int(number(usage.get(name)) or 0) for name in _USAGE if name in usage} or None,
        "warnings": [printable(line) for line in warnings[:MAX_WARNINGS]] if isinstance(warnings, list) else None,
    }
    return {name: value for name, value in facts.items() if value}


def _back_off(attempt: int) -> float:
    return BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS)) - 1] * random.uniform(1.0, 1.5)
