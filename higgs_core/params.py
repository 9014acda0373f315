"""Sampling parameters of one request, with their defaults and ranges. Imports no torch."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from higgs_core.errors import RequestError

DEFAULT_MAX_NEW_TOKENS = 1024
DEFAULT_TEMPERATURE = 0.3
DEFAULT_TOP_P = 0.95
DEFAULT_TOP_K = 50
DEFAULT_RAS_WIN_LEN = 7
DEFAULT_RAS_WIN_MAX_NUM_REPEAT = 2
DEFAULT_STOP_STRINGS = ("<|end_of_text|>", "<|eot_id|>")

MAX_COUNT = 1_000_000
"""Upper bound for counts; larger values have no effect."""
MAX_TEMPERATURE = 10
MAX_TOP_P = 1
MIN_TOP_K = -1
TOP_K_OFF = (0, MIN_TOP_K)
"""Values of top_k that mean off, as in other servers."""
MAX_RAS_WINDOW = 64
"""Columns of history that a decode step keeps per row; 2.56 s of audio."""
_SEED_BITS = 63
MAX_SEED = (1 << _SEED_BITS) - 1
MAX_STOP_STRINGS = 16

# The ranges in words, for the errors of requests and of settings.
COUNT_RANGE = f"1 to {MAX_COUNT}"
TEMPERATURE_RANGE = f"0 (greedy) to {MAX_TEMPERATURE}"
TOP_P_RANGE = f"above 0 and at most {MAX_TOP_P}"
TOP_K_RANGE = f"{COUNT_RANGE}, or {', '.join(map(str, TOP_K_OFF))}"
RAS_WINDOW_RANGE = f"at most {MAX_RAS_WINDOW}"

_DRAWN_SEEDS = 2**53  # a client that reads JSON numbers as doubles gets each of these exactly


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

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = DEFAULT_TEMPERATURE
    top_p: float | None = DEFAULT_TOP_P
    top_k: int | None = DEFAULT_TOP_K
    ras_win_len: int | None = DEFAULT_RAS_WIN_LEN
    ras_win_max_num_repeat: int = DEFAULT_RAS_WIN_MAX_NUM_REPEAT
    seed: int | None = None
    stop_strings: tuple[str, ...] = DEFAULT_STOP_STRINGS
    force_audio_gen: bool = True

    def __post_init__(self) -> None:
        strings = (self.stop_strings,) if isinstance(self.stop_strings, str) else tuple(self.stop_strings)
        object.__setattr__(self, "stop_strings", strings)
        _check("max_new_tokens", self.max_new_tokens, Integral, 1, MAX_COUNT, COUNT_RANGE)
        _check("temperature", self.temperature, Real, 0, MAX_TEMPERATURE, TEMPERATURE_RANGE)
        if self.top_p is not None:
            _check("top_p", self.top_p, Real, math.ulp(0.0), MAX_TOP_P, f"{TOP_P_RANGE}, or null for off")
        if self.top_k is not None:
            _check("top_k", self.top_k, Integral, MIN_TOP_K, MAX_COUNT, f"{TOP_K_RANGE} or null for off")
            object.__setattr__(self, "top_k", self.top_k if self.top_k > 0 else None)
        if self.ras_win_len is not None:
            allowed = f"{RAS_WINDOW_RANGE}, <= 0 is off"
            _check("ras_win_len", self.ras_win_len, Integral, -math.inf, MAX_RAS_WINDOW, allowed)
        repeats = self.ras_win_max_num_repeat
        _check("ras_win_max_num_repeat", repeats, Integral, 1, MAX_COUNT, COUNT_RANGE)
        if self.seed is not None:
            _check("seed", self.seed, Integral, 0, MAX_SEED, f"0 to 2**{_SEED_BITS} - 1")
        non_empty = all(isinstance(string, str) and string for string in self.stop_strings)
        if not non_empty or len(self.stop_strings) > MAX_STOP_STRINGS:
            raise _refused(
                "stop_strings", f"{len(self.stop_strings)} entries", f"up to {MAX_STOP_STRINGS} non-empty strings"
            )

    @property
    def ras_window(self) -> int:
        """Columns that RAS looks back; 0 when it is off."""
        return max(self.ras_win_len or 0, 0)


def draw_seed() -> int:
    """A random seed, for a request that gives none."""
    return secrets.randbelow(_DRAWN_SEEDS)


def _check(field: str, value: Any, kind: Any, least: float, most: float, allowed: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise _refused(field, value, allowed)


def _refused(field: str, value: object, allowed: str) -> RequestError:
    shown = str(value)
    return RequestError(
        f"{field} is {shown if len(shown) <= 40 else shown[:40] + '…'}; allowed is {allowed}.", field=field
    )
