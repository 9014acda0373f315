"""The positions that one prefill runs: spans of several slots, laid out as rows on the device.

Rows of text come first and rows of audio after them, so that each kind is one slice of every tensor and runs its own
norms and MLP without an index. Only attention needs the order of the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from higgs_core.to_device import to_device


@dataclass(frozen=True, eq=False)
class PromptSpan:
    """L positions of one slot from `start` on; the cache holds the positions before them. Tensors of the host."""

    slot: int
    start: int
    token_ids: torch.Tensor  # int64 [L], any id at audio positions
    is_audio: torch.Tensor  # bool [L]; A of them are
    columns: torch.Tensor  # int64 [Q, A]

    @property
    def length(self) -> int:
        return self.token_ids.shape[0]


@dataclass(frozen=True, eq=False)
class SpanRows:
    """Rows first..stop belong to the slot, whose positions start..end this prefill runs."""

    slot: int
    start: int
    end: int
    first: int
    stop: int


@dataclass(frozen=True, eq=False)
class PrefillRows:
    """N rows, T of text and then A of audio, on the device.

    in_order: row of each position, in the order of the positions; position_of: the inverse. Both None where the rows
    are in that order already, as those of a single prompt without clips are.
    """

    token_ids: torch.Tensor  # int64 [T]
    columns: torch.Tensor  # int64 [A, Q]
    slots: torch.Tensor  # int64 [N]
    positions: torch.Tensor  # int64 [N]
    in_order: torch.Tensor | None  # int64 [N]
    position_of: torch.Tensor | None  # int64 [N]
    spans: tuple[SpanRows, ...]  # of all rows, once these are in order
    text_spans: tuple[SpanRows, ...]  # of the rows of text


def lay_out(spans: Sequence[PromptSpan], device: torch.device) -> PrefillRows:
    """The rows of a prefill, in one copy to the device. No slot may occur twice."""
    is_audio = torch.cat([span.is_audio for span in spans])  # [N]
    token_ids = torch.cat([span.token_ids for span in spans])
    lengths = torch.tensor([span.length for span in spans])
    slots = torch.tensor([span.slot for span in spans]).repeat_interleave(lengths)
    positions = torch.cat([torch.arange(span.start, span.start + span.length) for span in spans])
    columns = torch.cat([span.columns for span in spans], dim=1)
    audio, count = columns.shape[1], is_audio.shape[0]
    text = count - audio
    position_of = is_audio.to(torch.int8).argsort(stable=True)  # [N], of each row
    sizes = (text, count, count, audio * columns.shape[0], count, count)
    parts = [token_ids[position_of[:text]], slots[position_of], positions[position_of], columns.T.flatten()]
    packed = to_device(torch.cat([*parts, position_of, position_of.argsort()]), device)
    token_ids, slots, positions, flat_columns, position_of, in_order = packed.split(sizes)
    sorted_already = not bool(is_audio[:text].any())
    return PrefillRows(
        token_ids=token_ids,
        columns=flat_columns.view(audio, -1) if audio else flat_columns.view(0, columns.shape[0]),
        slots=slots,
        positions=positions,
        in_order=None if sorted_already else in_order,
        position_of=None if sorted_already else position_of,
        spans=_rows_of(spans, [span.length for span in spans]),
        text_spans=_rows_of(spans, [span.length - span.columns.shape[1] for span in spans]),
    )


def _rows_of(spans: Sequence[PromptSpan], lengths: Sequence[int]) -> tuple[SpanRows, ...]:
    stops = list(accumulate(lengths))
    return tuple(
        SpanRows(span.slot, span.start, span.start + span.length, stop - length, stop)
        for span, length, stop in zip(spans, lengths, stops, strict=True)
        if length
    )
