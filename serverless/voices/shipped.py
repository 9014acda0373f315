"""The voices that ship without a recording: OpenAI's names, each a description and a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from higgs_core.speech.voices import Voice, VoiceDesign, VoiceLibrary
from serverless.voices.calibration import CALIBRATION_SENTENCE


@lru_cache(maxsize=1)
def shipped_designs() -> Mapping[str, VoiceDesign]:
    """name -> design, in the order of the names."""
    entries = json.loads(resources.files("serverless.voices").joinpath("shipped.json").read_text("utf-8"))
    designs = {name: VoiceDesign(entry["description"], entry["seed"]) for name, entry in sorted(entries.items())}
    return MappingProxyType(designs)


def shipped_library() -> VoiceLibrary:
    """Only what ships, none of it spoken yet."""
    return VoiceLibrary(
        {name: Voice(name, CALIBRATION_SENTENCE, design=design) for name, design in shipped_designs().items()}
    )
