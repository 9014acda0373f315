"""The barrier's counter in Triton's interpreter, which runs one program after another."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from higgs_core.kernels.linear.grid_barrier import arrive, phase_of, wait_for_all


@triton.jit
def arrive_in_turn(arrivals, complete, ARRIVE: tl.constexpr, WAIT: tl.constexpr, FLIP: tl.constexpr):
    """Each program arrives, then asks three times. FLIP: of the phase, for a wait in a launch behind the arrivals."""
    phase = phase_of(arrivals) ^ FLIP
    if ARRIVE:
        arrive(arrivals)
    if WAIT:
        tl.store(complete + tl.program_id(0), wait_for_all(arrivals, phase, 3).to(tl.int32))


def run(arrivals: torch.Tensor, programs: int, *, wait: bool = True) -> list[int]:
    complete = torch.full((programs,), -1, dtype=torch.int32)
    arrive_in_turn[(programs,)](arrivals, complete, ARRIVE=True, WAIT=wait, FLIP=0)
    return complete.tolist()


def all_wait(arrivals: torch.Tensor, programs: int, flip: int) -> set[int]:
    complete = torch.full((programs,), -1, dtype=torch.int32)
    arrive_in_turn[(programs,)](arrivals, complete, ARRIVE=False, WAIT=True, FLIP=flip)
    return set(complete.tolist())


def test_only_the_last_one_finds_all_others_there_in_launches_of_any_size() -> None:
    arrivals = torch.zeros(1, dtype=torch.int32)
    for programs in (1, 2, 3, 7, 2, 1, 1, 5):
        assert run(arrivals, programs) == [0] * (programs - 1) + [1]
        assert arrivals.item() in (0, -(2**31))  # as before, but for the highest bit


@pytest.mark.parametrize("rounds", [0, 1])
def test_all_find_each_other_if_all_arrived_before_and_none_if_one_is_missing(rounds: int) -> None:
    arrivals, one_bit = torch.zeros(1, dtype=torch.int32), -(2**31)
    for _ in range(rounds):
        run(arrivals, 5, wait=False)
    assert all_wait(arrivals, 5, 0) == {0}  # none has arrived
    run(arrivals, 5, wait=False)
    assert all_wait(arrivals, 5, one_bit) == {1}  # all have, and the phase was the one before


@pytest.mark.parametrize("start", [0, -(2**31)])
@pytest.mark.parametrize("missing", [1, 3])
def test_nobody_is_let_through_while_a_program_is_missing(start: int, missing: int) -> None:
    """The counter as it is when all of 5 programs, the first one included, have arrived but for some."""
    arrivals = torch.tensor([start], dtype=torch.int32)
    run(arrivals, 5, wait=False)
    arrivals -= missing
    assert all_wait(arrivals, 5, 0 if (arrivals.item() < 0) == (start < 0) else -(2**31)) == {0}
    assert (arrivals.item() < 0) == (start < 0)  # the bit has not flipped
    arrivals += missing
    assert (arrivals.item() < 0) != (start < 0)
