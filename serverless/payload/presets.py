"""Sampling presets: what `preset` sets of the fields of sampling that a request leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EXAMPLES = {"temperature": 1.0, "top_p": 0.95, "top_k": 50}  # defaults of the script that runs Boson AI's examples
_RAS = {"ras_win_len": 7, "ras_win_max_num_repeat": 2}
_NO_RAS = {"ras_win_len": None}  # as in Boson AI's examples of music and humming: RAS forbids holding a note

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "speech": {},
    "expressive": _EXAMPLES | _RAS,
    "stable": {"temperature": 0.2, "top_p": 0.9, "top_k": 30} | _RAS,
    "music": _EXAMPLES | _NO_RAS,
    "humming": _EXAMPLES | _NO_RAS,
}
"""Preset -> field -> value. `speech` leaves the worker's settings in force; the others are the same on every worker."""

DEFAULT_PRESET = "speech"
PRESET_NAMES = {name: name for name in PRESETS}
