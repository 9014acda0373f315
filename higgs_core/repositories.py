"""The hub repositories that this project loads: their names and the revisions that are known to work."""

from __future__ import annotations

MODEL = "bosonai/higgs-audio-v2-generation-3B-base"
"""The language model. Boson AI has renamed the repository; this first name is the one that responses report."""

CODEC = "bosonai/higgs-audio-v2-tokenizer"

_NAMES = ((MODEL, "bosonai/higgs-tts-2-3b-base"),)
"""All names of one repository, the reported one first."""

PINNED_REVISIONS = {
    MODEL: "10840182ca4ad5d9d9113b60b9bb3c1ef1ba3f84",  # the last one in Boson's format; holds each tensor once
    CODEC: "403fbacf2f60caaa102f893fdfabb694619b2417",  # transformers' format; main has held another model
}
"""Revisions that are used unless the caller gives another."""


def names_of(repository: str) -> tuple[str, ...]:
    """Every name of the repository, the given one first."""
    family = next((names for names in _NAMES if repository in names), ())
    return (repository, *(name for name in family if name != repository))


def reported_name(repository: str) -> str:
    """The one name by which responses call the repository."""
    return next((names[0] for names in _NAMES if repository in names), repository)


def pinned_revision(repository: str) -> str | None:
    return PINNED_REVISIONS.get(reported_name(repository))
