"""A reader of a stream that is slower than the model, or does not read at all."""

from __future__ import annotations

import asyncio

import pytest

from higgs_core import HiggsAudioEngine
from serverless.delivery.response import Accepted, AudioPart, SpeechResponse
from serverless.service.unread_events import SlowReaderError
from tests.helpers.patience import wait_until_async
from tests.helpers.service import serving

JOB = {"script": "A sentence for a slow reader.", "max_new_tokens": 100, "stream": True, "response_format": "pcm"}


def test_a_job_ends_when_its_audio_is_generated_however_slowly_it_is_read(tiny_engine: HiggsAudioEngine) -> None:
    async def main() -> None:
        with serving(tiny_engine) as service:
            ended: list[object] = []
            service.observe_jobs(ended.append)
            events = service.stream(JOB, job_id="slow")
            assert isinstance(await anext(events), Accepted)
            await wait_until_async(lambda: bool(ended))
            assert service.in_flight == 0
            assert isinstance(ended[0], SpeechResponse)
            rest = [event async for event in events]
            *parts, last = rest
            assert isinstance(last, SpeechResponse)
            sent = sum(len(part.data) for part in parts if isinstance(part, AudioPart))
            assert sent == 2 * len(last.speech.audio) > 0
            assert service.unread.total == 0

    asyncio.run(main())


def test_a_reader_that_leaves_too_much_unread_loses_it_and_its_job(tiny_engine: HiggsAudioEngine) -> None:
    async def main() -> None:
        with serving(tiny_engine, max_unread_bytes=1000) as service:
            ended: list[object] = []
            service.observe_jobs(ended.append)
            events = service.stream({**JOB, "max_new_tokens": 8000, "script": "word " * 2000}, job_id="never")
            assert isinstance(await anext(events), Accepted)
            await wait_until_async(lambda: bool(ended))
            assert ended == ["cancelled"]
            assert (service.in_flight, service.unread.total) == (0, 0)
            with pytest.raises(SlowReaderError):
                await anext(events)

    asyncio.run(main())


def test_a_reader_that_is_cancelled_ends_its_job(tiny_engine: HiggsAudioEngine) -> None:
    async def main() -> None:
        with serving(tiny_engine) as service:
            events = service.stream({**JOB, "max_new_tokens": 8000, "script": "word " * 2000}, job_id="gone")

            async def read() -> None:
                async for _ in events:
                    pass

            reader = asyncio.create_task(read())
            await wait_until_async(lambda: service.in_flight == 1)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await events.aclose()
            assert (service.in_flight, service.unread.total) == (0, 0)

    asyncio.run(main())
