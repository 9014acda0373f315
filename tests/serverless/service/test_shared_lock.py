from __future__ import annotations

import asyncio

import pytest

from serverless.service.shared_lock import SharedLock
from tests.helpers.patience import PATIENCE


def test_many_go_hold_it_shared_and_one_alone() -> None:
    async def story() -> list[str]:
        lock, told = SharedLock(), list[str]()
        leave = asyncio.Event()

        async def visitor(name: str) -> None:
            async with lock.shared():
                told.append(f"{name} in")
                await leave.wait()
                told.append(f"{name} out")

        async def loner() -> None:
            async with lock.exclusive():
                told.append("alone in")
                await others_run()
                told.append("alone out")

        first = [asyncio.create_task(visitor(name)) for name in "ab"]
        await others_run()
        lone = asyncio.create_task(loner())
        await others_run()
        late = asyncio.create_task(visitor("c"))
        await others_run()
        assert told == ["a in", "b in"]  # the late one waits behind the one who wants to be alone
        leave.set()
        await asyncio.gather(*first, lone, late)
        return told

    told = asyncio.run(story())
    assert told[2:4] in (["a out", "b out"], ["b out", "a out"])
    assert told[4:] == ["alone in", "alone out", "c in", "c out"]


@pytest.mark.parametrize("way", ["shared", "exclusive"])
def test_who_fails_or_is_cancelled_leaves_the_way_free(way: str) -> None:
    async def story() -> None:
        lock = SharedLock()
        with pytest.raises(ValueError, match="inside"):
            async with getattr(lock, way)():
                raise ValueError("inside")
        async with lock.shared():
            waiting = asyncio.create_task(_enter(lock))
            await others_run()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with asyncio.timeout(PATIENCE), lock.shared():
                pass
        async with asyncio.timeout(PATIENCE), lock.exclusive():
            pass

    asyncio.run(story())


@pytest.mark.parametrize("way", ["shared", "exclusive"])
def test_who_is_cancelled_while_letting_go_still_wakes_the_others(way: str) -> None:
    """A client that goes and a worker that stops may cancel the same task twice."""

    async def story() -> None:
        lock, leave, entered = SharedLock(), asyncio.Event(), list[int]()

        async def holder() -> None:
            async with getattr(lock, way)():
                await leave.wait()

        async def waiter(number: int, kind: str) -> None:
            async with getattr(lock, kind)():
                entered.append(number)

        holding = asyncio.create_task(holder())
        await others_run()
        kinds = ("exclusive", "shared", "exclusive", "shared")
        waiting = [asyncio.create_task(waiter(number, kind)) for number, kind in enumerate(kinds)]
        await others_run()
        leave.set()
        while not holding.done():
            holding.cancel()
            await asyncio.sleep(0)
        waiting[1].cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*waiting, return_exceptions=True)
        assert {0, 2, 3} <= set(entered)

    asyncio.run(story())


async def others_run() -> None:
    """Until every other task waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def _enter(lock: SharedLock) -> None:
    async with lock.exclusive():
        pass
