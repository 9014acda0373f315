"""Voices by name: a clip, its codes, or a description with a seed that the model speaks once. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.errors import RequestError

DEFAULT_VOICE = "default"  # a request's way to say: the model chooses
MAX_CLIP_BYTES = 20_000_000
NAME_RULE = f"a name has 1 to 64 letters, digits, - and _, begins with one of the first two, and is not {DEFAULT_VOICE}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_NAMES_IN_A_HINT = 12


def is_voice_name(name: str) -> bool:
    """Whether a voice may have this name: it is safe as the name of a file, in an address and in a log."""
    return _NAME.fullmatch(name) is not None and name.lower() != DEFAULT_VOICE


@dataclass(frozen=True)
class VoiceDesign:
    """A voice in words, and the seed with which the model speaks it the first time."""

    description: str
    seed: int


@dataclass(frozen=True, eq=False)
class Voice:
    """One voice, and what speaks: exactly one of waveform, codes and design.

    transcript: the words spoken in it.
    waveform: float32 [N], mono, 24 kHz.  codes: integers [8, T], undelayed.  design: it has not been spoken yet.
    """

    name: str
    transcript: str
    waveform: NDArray[np.float32] | None = None
    codes: NDArray[Any] | None = None
    design: VoiceDesign | None = None


class VoiceLibrary(Mapping[str, Voice]):
    """Voices by name, in the order given, as they are at one moment."""

    def __init__(self, voices: Mapping[str, Voice] | None = None) -> None:
        self._voices = dict(voices or {})

    def __getitem__(self, name: str) -> Voice:
        return self._voices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._voices)

    def __len__(self) -> int:
        return len(self._voices)

    def find(self, name: str, *, field: str = "voice") -> Voice:
        """The voice called `name`. Raises RequestError with the nearest spelling and some names that exist."""
        if name in self._voices:
            return self._voices[name]
        shown = name if _NAME.fullmatch(name) else "given here"
        raise RequestError(f"{field}: there is no voice {shown}.", field=field, hint=self.hint_for(name))

    def hint_for(self, name: str) -> str:
        """What to use in place of a name that is not there."""
        if not self:
            return "This worker has no voice library; send a reference clip instead."
        near = nearest(name, self)
        meant = f"Did you mean {near}? " if near else ""
        more = ", ..." if len(self) > _NAMES_IN_A_HINT else ""
        return f"{meant}Use {DEFAULT_VOICE} or one of {', '.join(list(self)[:_NAMES_IN_A_HINT])}{more}."


def nearest(name: str, names: Mapping[str, object]) -> str | None:
    """The name that is spelled most like `name`, in any case; None where none is much like it."""
    if not _NAME.fullmatch(name):
        return None
    by_lower = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[found[0]] if found else None
