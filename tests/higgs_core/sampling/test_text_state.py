"""Text rows on the device: who samples, who ends, and that nobody else's row is touched."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from higgs_core.checkpoint.load import load_config
from higgs_core.params import GenerationParams
from higgs_core.sampling.decode_state import IDLE, DecodeState
from higgs_core.sampling.sampler import TextSampler
from higgs_core.sampling.text_state import TEXT_LANES, TEXT_TOKEN, TextState, TextStepTail
from tests.golden import CASES

CPU = torch.device("cpu")
CONFIG = load_config(CASES[0].folder)
VOCABULARY, NEVER, ENDS, DUMMY = 100, (7, 8), (40, 41), 512
GREEDY = GenerationParams(temperature=0.0)


def machine(slots: int) -> tuple[DecodeState, TextState, TextStepTail]:
    state = DecodeState.allocate(CONFIG, slots, DUMMY, CPU)
    text = TextState.allocate(slots, DUMMY, CPU)
    for slot in range(slots):
        state.begin(slot, GREEDY, slot)
        state.step[slot] = 10 * slot
    return state, text, TextStepTail(TextSampler(VOCABULARY, NEVER, CPU), ENDS, CPU)


def turn(state: DecodeState, text: TextState, tail: TextStepTail, wanted: dict[int, int]) -> None:
    """One step of all rows; wanted: the token that each row's logits speak for."""
    lanes = tail.lanes(text)
    logits = torch.zeros(lanes.shape[0], VOCABULARY)
    for lane, slot in enumerate(lanes.tolist()):
        logits[lane, wanted.get(slot, 99)] = 5.0
    tail(state, text, lanes, logits)


def snapshot(part: DecodeState | TextState) -> dict[str, torch.Tensor]:
    found = {f.name: getattr(part, f.name) for f in fields(part)}
    return {name: value.clone() for name, value in found.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("slots", [1, 3, TEXT_LANES, 40])
def test_active_rows_are_always_among_the_lanes(slots: int) -> None:
    state, text, tail = machine(slots)
    writers = list(range(slots))[-TEXT_LANES:]
    for slot in writers:
        text.begin(slot, 5, 100 + slot)
    lanes = tail.lanes(text).tolist()
    assert set(writers) <= set(lanes)
    assert len(set(lanes)) == len(lanes) == min(slots, TEXT_LANES)
    turn(state, text, tail, {slot: 50 + slot % 8 for slot in writers})
    assert [text.emitted[slot].tolist() for slot in writers] == [[50 + slot % 8, TEXT_TOKEN] for slot in writers]


def test_a_row_reads_what_it_wrote_one_position_further() -> None:
    state, text, tail = machine(3)
    text.begin(1, 5, 100)
    for number, token in enumerate((60, 61, 62), start=1):
        turn(state, text, tail, {1: token})
        assert text.token[1] == token
        assert text.position[1] == 100 + number
        assert state.step.tolist() == [0, 10 + number, 20]
        assert text.emitted[:, -1].tolist() == [IDLE, TEXT_TOKEN, IDLE]


@pytest.mark.parametrize("end", ENDS)
def test_a_row_ends_itself_behind_an_end_and_emits_no_more(end: int) -> None:
    state, text, tail = machine(2)
    text.begin(0, 5, 100)
    text.begin(1, 6, 30)
    turn(state, text, tail, {0: end, 1: 70})
    assert text.emitted[0].tolist() == [end, TEXT_TOKEN]
    assert text.active.tolist() == [False, True]
    for number in range(3):  # steps in flight when the host learns of it
        turn(state, text, tail, {0: 60, 1: 70 + number})
        assert text.emitted[0, -1] == IDLE
        assert text.emitted[1].tolist() == [70 + number, TEXT_TOKEN]
    assert text.position.tolist() == [101, 34]
    assert state.step.tolist() == [1, 14]


def test_rows_that_speak_are_left_alone() -> None:
    state, text, tail = machine(12)
    state.begin_segment(4, torch.full((8, 2), 9), 50, 3)
    text.begin(11, 5, 100)
    before = snapshot(state)
    turn(state, text, tail, {11: 60})
    after = snapshot(state)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"step"}
    assert (before["step"] != after["step"]).nonzero().tolist() == [[11]]
    assert text.position.tolist() == [DUMMY] * 11 + [101]


def test_views_of_some_rows_write_to_the_whole() -> None:
    state, text, tail = machine(5)
    text.begin(1, 5, 100)
    text.begin(4, 5, 100)
    view = text.rows(0, 2)
    turn(state.rows(0, 2), view, tail, {1: 60})
    assert text.emitted[1].tolist() == [60, TEXT_TOKEN]
    assert text.emitted[4].tolist() == [0, 0]
    assert text.position.tolist() == [DUMMY, 101, DUMMY, DUMMY, 100]
