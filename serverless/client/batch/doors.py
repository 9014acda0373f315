"""The two ways of a batch's job to its items: RunPod's queue, where a job outlives its client, and the HTTP server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from serverless.client.batch.journal import Journal
from serverless.client.batch.manifest import BatchJob
from serverless.client.batch.submitter import Submitter
from serverless.client.errors import ClientError, JobGoneError, PassingError, PollError, StoppingError
from serverless.client.link import Json, Link
from serverless.client.transports import HttpTransport, QueueTransport

OnTaken = Callable[[], Awaitable[None]]


class Door(Protocol):
    """base_url: the address that results come from."""

    base_url: str

    def items(self, job: BatchJob, on_taken: OnTaken) -> AsyncGenerator[Json, None]:
        """One attempt at a job. on_taken: called once the server has taken it. Raises ClientError."""
        ...


class HttpDoor:
    """POST /generate. The server drops a job whose client is gone, so an attempt that broke off is made anew."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self.base_url = transport.base_url

    async def items(self, job: BatchJob, on_taken: OnTaken) -> AsyncGenerator[Json, None]:
        told = False
        async with Link(self._transport.key) as link, aclosing(self._transport.send_once(link, job.body)) as items:
            async for item in items:
                if not told:
                    told = True
                    await on_taken()
                yield item


class QueueDoor:
    """POST /run and GET /status or /stream. A job that the platform has is followed, not submitted again."""

    def __init__(self, transport: QueueTransport, submitter: Submitter, journal: Journal) -> None:
        self._transport = transport
        # It has every item of a job, also those that another run has read from the stream.
        self._whole = QueueTransport(transport.base_url, transport.key)
        self._submitter = submitter
        self._journal = journal
        self.base_url = transport.base_url

    async def items(self, job: BatchJob, on_taken: OnTaken) -> AsyncGenerator[Json, None]:
        """Raises PollError where the platform cannot be asked, or has handed out a part of a stream before."""
        submitted = self._journal.state.submitted.get(job.key)
        if submitted is None:
            job_id = await self._submitter.submit(job.key, self._transport.body(job.body))
            await on_taken()
        else:
            job_id = str(submitted["job"])
        transport = self._transport if submitted is None else self._whole
        told = submitted is None
        try:
            async with Link(transport.key) as link, aclosing(transport.follow(link, job_id)) as items:
                async for item in items:
                    if not told:
                        told = True
                        await on_taken()
                    yield item
        except (PollError, StoppingError):
            raise  # the job goes on, and is asked about again
        except JobGoneError:
            self._journal.append("ended", job.key)
            raise PassingError("The platform no longer has the job or its result.") from None
        except ClientError:
            self._journal.append("ended", job.key)
            raise
