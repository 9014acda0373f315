"""The delay pattern: codebook k is shifted by k columns, so that a column holds codes of eight different frames.

Source: Copet et al., "Simple and Controllable Music Generation" (2023), section 2.2, as Boson AI applies it.
"""

from __future__ import annotations

import torch


def delayed_columns(frames: int, num_codebooks: int) -> int:
    """Columns of a whole clip in a prompt: its frames, BOS and EOS, and the shift of the last codebook."""
    return frames + 2 + num_codebooks - 1


def delay(codes: torch.Tensor, stream_bos: int, stream_eos: int) -> torch.Tensor:
    """The columns that represent a whole clip in a prompt.

    codes: integers [Q, T], undelayed, every entry a real code.
    Returns int64 [Q, T + 2 + Q - 1]: a BOS frame, the clip, an EOS frame; codebook k shifted right by k, with BOS
    before it and EOS after it.
    """
    num_codebooks, frames = codes.shape
    columns = torch.full((num_codebooks, delayed_columns(frames, num_codebooks)), stream_eos, dtype=torch.long)
    for k in range(num_codebooks):
        columns[k, : k + 1] = stream_bos
        columns[k, k + 1 : k + 1 + frames] = codes[k]
    return columns


def undelay(columns: torch.Tensor) -> torch.Tensor:
    """Columns [Q, C] back to frames [Q, C - Q + 1]; only frames of which all codes are there. Empty if C < Q."""
    num_codebooks, count = columns.shape
    frames = max(count - num_codebooks + 1, 0)
    return torch.stack([columns[k, k : k + frames] for k in range(num_codebooks)])


def complete_frames(columns: torch.Tensor, codes_per_codebook: int, *, ended: bool) -> torch.Tensor:
    """The codes of a generated segment that the codec may see.

    columns: int64 [Q, C] as generated, the synthetic BOS column first.
    ended: the countdown ran out, so the last frame is the EOS frame; False when the step cap cut the segment.
    Returns int64 [Q, T]: the BOS frame and, if the segment ended, the EOS frame dropped; a stray stream token inside
    is clipped to the largest code, as Boson's engine does.
    """
    frames = undelay(columns)[:, 1:]
    if ended:
        frames = frames[:, :-1]
    return frames.clamp(0, codes_per_codebook - 1)
