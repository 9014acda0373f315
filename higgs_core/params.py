"""How one request is to be sampled. Imports no torch, so that the contract can be checked without it."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from higgs_core.errors import RequestError

DEFAULT_STOP_STRINGS = ("<|end_of_text|>", "<|eot_id|>")
MAX_RAS_WINDOW = 64  # columns of history that a decode step keeps a row; 2.56 s of audio
MAX_SEED = 2**63 - 1
_DRAWN_SEEDS = 2**53  # every one of them survives a client that reads JSON numbers as doubles
MAX_STOP_STRINGS = 16
MAX_COUNT = 1_000_000  # more of anything than means something


@dataclass(frozen=True)
class GenerationParams:
    """Sampling controls of one request.

    max_new_tokens: decode steps, the synthetic first column of each segment among them.
    temperature: 0 is greedy.  top_p in (0, 1], top_k >= 1; None turns either off, and so does a top_k of 0 or -1.
    ras_win_len: columns that repetition-aware sampling looks back; None or <= 0 turns it off.
    ras_win_max_num_repeat: repeats in that window from which a codebook is drawn again.
    seed: None lets the engine draw one and report it.
    stop_strings: text that ends generation.  force_audio_gen: start speaking at once, without text first.

    Raises RequestError naming field, value and range.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.3
    top_p: float | None = 0.95
    top_k: int | None = 50
    ras_win_len: int | None = 7
    ras_win_max_num_repeat: int = 2
    seed: int | None = None
    stop_strings: tuple[str, ...] = DEFAULT_STOP_STRINGS
    force_audio_gen: bool = True

    def __post_init__(self) -> None:
        strings = (self.stop_strings,) if isinstance(self.stop_strings, str) else tuple(self.stop_strings)
        object.__setattr__(self, "stop_strings", strings)
        _check("max_new_tokens", self.max_new_tokens, Integral, 1, MAX_COUNT, f"1 to {MAX_COUNT}")
        _check("temperature", self.temperature, Real, 0, 10, "0 (greedy) to 10")
        if self.top_p is not None:
            _check("top_p", self.top_p, Real, math.ulp(0.0), 1, "above 0 and at most 1, or null for off")
        if self.top_k is not None:
            _check("top_k", self.top_k, Integral, -1, MAX_COUNT, f"1 to {MAX_COUNT}, or 0, -1 or null for off")
            object.__setattr__(self, "top_k", self.top_k if self.top_k > 0 else None)
        if self.ras_win_len is not None:
            allowed = f"at most {MAX_RAS_WINDOW}, <= 0 is off"
            _check("ras_win_len", self.ras_win_len, Integral, -math.inf, MAX_RAS_WINDOW, allowed)
        repeats = self.ras_win_max_num_repeat
        _check("ras_win_max_num_repeat", repeats, Integral, 1, MAX_COUNT, f"1 to {MAX_COUNT}")
        if self.seed is not None:
            _check("seed", self.seed, Integral, 0, MAX_SEED, "0 to 2**63 - 1")
        words = all(isinstance(string, str) and string for string in self.stop_strings)
        if not words or len(self.stop_strings) > MAX_STOP_STRINGS:
            raise _refused(
                "stop_strings", f"{len(self.stop_strings)} entries", f"up to {MAX_STOP_STRINGS} non-empty strings"
            )

    @property
    def ras_window(self) -> int:
        """Columns that RAS looks back; 0 when it is off."""
        return max(self.ras_win_len or 0, 0)


def draw_seed() -> int:
    """A seed for a request that brings none."""
    return secrets.randbelow(_DRAWN_SEEDS)


def _check(field: str, value: Any, kind: Any, least: float, most: float, allowed: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise _refused(field, value, allowed)


def _refused(field: str, value: object, allowed: str) -> RequestError:
    shown = str(value)
    return RequestError(
        f"{field} is {shown if len(shown) <= 40 else shown[:40] + '…'}; allowed is {allowed}.", field=field
    )
