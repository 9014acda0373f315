"""Results of an engine made by hand: speech, silence, loops and nothing, of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.runtime.generation import GenerationResult

FRAME = 960
LOUD = 0.1


def tone(frames: int, amplitude: float = LOUD, seed: int = 0) -> NDArray[np.float32]:
    """float32 [frames * 960] whose energy is the same in every frame; another seed, another tone."""
    cycles = 10 + seed % 97  # of a frame, so that every frame is alike
    frame = np.sin(np.arange(FRAME) * (2 * np.pi * cycles / FRAME)) * amplitude
    return np.tile(frame.astype(np.float32), frames)


def silence(frames: int) -> NDArray[np.float32]:
    return np.zeros(frames * FRAME, np.float32)


def spoken_codes(frames: int, seed: int = 0) -> NDArray[np.int64]:
    """int64 [8, frames] that never repeat themselves."""
    return np.random.default_rng([seed, frames]).integers(0, 1024, (8, frames))


def looping_codes(frames: int, period: int, seed: int = 0) -> NDArray[np.int64]:
    """int64 [8, frames] that go round and round."""
    return np.tile(spoken_codes(period, seed), (1, -(-frames // period)))[:, :frames]


def result(
    frames: int = 10,
    *segments: int,
    silent: int = 0,
    codes: list[NDArray[np.int64]] | None = None,
    **fields: Any,
) -> GenerationResult:
    """A generation of so many frames of sound, in one or several segments, and then of silence.

    codes: in place of codes that never repeat.  fields: of GenerationResult, in place of plausible ones.
    """
    lengths = [frames, *segments]
    lengths[-1] += silent
    total = sum(lengths)
    return GenerationResult(
        **{
            "audio": np.concatenate([tone(total - silent), silence(silent)]),
            "sampling_rate": 24_000,
            "audio_codes": [spoken_codes(length) for length in lengths] if codes is None else codes,
            "delayed_audio_columns": [],
            "text": f"<{total}>",
            "text_token_ids": [total],
            "prompt_token_ids": [],
            "usage": {"prompt_tokens": 5, "completion_tokens": total, "total_tokens": 5 + total, "cached_tokens": 1},
            "finish_reason": "stop",
            "seed": 77,
            "timings": {"queue": 0.5, "first_audio": float(total), "total": 2.0},
        }
        | fields
    )


def count_bytes(text: str) -> int:
    """More than the tokens of a text: a token has at least a byte."""
    return len(text.encode())
