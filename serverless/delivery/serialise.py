"""The contract's JSON: of a response, of a part of a stream, of an error. Every entry point answers with these."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from higgs_core.errors import HiggsError
from higgs_core.rates import SAMPLING_RATE
from serverless.delivery.response import AudioPart, SpeechResponse

_SECONDS_DIGITS = 5  # to the sample: there are 24 000 in a second
TIMING_NAMES = ("queue", "voice", "reference", "prefill", "first_audio", "decode", "codec", "encode", "total")

Json = dict[str, Any]


def event_json(event: AudioPart | SpeechResponse) -> Json:
    """An item of a stream, or the answer to a job that does not stream."""
    return part_json(event) if isinstance(event, AudioPart) else response_json(event)


def response_json(response: SpeechResponse) -> Json:
    """The whole answer to a job, or the last item of its stream."""
    audio: Json = {}
    if response.audio is not None:
        audio["audio_base64"] = base64.b64encode(response.audio).decode("ascii")
    item: Json = {} if response.parts is None else {"index": response.parts, "is_final": True}
    return {**audio, **item, **describe(response), **upload_json(response)}


def upload_json(response: SpeechResponse) -> Json:
    """Where the file can be fetched, if it was uploaded."""
    if response.upload is None:
        return {}
    expires_at = response.upload.expires_at.isoformat().replace("+00:00", "Z")
    return {"audio_url": response.upload.url, "expires_at": expires_at}


def describe(response: SpeechResponse) -> Json:
    """Everything in a response but the audio itself and where it is, in plain JSON types."""
    speech, output = response.speech, response.job.output
    description: Json = {
        "audio_format": response.audio_format.name,
        "mime_type": response.audio_format.mime_type,
        "sampling_rate": speech.sampling_rate,
        "duration_seconds": round(response.duration_seconds, _SECONDS_DIGITS),
        "generated_text": speech.text,
        "usage": dict(speech.usage),
        "finish_reason": speech.finish_reason,
        "seed": speech.seed,
        "model": response.model,
        "timings": timings_json(response),
        "chunks": [
            {"text": piece.text, "start_seconds": piece.start_seconds, "end_seconds": piece.end_seconds}
            for piece in speech.pieces
        ],
        "prompt": response.job.script_echo,
        "reference_transcripts": list(response.job.reference_transcripts),
        "warnings": list(response.warnings),
    }
    if output.return_audio_tokens:
        description["generated_audio_tokens"] = (
            np.concatenate(speech.audio_codes, axis=1) if speech.audio_codes else [[] for _ in range(8)]
        )
    if output.return_text_tokens:
        description["generated_text_tokens"] = list(speech.text_token_ids)
    return plain(description)  # type: ignore[no-any-return]


def timings_json(response: SpeechResponse) -> dict[str, float]:
    """Seconds by name, those that were measured, and the real-time factor."""
    timings = {name: round(response.timings[name], 4) for name in TIMING_NAMES if name in response.timings}
    if response.real_time_factor is not None:
        timings["real_time_factor"] = round(response.real_time_factor, 4)
    return timings


def part_json(part: AudioPart) -> Json:
    """One item of a stream that is not the last; `text` where the audio of a piece of the script begins in it."""
    text = {} if part.text is None else {"text": part.text}
    return {
        **text,
        "index": part.index,
        "is_final": False,
        "start_seconds": round(part.start_seconds, _SECONDS_DIGITS),
        "audio_base64": base64.b64encode(part.data).decode("ascii"),
        "audio_format": part.audio_format.name,
        "mime_type": part.audio_format.mime_type,
        "sampling_rate": SAMPLING_RATE,
    }


def error_json(error: HiggsError) -> Json:
    """The contract's error. `error` is a string, because the platform takes anything else for a success."""
    body: Json = {"error": error.message, "error_type": type(error).__name__, "code": error.code}
    return body | {name: value for name, value in (("field", error.field), ("hint", error.hint)) if value is not None}


def serialised_bytes(response: Mapping[str, Any]) -> int:
    """The size of `response` as the SDK posts it. Raises ValueError for NaN, TypeError for what is not JSON."""
    return len(json.dumps({"output": response}, ensure_ascii=False, allow_nan=False).encode())


def base64_length(size: int) -> int:
    """Bytes that `"audio_base64": "..."` takes in JSON for `size` bytes of audio."""
    return 4 * -(-size // 3) + len(', "audio_base64": ""')


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
