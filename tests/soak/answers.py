"""What a client received, checked: the audio is what the answer says, and equal requests have equal answers."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio import decode_audio
from tests.helpers.audio import decoded
from tests.soak.planned import FINISHED, LEFT

_LOSSLESS = ("wav", "flac", "pcm")
_TOLERANCE = 8 / 32_768
"""Decodes that share a batch of the codec end their sums in another order."""
_ROUNDING = 2
"""Samples: an answer states its seconds with four places."""


@dataclass(frozen=True)
class Answer:
    """code: FINISHED, LEFT or the code of an error; "" where the door does not say which error.

    audio: float32 [N] of a lossless format.  samples: None when the answer states no length.
    """

    code: str
    samples: int | None = None
    completion_tokens: int | None = None
    audio: NDArray[np.float32] | None = None

    def equals(self, other: Answer) -> bool:
        mine, theirs = (
            (answer.code, answer.samples, answer.completion_tokens, answer.audio is None) for answer in (self, other)
        )
        if mine != theirs or self.audio is None or other.audio is None:
            return mine == theirs
        return bool(np.allclose(self.audio, other.audio, atol=_TOLERANCE))


GONE = Answer(LEFT)


def of_items(items: list[dict[str, Any]]) -> Answer:
    """A response, or the items of a stream and the response at their end. AssertionError: it is not what it says."""
    final = items[-1]
    if "error" in final:
        return Answer(str(final.get("code", "")))
    assert [item["index"] for item in items] == list(range(len(items))) if len(items) > 1 else True
    assert [bool(item.get("is_final", True)) for item in items] == [*[False] * (len(items) - 1), True]
    data = b"".join(base64.b64decode(item["audio_base64"], validate=True) for item in items if "audio_base64" in item)
    samples = round(final["duration_seconds"] * 24_000)
    tokens = final["usage"]["completion_tokens"]
    return Answer(FINISHED, samples, tokens, checked_audio(data, final["audio_format"], samples))


def checked_audio(data: bytes, audio_format: str, samples: int | None) -> NDArray[np.float32] | None:
    """Decode a file. The audio of a lossless format, as long as the answer says; None of others."""
    if audio_format == "aac":
        assert decode_audio(data, origin="answer", min_seconds=0.0).size > 0
        return None
    audio = decoded(data, audio_format)
    assert np.isfinite(audio).all(), "samples are not finite"
    assert audio.size > 0, "an answer without audio"
    if audio_format not in _LOSSLESS:
        return None
    if samples is not None:
        off = abs(samples - audio.size)
        assert off <= _ROUNDING, f"{audio.size} samples where the answer says {samples}"
    return audio
