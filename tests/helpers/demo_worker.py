"""The queue's worker with the demo voice, whose jobs go through the handlers that the SDK calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from higgs_core import HiggsAudioEngine
from higgs_core.speech.progress import Progress
from serverless.config.settings import Settings
from serverless.queue.handler import QueueWorker
from serverless.service.boot import boot_engine
from serverless.service.service import SpeechService

Output = dict[str, Any]


class _Unheard:
    """A reporter whose progress nobody hears."""

    def __init__(self, job: Output) -> None:
        self.job = job

    def __call__(self, progress: Progress) -> None:
        pass

    async def settle(self) -> None:
        pass


class DemoWorker:
    """Answers jobs, each a dict of the fields of `input`. engine: the one that speaks them."""

    def __init__(self, service: SpeechService, engine: HiggsAudioEngine) -> None:
        self.engine = engine
        self._queue = QueueWorker(service, reporter=_Unheard)

    def speak(self, **job_input: Any) -> Output:
        """The response to one job, alone."""
        return self.speak_together([job_input])[0]

    def speak_together(self, job_inputs: Sequence[Output]) -> list[Output]:
        """The responses to jobs that all come at once."""

        async def together() -> list[Output]:
            jobs = ({"id": f"job-{i}", "input": job_input} for i, job_input in enumerate(job_inputs))
            return await asyncio.gather(*map(self._queue.run, jobs))

        answers = asyncio.run(together())
        assert not [answer["error"] for answer in answers if "error" in answer]
        return answers

    def stream(self, **job_input: Any) -> list[Output]:
        """The items of a streamed job."""

        async def items() -> list[Output]:
            job = {"id": "stream", "input": {**job_input, "stream": True}}
            return [dict(item) async for item in self._queue.stream(job)]

        return asyncio.run(items())


@contextmanager
def demo_worker(model_id: str = "demo") -> Iterator[DemoWorker]:
    """A worker with eight slots on the CPU."""
    booted: list[HiggsAudioEngine] = []

    def boot(settings: Settings) -> HiggsAudioEngine:
        booted.append(boot_engine(settings))
        return booted[0]

    service = SpeechService(Settings(model_id=model_id, device="cpu", max_concurrency=8), boot=boot)
    service.load()
    try:
        assert service.ready, service.load_error
        yield DemoWorker(service, booted[0])
    finally:
        service.close()
