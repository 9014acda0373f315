"""How many jobs are in flight: growth, refusals, and what they ask for."""

from __future__ import annotations

import asyncio

import pytest

from serverless.client.batch.pace import FIRST_LIMIT, MOST, Pace


async def fill(pace: Pace) -> list[int]:
    return [await pace.acquire() for _ in range(pace.limit - pace.in_flight)]


async def grown(pace: Pace, to: int) -> list[int]:
    """Fill it until it allows so many; the epochs of the places."""
    epochs = await fill(pace)
    while pace.limit < to:
        await pace.taken()
        epochs += await fill(pace)
    return epochs


def test_it_grows_by_one_for_every_job_that_is_taken_until_the_most() -> None:
    async def run() -> None:
        pace = Pace()
        assert pace.limit == FIRST_LIMIT
        await grown(pace, MOST)
        await pace.taken()
        assert pace.limit == MOST

    asyncio.run(run())


def test_it_does_not_grow_while_places_are_free() -> None:
    async def run() -> None:
        pace = Pace()
        await pace.acquire()
        await pace.taken()
        assert pace.limit == FIRST_LIMIT

    asyncio.run(run())


def test_refusals_of_one_moment_halve_it_once_and_it_grows_slowly_after() -> None:
    async def run() -> None:
        pace = Pace()
        epochs = await grown(pace, 16)
        for epoch in epochs[-3:]:
            await pace.refused(epoch, 0.0)
        assert pace.limit == 8
        for _ in range(8):
            await pace.release()
        for _ in range(7):
            await pace.taken()
        assert pace.limit == 8
        await pace.taken()
        assert pace.limit == 9

    asyncio.run(run())


def test_it_never_goes_below_one_and_a_fixed_number_stays() -> None:
    async def run() -> None:
        pace, fixed = Pace(), Pace(5)
        for _ in range(5):
            for one in (pace, fixed):
                await one.refused(await one.acquire(), 0.0)
                await one.release()
        assert (pace.limit, fixed.limit) == (1, 5)
        await grown(fixed, 5)
        await fixed.taken()
        assert fixed.limit == 5

    asyncio.run(run())


def test_nobody_gets_a_place_before_the_server_wants_to_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        now = [100.0]
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
        pace = Pace()
        await pace.refused(await pace.acquire(), 30.0)
        await pace.release()
        waiting = asyncio.ensure_future(pace.acquire())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        now[0] = 131.0
        await waiting

    asyncio.run(run())
