"""Jobs that are cancelled while their clips are fetched or decoded: none of them keeps the next one waiting."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from serverless.service.service import SpeechService
from tests.helpers.loopback import Connection, Server
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.service import answer, serving

JOB: dict[str, Any] = {"script": "Hello.", "max_new_tokens": 20}
WITH_CLIP = JOB | {"references": [{"audio_base64": base64.b64encode(CLIP.read_bytes()).decode()}]}
ADTS = b"\xff\xf1\x50\x80" + bytes(500)


def _silence(connection: Connection) -> None:
    while connection.sock.recv(1):
        pass
    raise OSError


async def speaks_after_abandoned_jobs(
    service: SpeechService, job: Callable[[int], dict[str, Any]], *, count: int, under_way: Callable[[], bool]
) -> None:
    jobs = [asyncio.create_task(answer(service, job(at), job_id=f"job-{at}")) for at in range(count)]
    await wait_until_async(under_way)
    for task in jobs:
        task.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    assert all(task.cancelled() for task in jobs)
    assert service.stats()["in_flight"] == 0
    for next_job in (JOB, WITH_CLIP):
        assert "audio_base64" in await answer(service, next_job)


def test_a_server_that_accepts_and_never_answers(
    tiny_engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "1")
    with Server(_silence) as server, serving(tiny_engine) as service:

        def job(number: int) -> dict[str, Any]:
            return JOB | {"references": [{"url": f"{server.url}/{number}/{at}"} for at in range(2)]}

        asyncio.run(speaks_after_abandoned_jobs(service, job, count=72, under_way=lambda: len(server.seen) == 72 * 2))


def test_names_that_are_never_resolved(tiny_engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    release, asked = threading.Event(), list[str]()
    system = socket.getaddrinfo

    def hanging(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".example"):
            asked.append(host)
            release.wait(PATIENCE)
            raise OSError
        return system(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    with serving(tiny_engine) as service:

        def job(number: int) -> dict[str, Any]:
            return JOB | {"references": [{"url": f"http://{number}-{at}.example/"} for at in range(4)]}

        before = threading.active_count()
        try:
            asyncio.run(speaks_after_abandoned_jobs(service, job, count=72, under_way=lambda: len(asked) >= 64))
            assert threading.active_count() - before < 64 + 20  # look-ups, and what the two jobs took
        finally:
            release.set()


def test_more_clips_that_are_never_decoded_than_there_are_threads(
    tiny_engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n/bin/mkdir {tmp_path}/started-$$\nexec /bin/sleep 6000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    clip = base64.b64encode(ADTS).decode()
    job = JOB | {"references": [{"audio_base64": clip}]}
    with serving(tiny_engine, max_queued_requests=400) as service:

        async def main() -> None:
            for round_ in range(1, 3):
                await speaks_after_abandoned_jobs(
                    service,
                    lambda _: job,
                    count=340,
                    under_way=lambda: len(list(tmp_path.glob("started-*"))) >= 4 * round_,  # noqa: B023
                )

        asyncio.run(main())


def test_a_prompt_that_is_too_long_is_refused_before_any_clip_is_encoded(tiny_engine: HiggsAudioEngine) -> None:
    """4096 positions of context; 4 clips of 50 s take 5000."""
    noise = np.random.default_rng(0).standard_normal((4, 50 * 24_000)).astype(np.float32) / 10
    from higgs_core.audio import encode_audio

    clips = [{"audio_base64": base64.b64encode(encode_audio(clip, "flac")).decode()} for clip in noise]
    with serving(tiny_engine) as service:
        before = tiny_engine.stats()["cache_misses"]
        output = asyncio.run(answer(service, JOB | {"references": clips}))
        assert tiny_engine.stats()["cache_misses"] == before
    assert output["code"] == "prompt_too_long"
    assert "the context has 4096" in output["error"]
    assert "(4 with 200.0 s, 25 positions a second)" in output["error"]
