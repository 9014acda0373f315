"""The threads of a decode step on a CPU: chosen by time, fewer where more do not pay."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from higgs_core.runtime.step_threads import StepThreads


@pytest.fixture(autouse=True)
def _four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock, and steps that take the seconds of a table on it: by rows, then by threads."""

    def __init__(self, seconds: Callable[[int, int], float]) -> None:
        self.now = 0.0
        self.steps: list[tuple[int, int]] = []
        self._seconds = seconds

    def step(self, rows: int) -> None:
        threads = torch.get_num_threads()
        self.steps.append((rows, threads))
        self.now += self._seconds(rows, threads)

    def choose(self, *rows: int) -> tuple[StepThreads, dict[int, int]]:
        threads = StepThreads(lambda: self.now)
        return threads, threads.measure(self.step, rows)


def test_each_number_of_rows_gets_its_fastest() -> None:
    machine = Machine(lambda rows, threads: 0.01 * (threads if rows == 1 else 1 / threads))
    threads, chosen = machine.choose(1, 8)
    assert chosen == {1: 1, 8: 4}
    assert torch.get_num_threads() == 4
    for rows, expected in ((1, 1), (2, 1), (7, 1), (8, 4), (20, 4)):
        with threads.of_step(rows):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 4


def test_a_step_that_fails_gives_the_threads_back() -> None:
    threads, _ = Machine(lambda _, threads: 0.01 * threads).choose(1)
    with pytest.raises(RuntimeError), threads.of_step(1):
        raise RuntimeError
    assert torch.get_num_threads() == 4


def test_a_gain_within_the_noise_is_not_worth_a_thread() -> None:
    assert Machine(lambda _, threads: 0.01 * (1 - 0.01 * threads)).choose(1)[1] == {1: 1}
    assert Machine(lambda _, threads: {1: 0.02, 2: 0.01, 4: 0.0098}[threads]).choose(1)[1] == {1: 2}


def test_one_slow_moment_changes_nothing() -> None:
    machine = Machine(lambda _, threads: 0.01 / threads + (0.05 if len(machine.steps) in (1, 6, 9) else 0.0))
    assert machine.choose(1)[1] == {1: 4}


def test_slow_steps_are_measured_once_each() -> None:
    machine = Machine(lambda _, threads: 3.0 / threads)
    assert machine.choose(1)[1] == {1: 4}
    assert machine.steps == [(1, 1), (1, 2), (1, 4)] * 2  # once to warm up, once timed


@pytest.mark.parametrize("reason", ["one thread", "the environment says how many"])
def test_nothing_is_measured_where_there_is_nothing_to_choose(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason == "one thread":
        torch.set_num_threads(1)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
    machine = Machine(lambda *_: 0.01)
    threads, chosen = machine.choose(1, 8)
    assert chosen == {}
    assert machine.steps == []
    before = torch.get_num_threads()
    with threads.of_step(1):
        assert torch.get_num_threads() == before


def test_another_thread_keeps_its_own_number() -> None:
    seen: list[int] = []
    ready, changed = threading.Event(), threading.Event()

    def other() -> None:
        torch.ones(4).sum()
        seen.append(torch.get_num_threads())
        ready.set()
        changed.wait(60)
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait(60)
    threads, _ = Machine(lambda _, threads: 0.01 * threads).choose(1)
    with threads.of_step(1):
        assert torch.get_num_threads() == 1
        changed.set()
        thread.join()
    assert seen == [4, 4]
