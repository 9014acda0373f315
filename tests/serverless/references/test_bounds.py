"""What the clips of many requests may take together: memory, places, time, seconds of audio."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from higgs_core.audio import encode_audio
from higgs_core.errors import BusyError, ReferenceAudioError
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.references import clip_decoder, downloads
from serverless.references.resolve import ClipResolver
from tests.helpers.loopback import LOOPBACK, Connection, Server
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE, wait_until, wait_until_async

DATA = CLIP.read_bytes()
ADTS = base64.b64encode(b"\xff\xf1\x50\x80" + bytes(500)).decode()


def urls(server: Server, count: int, start: int = 0) -> list[ReferenceSource]:
    return [ReferenceSource(f"references[{at}]", url=f"{server.url}/{start}/{at}") for at in range(count)]


async def resolved(resolver: ClipResolver, sources: list[ReferenceSource], seconds: float = PATIENCE) -> int:
    async with resolver.resolved(sources, timeout_seconds=seconds) as clips:
        return len(clips.audio)


@pytest.fixture
def hanging_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an entry for each ffmpeg that was started and hangs; the entry is its process."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    (tmp_path / "started").mkdir()
    program.write_text(f"#!/bin/sh\n/bin/mkdir {tmp_path}/started/$$\nexec /bin/sleep 6000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    yield tmp_path / "started"
    wait_until(lambda: running(tmp_path / "started") == 0)


def running(started: Path) -> int:
    """How many of the processes that the folder names still run."""
    return sum(Path("/proc", process.name).exists() for process in started.iterdir())


def _silence(connection: Connection) -> None:
    while connection.sock.recv(1):
        pass
    raise OSError


def test_a_request_fetches_a_few_urls_at_a_time_and_gets_them_all() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def script(connection: Connection) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1
        connection.answer(DATA)

    with Server(script) as server:
        assert asyncio.run(resolved(ClipResolver(Settings(), LOOPBACK), urls(server, 16))) == 16
    assert most[0] <= downloads.AT_ONCE


def test_bodies_and_clips_of_all_requests_stay_within_the_budget_and_all_arrive() -> None:
    """10 requests with 4 files of 1 MB each, within 12 MB: the limit and what a single request may exceed it by."""
    body = encode_audio(np.sin(np.arange(24_000 * 20) / 9).astype(np.float32) / 5, "wav") + bytes(60_000)
    settings = Settings(max_clip_memory_bytes=12_000_000, max_reference_seconds=20, max_references=4)
    one_request = 4 * len(body) + 5 * 20 * 24_000 * 4
    most = [0]

    async def watch(resolver: ClipResolver) -> None:
        while True:
            most[0] = max(most[0], resolver.held_bytes)
            await asyncio.sleep(0)

    async def main(server: Server) -> None:
        resolver = ClipResolver(settings, LOOPBACK)
        watching = asyncio.create_task(watch(resolver))
        requests = [resolved(resolver, urls(server, 4, start)) for start in range(10)]
        assert await asyncio.gather(*requests) == [4] * 10
        watching.cancel()
        assert resolver.held_bytes == 0
        resolver.close()

    with Server(lambda connection: connection.answer(body)) as server:
        asyncio.run(main(server))
    assert 0 < most[0] <= settings.max_clip_memory_bytes + one_request


@pytest.mark.parametrize("fails", ["refused", "too large", "not audio", "broken off"])
def test_a_request_that_fails_gives_its_memory_back(fails: str) -> None:
    def script(connection: Connection) -> None:
        if fails == "refused":
            connection.answer(b"", "404 No")
        elif fails == "too large":
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(200_000))
        elif fails == "not audio":
            connection.answer(b"<html>")
        else:
            connection.answer(bytes(90_000), Content_Length="95000")

    async def main(server: Server) -> None:
        resolver = ClipResolver(Settings(max_reference_bytes=100_000), LOOPBACK)
        with pytest.raises(ReferenceAudioError):
            await resolved(resolver, urls(server, 6))
        assert resolver.held_bytes == 0

    with Server(script) as server:
        asyncio.run(main(server))


def test_a_request_that_finds_no_room_until_its_deadline_is_told_to_come_again() -> None:
    async def main(server: Server) -> None:
        settings = Settings(max_clip_memory_bytes=1_000_000, download_timeout=0.2)
        resolver = ClipResolver(settings, LOOPBACK)
        clip = [ReferenceSource("references[0]", base64=base64.b64encode(DATA).decode())]
        async with resolver.resolved(clip, timeout_seconds=PATIENCE):
            holder = asyncio.create_task(_hold(resolver))
            await wait_until_async(lambda: resolver.held_bytes > 200_000)
            for sources in (urls(server, 1), clip):
                with pytest.raises(BusyError, match="busy with the clips of other requests"):
                    await resolved(resolver, sources, 0.2)
            holder.cancel()
            await asyncio.gather(holder, return_exceptions=True)

    async def _hold(resolver: ClipResolver) -> None:
        with resolver._memory.share() as share:  # as a request that holds much
            await share.take(700_000)
            await asyncio.Event().wait()

    with Server(lambda connection: connection.answer(bytes(900_000))) as server:
        asyncio.run(main(server))


def test_cancelled_requests_hold_nothing_and_the_next_one_is_served_at_once() -> None:
    def script(connection: Connection) -> None:
        if connection.path.startswith("/clip"):
            connection.answer(DATA)
        else:
            _silence(connection)

    async def main(server: Server) -> None:
        resolver = ClipResolver(Settings(), LOOPBACK)
        abandoned = [asyncio.create_task(resolved(resolver, urls(server, 16, start))) for start in range(20)]
        await wait_until_async(lambda: len(server.seen) == 20 * downloads.AT_ONCE)
        for task in abandoned:
            task.cancel()
        ends = await asyncio.gather(*abandoned, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        assert resolver.held_bytes == 0
        assert await resolved(resolver, [ReferenceSource("references[0]", url=f"{server.url}/clip")]) == 1

    with Server(script) as server:
        asyncio.run(main(server))


def test_a_clip_whose_decoder_hangs_is_given_up_with_its_child_when_the_request_is(hanging_ffmpeg: Path) -> None:
    async def main() -> None:
        resolver = ClipResolver(Settings())
        clip = [ReferenceSource("references[0]", base64=ADTS)]
        for _ in range(3):
            abandoned = [asyncio.create_task(resolved(resolver, clip)) for _ in range(12)]
            await wait_until_async(lambda: running(hanging_ffmpeg) == clip_decoder.AT_ONCE)
            for task in abandoned:
                task.cancel()
            await asyncio.gather(*abandoned, return_exceptions=True)
            assert all(task.cancelled() for task in abandoned)
        assert resolver.held_bytes == 0
        wav = ReferenceSource("references[0]", base64=base64.b64encode(DATA).decode())
        assert await resolved(resolver, [wav]) == 1
        await wait_until_async(lambda: running(hanging_ffmpeg) == 0)

    asyncio.run(main())


def test_waiting_for_a_place_and_decoding_end_at_the_deadline(hanging_ffmpeg: Path) -> None:
    async def main() -> None:
        resolver = ClipResolver(Settings(download_timeout=0.3))
        clip = [ReferenceSource("references[0]", base64=ADTS)]
        with pytest.raises(ReferenceAudioError, match=r"^references\[0\] takes too long to decode\.$"):
            await resolved(resolver, clip, 0.3)
        busy = [asyncio.create_task(resolved(resolver, clip)) for _ in range(clip_decoder.AT_ONCE)]
        await wait_until_async(lambda: running(hanging_ffmpeg) == clip_decoder.AT_ONCE)
        with pytest.raises(BusyError, match="busy with the clips of other requests"):
            await resolved(resolver, clip, 0.3)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        assert resolver.held_bytes == 0
        await wait_until_async(lambda: running(hanging_ffmpeg) == 0)

    asyncio.run(main())


def test_a_request_with_many_clips_lets_another_request_in_between() -> None:
    """Clips of a request are decoded one after the other, so it takes one place at a time."""
    begun: list[str] = []

    async def main() -> None:
        decoder = clip_decoder.ClipDecoder()
        release = threading.Event()
        deadline = time.monotonic() + PATIENCE
        busy = [asyncio.create_task(decoder.run(lambda _: release.wait(PATIENCE), deadline)) for _ in range(4)]

        async def one_after_the_other(name: str, count: int) -> None:
            for _ in range(count):
                await decoder.run(lambda _: begun.append(name), deadline)

        many = asyncio.create_task(one_after_the_other("many", 16))
        await asyncio.sleep(0)
        one = asyncio.create_task(one_after_the_other("one", 1))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*busy, many, one)

    asyncio.run(main())
    assert begun.index("one") <= 4


def test_the_clips_of_a_request_together_have_a_limit_of_seconds() -> None:
    settings = Settings(max_total_reference_seconds=9)
    encoded = base64.b64encode(DATA).decode()  # 3.07 s

    async def main(sources: list[ReferenceSource]) -> int:
        return await resolved(ClipResolver(settings), sources)

    clips = [ReferenceSource(f"references[{at}]", base64=encoded) for at in range(4)]
    assert asyncio.run(main(clips[:2])) == 2
    with pytest.raises(ReferenceAudioError) as failure:
        asyncio.run(main(clips))
    assert failure.value.message == (
        "references[2] brings the clips of this request to 9.2 s; allowed is 9 s for all of them together."
    )
    assert failure.value.field == "references[2]"
    codes = np.zeros((8, 25 * 8), np.int16)
    with pytest.raises(ReferenceAudioError, match=r"to 11\.1 s"):
        asyncio.run(main([clips[0], ReferenceSource("voice", codes=codes)]))


def test_without_ffmpeg_only_what_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    resolver = ClipResolver(Settings())
    for fmt in ("wav", "flac", "mp3", "opus"):
        clip = encode_audio(np.sin(np.arange(24_000) / 20).astype(np.float32), fmt)
        source = ReferenceSource("references[0]", base64=base64.b64encode(clip).decode())
        assert asyncio.run(resolved(resolver, [source])) == 1
    with pytest.raises(ReferenceAudioError, match="this worker has no ffmpeg"):
        asyncio.run(resolved(resolver, [ReferenceSource("references[0]", base64=ADTS)]))


def test_a_resolver_that_is_closed_takes_no_more() -> None:
    resolver = ClipResolver(Settings())
    resolver.close()
    source = ReferenceSource("references[0]", base64=base64.b64encode(DATA).decode())
    with suppress(RuntimeError):
        asyncio.run(resolved(resolver, [source]))
        raise AssertionError("it was decoded")
    assert resolver.held_bytes == 0
