"""What is told about a voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from higgs_core.speech.voices import DEFAULT_VOICE

Source = Literal["model", "shipped", "folder", "uploaded", "designed", "saved"]
SOURCES: tuple[str, ...] = get_args(Source)
ADDED: frozenset[str] = frozenset({"uploaded", "designed", "saved"})
"""Sources of voices that were added over HTTP, and that may be removed so."""


@dataclass(frozen=True)
class VoiceFacts:
    """One voice of the list.

    id: what `voice` of a request says.  name: the same, readable.
    ready: its codes are there, so that the first request with it does not wait for them.
    created_at: seconds since 1970; None for what was not made here.
    """

    id: str
    name: str
    source: Source
    description: str | None = None
    transcript: str | None = None
    ready: bool = True
    created_at: int | None = None
    seed: int | None = None
    consent: str | None = None

    @property
    def deletable(self) -> bool:
        return self.source in ADDED

    @property
    def has_preview(self) -> bool:
        return self.source != "model"


MODEL_CHOOSES = VoiceFacts(DEFAULT_VOICE, "Default", "model", "The model chooses the voice.")
"""The first of every list."""


def readable(name: str) -> str:
    """A voice's id as people read it: `news_anchor-2` is "News anchor 2"."""
    words = name.replace("_", " ").replace("-", " ").split()
    joined = " ".join(words)
    return joined[:1].upper() + joined[1:]
