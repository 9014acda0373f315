"""Higgs Audio v2: the model, its engine and the speech service built on them.

The public names load on first use, so that `higgs_core.text`, `higgs_core.prompt.chatml` and the like stay free of
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higgs_core.engine import AudioChunk, GenerationResult, HiggsAudioEngine
    from higgs_core.params import GenerationParams
    from higgs_core.prompt.chatml import AudioContent, ChatMLSample, Message, TextContent

_HOMES = {
    "HiggsAudioEngine": "higgs_core.engine",
    "GenerationResult": "higgs_core.engine",
    "AudioChunk": "higgs_core.engine",
    "GenerationParams": "higgs_core.params",
    "ChatMLSample": "higgs_core.prompt.chatml",
    "Message": "higgs_core.prompt.chatml",
    "TextContent": "higgs_core.prompt.chatml",
    "AudioContent": "higgs_core.prompt.chatml",
}

__all__ = [
    "AudioChunk",
    "AudioContent",
    "ChatMLSample",
    "GenerationParams",
    "GenerationResult",
    "HiggsAudioEngine",
    "Message",
    "TextContent",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'higgs_core' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
