"""The delay pattern written out by hand, there and back, and Boson's own decoded segments."""

from __future__ import annotations

import random

import pytest
import torch

from higgs_core.prompt.delay_pattern import complete_frames, delay, undelay
from tests.golden import CASES, GoldenCase

Q, BOS, EOS = 8, 1024, 1025


def random_codes(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 1024, (Q, frames), generator=torch.Generator().manual_seed(seed))


def cut_by_rules(draw: random.Random, first_end: tuple[int, int] | None, count: int) -> list[list[int]]:
    """`count` columns as generation makes them of real codes: delay head, and from (column, codebook) on the countdown.

    Column 0 is the synthetic one. Codes tell column and codebook, so that a frame shows where it was taken from.
    """
    columns = [[BOS] * Q]
    for at in range(1, count):
        column = [draw.randrange(1024) for _ in range(Q)]
        if first_end is not None and at >= first_end[0]:
            reach = first_end[1] + max(at - first_end[0], 1)
            column[:reach] = [EOS] * min(reach, Q)
        columns.append([code if codebook < at else BOS for codebook, code in enumerate(column)])
    return columns


def test_the_pattern_of_a_small_clip_written_out() -> None:
    codes = torch.tensor([[1, 2], [3, 4], [5, 6]])
    assert delay(codes, 8, 9).tolist() == [
        [8, 1, 2, 9, 9, 9],
        [8, 8, 3, 4, 9, 9],
        [8, 8, 8, 5, 6, 9],
    ]


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 100])
def test_a_clip_takes_its_frames_plus_nine_columns_and_comes_back_whole(frames: int) -> None:
    codes = random_codes(frames)
    columns = delay(codes, BOS, EOS)
    assert columns.shape == (Q, frames + 9)
    assert columns.dtype == torch.int64
    assert (columns[:, 0] == BOS).all()
    assert (columns[:, -1] == EOS).all()
    framed = undelay(columns)
    assert framed.shape == (Q, frames + 2)
    assert (framed[:, 0] == BOS).all()
    assert (framed[:, -1] == EOS).all()
    assert torch.equal(framed[:, 1:-1], codes)
    assert torch.equal(complete_frames(columns, 1024, ended=True), codes)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_codes_of_any_integer_type_become_int64_columns(dtype: torch.dtype) -> None:
    codes = random_codes(5)
    assert torch.equal(delay(codes.to(dtype), BOS, EOS), delay(codes, BOS, EOS))


def test_a_column_holds_codes_of_eight_moments() -> None:
    codes = torch.arange(20) + 100 * torch.arange(1, Q + 1)[:, None]
    columns = delay(codes, BOS, EOS)
    assert columns[:, 12].tolist() == [100 * (codebook + 1) + 11 - codebook for codebook in range(Q)]


@pytest.mark.parametrize("count", range(Q + 3))
@pytest.mark.parametrize("ended", [True, False])
def test_segments_too_short_for_a_frame_are_empty(count: int, ended: bool) -> None:
    """A complete frame needs the synthetic column and seven more; the first frame is BOS, the last of an end is EOS."""
    columns = torch.full((Q, count), 7)
    codes = complete_frames(columns, 1024, ended=ended)
    assert codes.shape == (Q, max(count - Q - int(ended), 0))
    assert undelay(columns).shape == (Q, max(count - Q + 1, 0))


@pytest.mark.parametrize("codebook", range(Q))
@pytest.mark.parametrize("end_column", [1, 3, 8, 9, 20])
def test_no_end_of_stream_reaches_the_codec_wherever_generation_is_cut(end_column: int, codebook: int) -> None:
    """Cut at every column, in the middle of the countdown too, a frame that is kept holds eight real codes."""
    if codebook >= end_column:
        return  # that codebook still speaks BOS
    whole = end_column + Q - codebook  # columns of the segment that runs to its end
    columns = torch.tensor(cut_by_rules(random.Random(end_column), (end_column, codebook), whole)).T
    for count in range(1, whole + 1):
        codes = complete_frames(columns[:, :count], 2000, ended=count == whole)  # 2000: nothing is clipped away
        assert codes.shape[1] == 0 or int(codes.max()) < 1024
        for frame in range(codes.shape[1]):
            assert codes[:, frame].tolist() == [int(columns[k, frame + 1 + k]) for k in range(Q)]
    # The frames that were kept are all that there are: what the end cost is the frame in which it was first drawn.
    assert complete_frames(columns, 2000, ended=True).shape[1] == max(end_column - codebook - 1, 0)


@pytest.mark.parametrize("count", [9, 10, 30])
def test_a_cut_segment_keeps_its_last_complete_frame(count: int) -> None:
    columns = torch.tensor(cut_by_rules(random.Random(count), None, count)).T
    codes = complete_frames(columns, 1024, ended=False)
    assert codes.shape[1] == count - Q
    assert codes[:, -1].tolist() == [int(columns[k, count - Q + k]) for k in range(Q)]


def test_stray_stream_tokens_inside_are_clipped_as_boson_does() -> None:
    codes = random_codes(4)
    columns = delay(codes, BOS, EOS)
    columns[3, 3 + 2] = EOS
    columns[5, 5 + 1] = BOS
    codes[3, 1] = codes[5, 0] = 1023
    assert torch.equal(complete_frames(columns, 1024, ended=True), codes)


def segments_of(case: GoldenCase) -> list[tuple[torch.Tensor, list[list[int]] | None, bool]]:
    """(columns, Boson's codes or None, whether it ended) of each golden segment.

    A segment ended if `<|audio_eos|>` stands after its placeholder in the text tokens.
    """
    tokens = case.raw["generated_text_tokens"]
    opened = [at for at, token in enumerate(tokens) if token == 272]
    ended = [tokens[at + 1 : at + 2] == [268] for at in opened]
    columns = [torch.tensor(segment) for segment in case.raw["delayed_audio_columns"]]
    return list(zip(columns, case.raw["decode_codes"], ended, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_golden_segments_decode_as_in_bosons_engine(case: GoldenCase) -> None:
    for columns, boson, ended in segments_of(case):
        codes = complete_frames(columns, 1024, ended=ended)
        expected = boson if boson is not None else [[] for _ in range(Q)]
        if ended:
            assert codes.tolist() == expected
            continue
        # Cut by the cap: Boson's slice takes the last frame for the EOS frame and throws it away.
        last = columns.shape[1] - Q
        assert codes[:, :-1].tolist() == expected
        if last > 0:
            assert codes[:, -1].tolist() == [int(columns[k, last + k]) for k in range(Q)]
        assert codes.shape[1] == max(last, 0)


def test_the_golden_cases_hold_both_ends_and_cuts() -> None:
    endings = [(ended, boson is None) for case in CASES for _, boson, ended in segments_of(case)]
    assert set(endings) == {(True, True), (True, False), (False, True), (False, False)}
    assert len(endings) > 30
