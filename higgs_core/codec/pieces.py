"""How a clip is cut so that its pieces, decoded one by one, are the clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from higgs_core.rates import FRAME_SAMPLES

CONTEXT_FRAMES = 10
"""Frames on each side of a chunk with which its decode equals the full decode: the decoder's receptive field."""


@dataclass(frozen=True)
class Piece:
    """Frames start..stop of a clip, to be decoded from frames left..right."""

    start: int
    stop: int
    left: int
    right: int

    @property
    def decoded_frames(self) -> int:
        return self.right - self.left

    @property
    def samples(self) -> slice:
        """Where frames start..stop lie in the audio of frames left..right."""
        return slice((self.start - self.left) * FRAME_SAMPLES, (self.stop - self.left) * FRAME_SAMPLES)


def pieces(frames: int, at_most: int) -> Iterator[Piece]:
    """Cut `frames` frames, none of whose pieces decodes more than `at_most`, which is more than 2 CONTEXT_FRAMES."""
    start = 0
    while start < frames:
        left = max(start - CONTEXT_FRAMES, 0)
        right = min(left + at_most, frames)
        stop = right if right == frames else right - CONTEXT_FRAMES
        yield Piece(start, stop, left, right)
        start = stop
