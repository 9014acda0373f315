"""What is done to generated speech before it is encoded: its speed, then its loudness. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.loudness import CEILING_DB, amplified, gain_to
from higgs_core.audio.loudness_stream import HELD_SECONDS, LoudnessStream
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import SpeechChunk
from serverless.service.time_stretch import time_stretched, time_stretched_chunks

if TYPE_CHECKING:
    from serverless.payload.parse import OutputOptions

_TOLD_DB = 0.5  # a difference in loudness that is not worth a warning

_UNHEARD = "loudness was ignored because nothing is heard in the speech."
_NONE = np.zeros(0, np.float32)


def with_effects(result: SpeechResult, output: OutputOptions) -> SpeechResult:
    """The whole speech at `output.speed` and `output.loudness`; the same object where neither asks for anything."""
    return _at_loudness(time_stretched(result, output.speed), output.loudness)


def chunks_with_effects(
    chunks: Iterator[SpeechChunk], output: OutputOptions, *, live: bool = True
) -> Iterator[SpeechChunk]:
    """The chunks at `output.speed` and `output.loudness`, as they come. Closing it closes `chunks`.

    live: the audio leaves as it comes, so that its first seconds set the gain. Otherwise all of it comes at the end,
    as `with_effects` makes it.
    """
    chunks = time_stretched_chunks(chunks, output.speed)
    if output.loudness is None:
        return chunks
    return _as_they_come(chunks, output.loudness) if live else _at_the_end(chunks, output.loudness)


def _at_loudness(result: SpeechResult, target: float | None) -> SpeechResult:
    if target is None:
        return result
    found = gain_to(result.audio, target)
    if found is None:
        return _warned(result, _UNHEARD)
    gain, missing = found
    return _warned(replace(result, audio=amplified(result.audio, gain)), _too_quiet(target, missing))


def _at_the_end(chunks: Iterator[SpeechChunk], target: float) -> Iterator[SpeechChunk]:
    try:
        for chunk in chunks:
            if chunk.result is not None:
                result = _at_loudness(chunk.result, target)
                yield SpeechChunk(result.audio, 0, None)
                yield SpeechChunk(_NONE, len(result.audio), result)
    finally:
        _close(chunks)


def _as_they_come(chunks: Iterator[SpeechChunk], target: float) -> Iterator[SpeechChunk]:
    """A pause before the first speech leaves at once: it would take up the seconds that are measured."""
    loudness = LoudnessStream(target)
    changed: list[NDArray[np.float32]] = []
    start = 0
    begun = False
    try:
        for chunk in chunks:
            begun |= len(chunk.audio) > 0 and not chunk.is_pause
            if chunk.result is not None:
                audio = loudness.finish()
            else:
                audio = loudness.write(chunk.audio) if begun else chunk.audio
            changed.append(audio)
            if len(audio):
                yield SpeechChunk(audio, start, None)
            start += len(audio)
            if chunk.result is not None:
                result = replace(chunk.result, audio=np.concatenate(changed))
                yield SpeechChunk(_NONE, start, _warned(result, _warning_of(loudness, target)))
    finally:
        _close(chunks)


def _warning_of(loudness: LoudnessStream, target: float) -> str | None:
    if loudness.missing_db is None:
        return _UNHEARD
    return _too_quiet(target, loudness.missing_db) or _lowered(loudness.lowered_db)


def _close(chunks: Iterator[SpeechChunk]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


def _warned(result: SpeechResult, warning: str | None) -> SpeechResult:
    return result if warning is None else replace(result, warnings=(*result.warnings, warning))


def _too_quiet(target: float, missing_db: float) -> str | None:
    if missing_db < _TOLD_DB:
        return None
    return (
        f"The speech has {target - missing_db:.1f} LUFS instead of loudness {target:g}: more would carry its peaks "
        f"above {CEILING_DB:g} dB."
    )


def _lowered(by_db: float) -> str | None:
    if by_db < _TOLD_DB:
        return None
    return f"Peaks after the first {HELD_SECONDS:g} s were lowered by up to {by_db:.1f} dB, or they would have clipped."
