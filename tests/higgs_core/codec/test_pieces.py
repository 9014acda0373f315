"""Pieces of a clip cover it, stay within their bound and have their context."""

from __future__ import annotations

import pytest

from higgs_core.codec.pieces import CONTEXT_FRAMES, pieces
from higgs_core.rates import FRAME_SAMPLES


@pytest.mark.parametrize("at_most", [21, 22, 40, 60, 1000])
def test_pieces_cover_the_clip_once_within_their_bound_and_with_their_context(at_most: int) -> None:
    for frames in [1, 9, 10, 11, 20, 21, 22, 39, 40, 41, 59, 60, 61, 137, 999, 1000, 1001, 2345]:
        cut = list(pieces(frames, at_most))
        assert [piece.start for piece in cut] == [0, *[piece.stop for piece in cut[:-1]]]
        assert cut[-1].stop == frames
        for piece in cut:
            assert piece.start < piece.stop
            assert piece.decoded_frames <= at_most
            assert piece.left <= max(piece.start - CONTEXT_FRAMES, 0)
            assert piece.right >= min(piece.stop + CONTEXT_FRAMES, frames)
            assert (piece.samples.start, piece.samples.stop) == (
                (piece.start - piece.left) * FRAME_SAMPLES,
                (piece.stop - piece.left) * FRAME_SAMPLES,
            )


def test_what_fits_is_one_piece_and_nothing_is_none() -> None:
    assert len(list(pieces(1000, 1000))) == 1
    assert list(pieces(0, 1000)) == []
