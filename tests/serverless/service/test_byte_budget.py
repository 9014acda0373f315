"""What is kept for slow readers is bounded for all of them together."""

from __future__ import annotations

from serverless.service.byte_budget import ByteBudget


def test_who_holds_most_lets_go_when_it_is_too_much_for_all() -> None:
    budget = ByteBudget(100)
    gone: list[str] = []
    holds = {name: budget.hold(lambda name=name: gone.append(name)) for name in "abc"}  # type: ignore[misc]
    holds["a"].resize(30)
    holds["b"].resize(60)
    assert (budget.total, budget.fits(10), budget.fits(11)) == (90, True, False)
    holds["c"].resize(20)
    assert (gone, budget.total) == (["b"], 50)
    holds["b"].resize(90)  # too late: it counts nothing any more
    assert budget.total == 50
    holds["c"].resize(101)
    assert (gone, budget.total) == (["b", "c"], 30)


def test_what_is_released_twice_counts_once() -> None:
    budget = ByteBudget(100)
    hold = budget.hold()
    hold.resize(70)
    hold.release()
    hold.release()
    assert budget.total == 0
