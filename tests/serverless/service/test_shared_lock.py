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


async def others_run() -> None:
    """Until every other task waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def _enter(lock: SharedLock) -> None:
    async with lock.exclusive():
        pass
