"""The budget of bytes that all requests' clips share."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from serverless.references.memory_budget import MemoryBudget


async def settled() -> None:
    """Everything that could go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_comes_later_waits_until_there_is_room_and_the_oldest_never_does() -> None:
    async def main() -> None:
        budget = MemoryBudget(100)
        with ExitStack() as first, ExitStack() as second:
            old, young = first.enter_context(budget.share()), second.enter_context(budget.share())
            await young.take(100)
            waiting = asyncio.create_task(young.take(1))
            await settled()
            assert not waiting.done()
            await old.take(50)  # beyond the limit
            assert budget.held == 150
            first.close()
            await waiting  # it is the oldest now
            assert budget.held == 101
        assert budget.held == 0

    asyncio.run(main())


def test_the_older_request_is_served_first_although_it_asked_later() -> None:
    async def main() -> None:
        budget = MemoryBudget(100)
        with budget.share() as holder, budget.share() as old, budget.share() as young:
            await holder.take(100)
            order: list[str] = []

            async def take(name: str, share: object) -> None:
                await share.take(60)  # type: ignore[attr-defined]
                order.append(name)

            tasks = [asyncio.create_task(take("young", young)), asyncio.create_task(take("old", old))]
            await settled()
            assert order == []
            holder.give_back(70)
            await settled()
            assert order == ["old"]
            holder.give_back(30)
            await settled()
            assert order == ["old"]  # 60 + 60 are too many
            old.give_back(60)
            await asyncio.gather(*tasks)
            assert order == ["old", "young"]

    asyncio.run(main())


def test_who_gives_up_waiting_takes_nothing_and_lets_the_next_go_on() -> None:
    async def main() -> None:
        budget = MemoryBudget(100)
        with budget.share() as holder, budget.share() as greedy, budget.share() as modest:
            await holder.take(50)
            large, small = asyncio.create_task(greedy.take(80)), asyncio.create_task(modest.take(10))
            await settled()
            assert not small.done()  # in order: a large wish is not passed over for ever
            large.cancel()
            await small
            with pytest.raises(asyncio.CancelledError):
                await large
            assert (greedy.starved, modest.starved) == (True, False)
            assert budget.held == 60
        assert budget.held == 0

    asyncio.run(main())


def test_a_wish_that_is_granted_and_cancelled_at_once_is_given_back_with_the_share() -> None:
    async def main() -> None:
        budget = MemoryBudget(100)
        with budget.share() as holder:
            with budget.share() as share:
                await holder.take(100)
                wish = asyncio.create_task(share.take(50))
                await settled()
                holder.give_back(100)
                wish.cancel()
                await asyncio.gather(wish, return_exceptions=True)
            assert budget.held == 0

    asyncio.run(main())
