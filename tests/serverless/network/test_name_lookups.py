"""Name look-ups: how many threads run, who shares one, and what a look-up that hangs holds up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from serverless.network.name_lookups import NameLookups
from tests.helpers.patience import PATIENCE, wait_until, wait_until_async


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hanging(release: threading.Event, begun: list[int]) -> list[str]:
    begun.append(1)
    release.wait(PATIENCE)
    return ["192.0.2.1"]


def test_so_many_run_at_once_and_no_more(release: threading.Event) -> None:
    lookups, begun = NameLookups(at_once=3), list[int]()

    async def main() -> None:
        tasks = [
            asyncio.create_task(lookups.addresses(number, lambda: hanging(release, begun))) for number in range(10)
        ]
        await wait_until_async(lambda: len(begun) == 3)
        assert lookups.threads == 3
        release.set()
        assert await asyncio.gather(*tasks) == [["192.0.2.1"]] * 10

    asyncio.run(main())
    wait_until(lambda: lookups.threads == 0)


def test_abandoned_ones_that_wait_are_never_run(release: threading.Event) -> None:
    lookups, begun = NameLookups(at_once=2), list[int]()

    async def main() -> None:
        for first in range(0, 300, 100):
            tasks = [
                asyncio.create_task(lookups.addresses(first + number, lambda: hanging(release, begun)))
                for number in range(100)
            ]
            await wait_until_async(lambda: len(begun) == 2)
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
            )
        release.set()
        assert await lookups.addresses("new", lambda: ["192.0.2.2"]) == ["192.0.2.2"]

    asyncio.run(main())
    assert len(begun) == 2


def test_equal_names_share_a_look_up_that_outlives_those_who_leave(release: threading.Event) -> None:
    lookups, begun = NameLookups(at_once=2), list[int]()

    async def main() -> None:
        tasks = [asyncio.create_task(lookups.addresses("a", lambda: hanging(release, begun))) for _ in range(50)]
        await wait_until_async(lambda: bool(begun))
        for task in tasks[1:]:
            task.cancel()
        assert await lookups.addresses("b", lambda: ["192.0.2.2"]) == ["192.0.2.2"]  # the second thread is free
        release.set()
        assert await tasks[0] == ["192.0.2.1"]
        assert len(begun) == 1
        assert await lookups.addresses("a", lambda: ["192.0.2.3"]) == ["192.0.2.3"]  # nothing is remembered

    asyncio.run(main())


def test_what_a_look_up_raises_reaches_everybody() -> None:
    lookups = NameLookups(at_once=1)

    def failing() -> list[str]:
        raise OSError("no such host")

    async def main() -> None:
        ends = await asyncio.gather(*(lookups.addresses("a", failing) for _ in range(3)), return_exceptions=True)
        assert [type(end) for end in ends] == [OSError] * 3

    asyncio.run(main())
