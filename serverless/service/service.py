"""From a job to its response: the one path behind the queue worker, the HTTP server and local runs.

parse -> fetch references -> generate -> encode -> deliver. Blocking steps run in threads. A caller that goes away (its
task is cancelled) cancels the generation. What comes back is typed; the entry point that asked serialises it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from higgs_core.engine_config import AUTO, USUAL_SLOTS
from higgs_core.errors import BusyError, GenerationCancelled, HiggsError
from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.progress import OnProgress
from serverless.config.types import MAX_CONCURRENCY
from serverless.delivery.deliver import Delivery
from serverless.delivery.response import SpeechResponse, StreamEvent
from serverless.payload.parse import parse_job
from serverless.references.resolve import ClipResolver
from serverless.service.boot import boot_engine
from serverless.service.byte_budget import ByteBudget
from serverless.service.engine_host import EngineHost, public_name
from serverless.service.job import Resources, SpeechJob
from serverless.service.job_record import JobRecord
from serverless.service.on_device import on_device
from serverless.service.shared_lock import SharedLock
from serverless.service.unread_events import UnreadEvents
from serverless.voices.library import LivingLibrary

if TYPE_CHECKING:
    from higgs_core.built_in import BuiltIn
    from higgs_core.engine import HiggsAudioEngine
    from serverless.config.settings import Settings
    from serverless.payload.parse import ParsedJob

T = TypeVar("T")

JobObserver = Callable[[SpeechResponse | str], None]
"""Told how each job ended: its response, or the code of its error ("cancelled" among them)."""


class InternalError(HiggsError):
    """A defect of the worker. What went wrong is in its log alone."""

    def __init__(self) -> None:
        super().__init__(
            "The worker failed on this request for a reason of its own.",
            hint="Try again; the worker's log has the details under this job's id.",
        )


class SpeechService:
    """One model and everything between a job and its response. Its coroutines belong to one event loop.

    `load` first; until it has succeeded, every job is answered with the sentence that says why it cannot be done.
    """

    def __init__(self, settings: Settings, *, boot: Callable[[Settings], HiggsAudioEngine] = boot_engine) -> None:
        self.settings = settings
        self.voices = LivingLibrary(settings)
        """The voices that requests may name, and what manages them."""
        self._host = EngineHost(settings, self.voices, boot)
        self.clips = ClipResolver(settings)
        """Clips of requests, and those that are uploaded to become voices."""
        self._device_lock = SharedLock()
        self._observers: list[JobObserver] = []
        self._in_flight = 0
        self.unread = ByteBudget(settings.max_unread_bytes)
        """Audio that was generated and that its readers have not taken yet."""
        # A request blocks one thread at a time, so every request that is let in has one. Threads start when they are
        # needed; how many that may be is known once the engine is loaded.
        self._threads = ThreadPoolExecutor(MAX_CONCURRENCY + settings.max_queued_requests, thread_name_prefix="speech")
        self._delivery = Delivery(settings, self._threads)

    # -- Life ---------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load and warm up the engine. Blocking. A failure is logged with its remedy, remembered and not raised."""
        self._host.load()

    def close(self) -> bool:
        """Stop the engine; whatever still runs ends with an error.

        Returns False when a thread of the engine's hangs and is left behind: the process is to end without waiting.
        """
        ended = self._host.close()
        self.clips.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        return ended

    def observe_jobs(self, observer: JobObserver) -> None:
        """Call `observer` at the end of every job, in the event loop."""
        self._observers.append(observer)

    def observe_ready(self, observer: Callable[[], None]) -> None:
        """Call `observer` once the model is loaded, in the thread that loads it."""
        self._host.observe_ready(observer)

    def observe_failure(self, observer: Callable[[], None]) -> None:
        """Call `observer` when the engine fails for good, from any thread: no job may be there to hear of it."""
        self._host.observe_failure(observer)

    @property
    def engine(self) -> HiggsAudioEngine | None:
        """The engine, once it is loaded."""
        return self._host.engine

    @property
    def loading(self) -> bool:
        return self._host.loading

    @property
    def ready(self) -> bool:
        return self._host.ready

    @property
    def load_error(self) -> str | None:
        """The sentence that says why there is no engine, once loading has failed."""
        return self._host.load_error

    @property
    def must_recycle(self) -> bool:
        """Whether only a new process helps: the engine's thread has ended or its device has failed."""
        return self._host.must_recycle

    @property
    def why_stopped(self) -> str | None:
        """The sentence that says why the process has to be replaced; None while it does not have to be."""
        return self._host.why_stopped

    @property
    def model_name(self) -> str:
        """The model as clients may know it."""
        return public_name(self.settings.model_id)

    @property
    def built_in(self) -> BuiltIn | None:
        """Which built-in checkpoint it has loaded, if it is one."""
        return self.engine.built_in if self.engine is not None else None

    @property
    def max_concurrency(self) -> int:
        """Requests that are decoded together: the engine's slots; until it is loaded, what was asked for, or the usual
        number."""
        if self.engine is not None:
            return self.engine.max_batch_size
        wanted = self.settings.max_concurrency
        return USUAL_SLOTS if wanted == AUTO else wanted

    @property
    def capacity(self) -> int:
        """Requests that may be in flight, those that wait for a slot among them."""
        return self.max_concurrency + self.settings.max_queued_requests

    @property
    def in_flight(self) -> int:
        """Requests anywhere between parsing and delivery."""
        return self._in_flight

    @property
    def full(self) -> bool:
        """Whether a job that came now would be refused."""
        return self._in_flight >= self.capacity

    def stats(self) -> dict[str, Any]:
        """The engine's counters, and `in_flight`."""
        return {"in_flight": self._in_flight, **(self.engine.stats() if self.engine is not None else {})}

    async def on_device(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, which is no job's but uses the device, such as making a voice that people add. Where the
        device has too little memory it is called again while no job is inside. Raises what it raises."""
        return await on_device(self._device_lock, work)

    # -- Jobs ---------------------------------------------------------------------------------------------------------

    async def run(
        self,
        job_input: Any,
        *,
        job_id: str,
        s3_config: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
    ) -> SpeechResponse:
        """The response to one job, its audio inline or uploaded. on_progress is called from the event loop.

        Raises HiggsError; `must_recycle` says then whether the process has to be replaced.
        """
        with self._record(job_id) as record:
            job = await self._accept(job_input, record, s3_config, on_progress)
            record.response = await job.run()
            return record.response

    async def stream(
        self,
        job_input: Any,
        *,
        job_id: str,
        s3_config: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        upload_above: int | None = None,
        context: PieceContext | None = None,
        live: bool = True,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Accepted, then the parts of the file while it is generated, then the response.

        A request without `stream: true` gives no parts and `run`'s response. Close the iterator
        (`contextlib.aclosing`) to stop early. Raises as `run` does, and SlowReaderError.

        The job runs in a task of its own and ends when its audio is generated, however slowly its events are read.

        upload_above: bytes of audio from which the file is uploaded as well, as if delivery were s3, if there is a
        bucket; for callers that cannot return more.
        context: what earlier jobs spoke and this one continues, see SpeechSession.
        live: False for a caller who plays nothing before the last part: the speech is then that of `run`.
        """
        unread = UnreadEvents(self.unread, on_overflow=lambda: task.cancel())
        task = asyncio.create_task(
            self._stream_to(unread, job_input, job_id, s3_config, on_progress, upload_above, context, live)
        )
        try:
            while (event := await unread.next()) is not None:
                yield event
        finally:
            unread.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _stream_to(
        self,
        unread: UnreadEvents,
        job_input: Any,
        job_id: str,
        s3_config: Mapping[str, Any] | None,
        on_progress: OnProgress | None,
        upload_above: int | None,
        context: PieceContext | None,
        live: bool,
    ) -> None:
        """Run the job; its events, and the error that ends it, go to `unread`."""
        error: HiggsError | None = GenerationCancelled("The job was cancelled.")
        try:
            with self._record(job_id) as record:
                job = await self._accept(job_input, record, s3_config, on_progress, context, live)
                unread.put(job.accepted)
                if job.accepted.streams:
                    async with aclosing(job.stream(upload_above=upload_above)) as events:
                        async for event in events:
                            if isinstance(event, SpeechResponse):
                                record.response = event
                            else:
                                unread.put(event)
                else:
                    record.response = await job.run()
            assert record.response is not None  # otherwise something was raised
            unread.put(record.response)
            error = None
        except HiggsError as failure:
            error = failure
        finally:
            unread.end(error)

    @contextmanager
    def _record(self, job_id: str) -> Iterator[JobRecord]:
        """Count the job in, write its line to the log, tell the observers, turn a defect into an InternalError."""
        outcome: SpeechResponse | str = "cancelled"
        try:
            with JobRecord(job_id) as record:
                if self.full:
                    raise BusyError(
                        f"The worker has {self._in_flight} requests already.", hint="Try again in a few seconds."
                    )
                self._in_flight += 1
                try:
                    yield record
                finally:
                    self._in_flight -= 1
                    outcome = record.response or outcome
        except HiggsError as error:
            self._host.device_failed |= error.recycle_worker
            outcome = error.code
            raise
        except Exception:
            outcome = InternalError.code
            raise InternalError from None
        finally:
            for observer in self._observers:
                observer(outcome)

    async def _accept(
        self,
        job_input: Any,
        record: JobRecord,
        s3_config: Mapping[str, Any] | None,
        on_progress: OnProgress | None,
        context: PieceContext | None = None,
        live: bool = True,
    ) -> SpeechJob:
        engine = self._host.for_jobs()
        parsed = await self.parse(job_input)
        record.note(
            characters=len(parsed.script_echo or ""),
            references=len(parsed.request.reference_sources),
            format=parsed.output.response_format,
        )
        shared = Resources(
            engine,
            self.settings,
            self.model_name,
            self._delivery,
            self.voices,
            self.clips,
            self._threads,
            self._device_lock,
        )
        return SpeechJob(
            parsed, shared, record, s3_config=s3_config, on_progress=on_progress, context=context, live=live
        )

    async def parse(self, job_input: Any) -> ParsedJob:
        """The job as it would be run. Raises RequestError for what is wrong in it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._parse, job_input)

    def _parse(self, job_input: Any) -> ParsedJob:
        """In a thread, for a large input takes its time."""
        return parse_job(job_input, self.settings, voices=self.voices.snapshot())
