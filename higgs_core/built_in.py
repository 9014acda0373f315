"""The checkpoints that the package brings along, by the names that stand in place of a folder or hub id.

Imports no torch. `higgs_core.checkpoint.built_in_files` has their files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltIn:
    """One such checkpoint; it has its own codec and tokenizer.

    notice: the sentence that every response, the log and the playground carry, so that nobody takes it for the model
    that this project serves.
    limits: what it cannot do, for the log and the playground; blank where the notice says all.
    random_weights: whether it was never trained, so that its audio is noise.
    """

    name: str
    notice: str
    limits: str = ""
    random_weights: bool = False

    @property
    def description(self) -> str:
        """Notice and limits."""
        return f"{self.notice} {self.limits}".strip()


DEMO = BuiltIn(
    "demo",
    notice="The built-in demo checkpoint is a small synthetic voice made by this project; the real Higgs Audio v2 "
    "sounds far better.",
    limits="It speaks plain English and nothing else: no emotions, no music, no laughter. It does not clone voices: a "
    "reference clip or a speaker tag picks its low or its high voice.",
)

TINY = BuiltIn(
    "tiny",
    notice="The built-in tiny checkpoint has random weights: the audio is noise.",
    random_weights=True,
)

BUILT_IN = {checkpoint.name: checkpoint for checkpoint in (DEMO, TINY)}
