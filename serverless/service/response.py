"""The result of a job as plain JSON: what is said about the audio, and what is said instead when there is none."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgs_core.errors import HiggsError
from higgs_core.rates import SAMPLING_RATE
from higgs_core.repositories import reported_name

if TYPE_CHECKING:
    from higgs_core.audio import AudioFormat
    from higgs_core.speech.speak import SpeechResult
    from serverless.payload.parse import ParsedJob
    from serverless.service.streaming import Part

TIMING_NAMES = ("queue", "reference", "prefill", "first_audio", "decode", "codec", "encode", "total")
TINY_WARNING = "The built-in tiny checkpoint has random weights: the audio is noise."


class InternalError(HiggsError):
    """A defect of the worker. What went wrong is in its log alone."""

    def __init__(self) -> None:
        super().__init__(
            "The worker failed on this request for a reason of its own.",
            hint="Try again; the worker's log has the details under this job's id.",
        )


def describe(
    parsed: ParsedJob,
    speech: SpeechResult,
    *,
    audio_format: AudioFormat,
    model: str,
    random_weights: bool,
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """Everything in a response but the audio itself, in plain JSON types.

    timings: measured seconds by name; a name that was not measured is left out.
    """
    response: dict[str, Any] = {
        "audio_format": audio_format.name,
        "mime_type": audio_format.mime_type,
        "sampling_rate": speech.sampling_rate,
        "duration_seconds": round(len(speech.audio) / speech.sampling_rate, 4),
        "generated_text": speech.text,
        "usage": dict(speech.usage),
        "finish_reason": speech.finish_reason,
        "seed": speech.seed,
        "model": model,
        "timings": _timings(timings, len(speech.audio) / speech.sampling_rate),
        "chunks": [
            {"text": piece.text, "start_seconds": piece.start_seconds, "end_seconds": piece.end_seconds}
            for piece in speech.pieces
        ],
        "prompt": parsed.script_echo,
        "reference_transcripts": list(parsed.reference_transcripts),
        "warnings": [*parsed.warnings, *speech.warnings, *([TINY_WARNING] if random_weights else [])],
    }
    if parsed.output.return_audio_tokens:
        response["generated_audio_tokens"] = (
            np.concatenate(speech.audio_codes, axis=1) if speech.audio_codes else [[] for _ in range(8)]
        )
    if parsed.output.return_text_tokens:
        response["generated_text_tokens"] = list(speech.text_token_ids)
    return plain(response)  # type: ignore[no-any-return]


def public_name(checkpoint: str) -> str:
    """A checkpoint as clients may know it: a hub id by the one name of its repository, a folder by its last name."""
    path = Path(checkpoint).expanduser()
    return path.name if path.is_absolute() else reported_name(checkpoint)


def error_response(error: HiggsError) -> dict[str, Any]:
    """The contract's error dict. `error` is a string, because the platform takes anything else for a success."""
    response: dict[str, Any] = {"error": error.message, "error_type": type(error).__name__, "code": error.code}
    if error.field is not None:
        response["field"] = error.field
    if error.hint is not None:
        response["hint"] = error.hint
    return response


def stream_item(part: Part, *, index: int, audio_format: AudioFormat) -> dict[str, Any]:
    """One item of a stream that is not the last."""
    return {
        "index": index,
        "is_final": False,
        "start_seconds": round(part.start_seconds, 4),
        "audio_base64": base64.b64encode(part.data).decode("ascii"),
        "audio_format": audio_format.name,
        "mime_type": audio_format.mime_type,
        "sampling_rate": SAMPLING_RATE,
    }


def plain(value: Any) -> Any:
    """`value` in types that any JSON encoder knows; NaN and infinities, which JSON has not, become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise TypeError(f"{type(value).__name__} has no place in a response")


def _timings(measured: Mapping[str, float], audio_seconds: float) -> dict[str, float]:
    timings = {name: round(measured[name], 4) for name in TIMING_NAMES if name in measured}
    if "total" in measured and audio_seconds > 0:
        # Seconds of work a second of audio: below 1 is faster than speech.
        timings["real_time_factor"] = round(measured["total"] / audio_seconds, 4)
    return timings
