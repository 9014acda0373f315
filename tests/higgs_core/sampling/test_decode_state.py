"""The delay head and the end rules against a slow reference that follows the written rules token by token.

What is sampled is chosen by the tests: the sampler is a fake that returns planned tokens and notes what it was shown.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import pytest
import torch

from higgs_core.checkpoint.load import load_config
from higgs_core.params import MAX_RAS_WINDOW, GenerationParams
from higgs_core.sampling.decode_state import COLUMN, IDLE, SEGMENT_ENDED, DecodeState
from higgs_core.sampling.sampler import SamplerRows
from higgs_core.sampling.step_tail import StepTail
from tests.golden import CASES

CPU = torch.device("cpu")
CONFIG = load_config(CASES[0].folder)
Q, BOS, EOS = 8, 1024, 1025
DUMMY = 4096
FAR = 10**6  # a step that is never reached


@dataclass
class PlannedSampler:
    """Stands where the sampler stands. planned: [B][Q] of the next step."""

    planned: list[list[int]] = field(default_factory=list)
    shown_window: torch.Tensor | None = None
    shown_step: torch.Tensor | None = None
    shown_candidates: int = 0

    def __call__(
        self, logits: torch.Tensor, window: torch.Tensor, rows: SamplerRows, step: torch.Tensor, candidates: int
    ) -> torch.Tensor:
        assert logits.shape == (len(self.planned), Q, 1026)
        self.shown_window, self.shown_step, self.shown_candidates = window.clone(), step.clone(), candidates
        return torch.tensor(self.planned)


class SlowSegment:
    """One audio segment by the rules: what a drawn column becomes, and when it is over."""

    def __init__(self, history: Iterable[list[int]], step: int, cut: int = FAR) -> None:
        self.columns = list(history)  # oldest first, the synthetic one last
        self.step, self.cut = step, cut  # cut: the step after which the host deactivates the row
        self.sampled = 0
        self.remaining: int | None = None
        self.alive = True

    def take(self, drawn: list[int]) -> tuple[list[int], int]:
        token = list(drawn)
        for codebook in range(Q):  # the delay head
            if codebook > self.sampled:
                token[codebook] = BOS
        if self.remaining is not None:  # a countdown runs
            for codebook in range(Q - self.remaining):
                token[codebook] = EOS
            self.remaining -= 1
        elif EOS in token:
            first = token.index(EOS)
            for codebook in range(first):
                token[codebook] = EOS
            self.remaining = Q - first - 1
        ended = self.remaining is not None and self.remaining <= 0
        self.columns.append(token)
        self.sampled += 1
        self.step += 1
        self.alive = not ended and self.step < self.cut
        return token, SEGMENT_ENDED if ended else COLUMN

    def window(self) -> list[list[int]]:
        recent = self.columns[-MAX_RAS_WINDOW:]
        return [[-1] * Q] * (MAX_RAS_WINDOW - len(recent)) + recent


def machine(slots: int) -> tuple[DecodeState, PlannedSampler, StepTail]:
    sampler = PlannedSampler()
    return DecodeState.allocate(CONFIG, slots, DUMMY, CPU), sampler, StepTail(CONFIG, sampler, CPU)


def start(
    state: DecodeState, slot: int, history: list[list[int]] | None = None, step: int = 1, cut: int = FAR
) -> SlowSegment:
    columns = [*(history or []), [BOS] * Q]
    state.begin(slot, GenerationParams(seed=slot), slot)
    state.begin_segment(slot, torch.tensor(columns).T, position=100, step=step)
    return SlowSegment(columns, step, cut)


def turn(state: DecodeState, sampler: PlannedSampler, step_tail: StepTail, drawn: list[list[int]]) -> None:
    """One step of the first rows, as many as there are drawn columns."""
    sampler.planned = drawn
    step_tail(state.rows(0, len(drawn)), torch.zeros(len(drawn), Q, 1026), 64)


def spoken(state: DecodeState, sampler: PlannedSampler, step_tail: StepTail, drawn: list[list[int]]) -> list[list[int]]:
    """Columns [[Q]…] that slot 0 emits for drawn columns until it ends; the steps after that must be idle."""
    columns = []
    for column in drawn:
        turn(state, sampler, step_tail, [column])
        *found, status = state.emitted[0].tolist()
        assert status == COLUMN or not state.active[0]
        if status == IDLE:
            break
        columns.append(found)
    return columns


def snapshot(state: DecodeState) -> dict[str, torch.Tensor]:
    parts = {f.name: getattr(state, f.name).clone() for f in fields(state) if f.name != "sampler"}
    return parts | {f"sampler.{f.name}": getattr(state.sampler, f.name).clone() for f in fields(state.sampler)}


def drawn_column(draw: random.Random, stream_tokens: float) -> list[int]:
    return [draw.choice([BOS, EOS]) if draw.random() < stream_tokens else draw.randrange(1024) for _ in range(Q)]


# --- long random runs


@pytest.mark.parametrize(("seed", "stream_tokens"), [(0, 0.004), (1, 0.02), (2, 0.1), (3, 0.5)])
def test_slots_follow_the_slow_reference_whatever_their_phases(seed: int, stream_tokens: float) -> None:
    """Six slots begin, end, are cut by the host, rest and begin again at random; steps run over varying rows."""
    draw = random.Random(seed)
    slots = 6
    state, sampler, step_tail = machine(slots)
    speaking: dict[int, SlowSegment] = {}
    outcomes = {SEGMENT_ENDED: 0, COLUMN: 0}
    for _ in range(400):
        for slot in range(slots):
            if slot not in speaking and draw.random() < 0.15:
                step = draw.randrange(1, 50)
                cut = step + draw.choice([1, 2, 5, 12, 40, FAR])
                history = [drawn_column(draw, 0.1) for _ in range(draw.choice([0, 1, 6, 63, 64, 90]))]
                speaking[slot] = start(state, slot, history, step, cut)
        rows = max([*speaking, draw.randrange(slots)]) + 1
        before = snapshot(state)
        windows = {slot: segment.window() for slot, segment in speaking.items()}
        steps = {slot: segment.step for slot, segment in speaking.items()}
        columns = [drawn_column(draw, stream_tokens) for _ in range(rows)]
        turn(state, sampler, step_tail, columns)
        after = snapshot(state)

        assert sampler.shown_window is not None
        assert sampler.shown_step is not None
        assert sampler.shown_candidates == 64
        for slot in range(slots):
            if slot >= rows:
                assert all(torch.equal(after[name][slot], before[name][slot]) for name in after)
                continue
            unchanged = [name for name in after if name.startswith("sampler.")]
            if slot not in speaking:
                unchanged += ["position", "step", "sampled", "active"]
                assert after["emitted"][slot, -1] == IDLE
            assert all(torch.equal(after[name][slot], before[name][slot]) for name in unchanged)
            if slot not in speaking:
                continue
            segment = speaking[slot]
            assert sampler.shown_window[slot].tolist() == windows[slot]
            assert int(sampler.shown_step[slot]) == steps[slot]
            expected, status = segment.take(columns[slot])
            assert after["emitted"][slot].tolist() == [*expected, status]
            assert after["column"][slot].tolist() == expected
            assert after["window"][slot].tolist() == segment.window()
            assert int(after["step"][slot]) == segment.step
            assert int(after["position"][slot]) == int(before["position"][slot]) + 1
            assert bool(after["active"][slot]) == (status == COLUMN)
            if not segment.alive:
                if status == COLUMN:
                    state.deactivate(slot, DUMMY)
                outcomes[status] += 1
                del speaking[slot]
    assert min(outcomes.values()) > 10  # both ends happened often: by the rules, and by the host


# --- the rules one by one


def real(column: int) -> list[int]:
    """A column of real codes that tells its place."""
    return [10 * column + codebook for codebook in range(Q)]


def test_the_delay_head_opens_one_codebook_a_column() -> None:
    state, sampler, step_tail = machine(1)
    start(state, 0)
    columns = spoken(state, sampler, step_tail, [real(at) for at in range(10)])
    for at, column in enumerate(columns):
        opened = min(at + 1, Q)
        assert column == real(at)[:opened] + [BOS] * (Q - opened)
    assert bool(state.active[0])


@pytest.mark.parametrize("codebook", range(Q))
def test_an_end_at_any_codebook_counts_down_to_the_last(codebook: int) -> None:
    """Those before it end at once, each further column ends one more, and the last one leaves codebook 7 as drawn."""
    state, sampler, step_tail = machine(1)
    start(state, 0)
    full = [real(at) for at in range(9)]
    ending = real(9)
    ending[codebook] = EOS
    columns = spoken(state, sampler, step_tail, [*full, ending, *(real(at) for at in range(10, 30))])
    tail = columns[9:]
    assert len(tail) == Q - codebook
    assert tail[0] == [EOS] * (codebook + 1) + real(9)[codebook + 1 :]
    for at, column in enumerate(tail[1:], start=1):
        assert column == [EOS] * (codebook + at) + real(9 + at)[codebook + at :]
    assert not state.active[0]


@pytest.mark.parametrize(("others", "first"), [((2, 5), 2), ((0, 7), 0), ((3, 4, 5, 6, 7), 3), (tuple(range(Q)), 0)])
def test_of_several_ends_in_a_column_the_first_counts(others: tuple[int, ...], first: int) -> None:
    state, sampler, step_tail = machine(1)
    start(state, 0)
    ending = [EOS if codebook in others else 7 for codebook in range(Q)]
    columns = spoken(state, sampler, step_tail, [*(real(at) for at in range(8)), ending, *([[7] * Q] * 20)])
    assert columns[8] == [EOS if codebook in others or codebook < first else 7 for codebook in range(Q)]
    assert len(columns) == 8 + Q - first


def test_an_end_drawn_during_the_countdown_changes_nothing_but_its_own_code() -> None:
    state, sampler, step_tail = machine(1)
    start(state, 0)
    drawn = [*(real(at) for at in range(8)), [EOS, *[7] * 7], [7, 7, 7, 7, 7, 7, 7, EOS], *([[7] * Q] * 20)]
    columns = spoken(state, sampler, step_tail, drawn)
    assert columns[9] == [EOS, 7, 7, 7, 7, 7, 7, EOS]
    assert columns[10] == [EOS, EOS, 7, 7, 7, 7, 7, 7]
    assert columns[-1] == [EOS] * 7 + [7]
    assert len(columns) == 8 + Q


@pytest.mark.parametrize("column", range(Q))
def test_an_end_inside_the_delay_head_counts_down_under_it(column: int) -> None:
    """The last codebook that has opened ends; those that have not yet speak BOS, open, and end in their turn."""
    state, sampler, step_tail = machine(1)
    start(state, 0)
    drawn = [real(at) for at in range(40)]
    drawn[column] = [EOS if codebook == column else code for codebook, code in enumerate(drawn[column])]
    columns = spoken(state, sampler, step_tail, drawn)
    assert columns[column] == [EOS] * (column + 1) + [BOS] * (Q - column - 1)
    assert len(columns) == Q
    assert columns[-1] == [EOS] * (Q - 1) + [EOS if column == Q - 1 else real(Q - 1)[-1]]


@pytest.mark.parametrize("column", range(Q - 1))
def test_an_end_drawn_for_a_codebook_that_has_not_opened_is_overwritten(column: int) -> None:
    """The delay head comes before the end rules."""
    state, sampler, step_tail = machine(1)
    start(state, 0)
    drawn = [real(at) for at in range(12)]
    drawn[column] = [*drawn[column][: column + 1], *[EOS] * (Q - column - 1)]
    columns = spoken(state, sampler, step_tail, drawn)
    assert columns[column][column + 1 :] == [BOS] * (Q - column - 1)
    assert len(columns) == 12
    assert bool(state.active[0])


def test_a_stream_bos_drawn_in_the_middle_is_left_alone() -> None:
    state, sampler, step_tail = machine(1)
    start(state, 0)
    drawn = [*(real(at) for at in range(8)), [BOS] * Q, real(9)]
    assert spoken(state, sampler, step_tail, drawn)[8:] == [[BOS] * Q, real(9)]
    assert bool(state.active[0])


def test_a_segment_starts_clean_after_one_that_was_cut_in_its_countdown() -> None:
    state, sampler, step_tail = machine(1)
    start(state, 0)
    spoken(state, sampler, step_tail, [*(real(at) for at in range(9)), [EOS] * Q, [EOS] * Q])
    assert bool(state.active[0])
    state.deactivate(0, DUMMY)
    for _ in range(5):  # steps that the row sleeps through, with ends drawn for it
        turn(state, sampler, step_tail, [[EOS] * Q])
    segment = start(state, 0, [[1] * Q])
    drawn = [real(at) for at in range(12)]
    assert spoken(state, sampler, step_tail, drawn) == [segment.take(column)[0] for column in drawn]


def test_a_second_segment_sees_the_first_in_its_window_and_has_its_own_delay_head() -> None:
    state, sampler, step_tail = machine(1)
    segment = start(state, 0)
    spoken(state, sampler, step_tail, [*(real(at) for at in range(8)), [1, 1, 1, 1, 1, 1, 1, EOS]])
    assert not state.active[0]
    history = [[BOS] * Q, *(segment.take(real(at))[0] for at in range(8)), [EOS] * Q, [BOS] * Q]
    state.begin_segment(0, torch.tensor(history).T, position=120, step=14)
    turn(state, sampler, step_tail, [real(0)])
    assert sampler.shown_window is not None
    assert sampler.shown_window[0].tolist()[-len(history) :] == history
    assert sampler.shown_step is not None
    assert int(sampler.shown_step[0]) == 14
    assert state.emitted[0].tolist() == [0, *[BOS] * 7, COLUMN]


# --- slots


def test_only_the_given_rows_are_touched_by_a_view() -> None:
    state, sampler, step_tail = machine(5)
    for slot in range(5):
        start(state, slot)
    before = snapshot(state)
    sampler.planned = [[4] * Q, [5] * Q]
    step_tail(state.rows(2, 4), torch.zeros(2, Q, 1026), 64)
    after = snapshot(state)
    for slot in (0, 1, 4):
        assert all(torch.equal(after[name][slot], before[name][slot]) for name in after)
    assert state.emitted[2].tolist() == [4, *[BOS] * 7, COLUMN]
    assert state.emitted[3].tolist() == [5, *[BOS] * 7, COLUMN]


def test_a_moved_row_goes_on_as_if_it_had_not_moved() -> None:
    draw = random.Random(5)
    state, sampler, step_tail = machine(4)
    stays, moves = start(state, 1), start(state, 3, [[9] * Q] * 70, step=4)
    for _ in range(10):
        columns = [drawn_column(draw, 0.0) for _ in range(4)]
        turn(state, sampler, step_tail, columns)
        stays.take(columns[1])
        moves.take(columns[3])
    state.position[3] = 321
    seed = int(state.sampler.seed[3])
    state.move(3, 0, DUMMY)
    assert int(state.position[0]) == 321
    assert int(state.sampler.seed[0]) == seed
    assert not state.active[3]
    assert int(state.position[3]) == DUMMY
    for at in range(20):
        columns = [drawn_column(draw, 0.0) for _ in range(2)]
        columns[0][3] = EOS if at == 12 else columns[0][3]
        alive = moves.alive
        turn(state, sampler, step_tail, columns)
        assert state.emitted[1].tolist() == [*stays.take(columns[1])[0], COLUMN]
        if alive:
            assert state.emitted[0].tolist() == [*(taken := moves.take(columns[0]))[0], taken[1]]
        else:
            assert state.emitted[0, -1] == IDLE
    assert not moves.alive


def test_a_deactivated_slot_writes_to_the_dummy_position_and_emits_nothing() -> None:
    state, sampler, step_tail = machine(2)
    start(state, 0)
    start(state, 1)
    state.deactivate(0, DUMMY)
    turn(state, sampler, step_tail, [real(0), real(1)])
    assert state.emitted[:, -1].tolist() == [IDLE, COLUMN]
    assert state.position.tolist() == [DUMMY, 101]


def test_a_request_that_takes_a_slot_is_silent_until_its_segment_begins() -> None:
    state, sampler, step_tail = machine(1)
    start(state, 0)
    state.begin(0, GenerationParams(temperature=0.7, top_k=9, top_p=0.5, ras_win_len=3), 55)
    turn(state, sampler, step_tail, [real(0)])
    assert state.emitted[0, -1] == IDLE
    rows = state.sampler
    assert [int(rows.top_k[0]), int(rows.ras_window[0]), int(rows.ras_win_max_num_repeat[0]), int(rows.seed[0])] == [
        9,
        3,
        2,
        55,
    ]
    assert rows.temperature[0].item() == pytest.approx(0.7)
    assert rows.top_p[0].item() == pytest.approx(0.5)
