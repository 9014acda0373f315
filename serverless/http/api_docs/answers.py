"""The answers as JSON Schema in the form of OpenAPI 3.0, by the names of their components."""

from __future__ import annotations

from typing import Any

from serverless.delivery.serialise import TIMING_NAMES
from serverless.http.api_docs.request_schema import ref
from serverless.payload.readers.json_schema import Schema

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
SECONDS = {"type": "number"}
FLAG = {"type": "boolean"}
_TEXTS = {"type": "array", "items": TEXT}
_CODES = {"type": "array", "items": {"type": "array", "items": WHOLE}, "description": "8 lists of T codes."}


def record(properties: dict[str, Any], *optional: str) -> Schema:
    """An object that has every one of `properties` but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def null_or(schema: Schema) -> Schema:
    """The schema, or null. (OpenAPI 3.0 ignores what stands beside a $ref.)"""
    return {**schema, "nullable": True}


def listed(name: str) -> Schema:
    """A list of a component."""
    return {"type": "array", "items": ref(name)}


_USAGE = record({f"{kind}_tokens": WHOLE for kind in ("prompt", "completion", "total", "cached")})
_OPENAI_USAGE = record({f"{kind}_tokens": WHOLE for kind in ("input", "output", "total")})
_CHUNK = record({"text": TEXT, "start_seconds": SECONDS, "end_seconds": SECONDS})
_TIMINGS = record(dict.fromkeys((*TIMING_NAMES, "real_time_factor"), SECONDS), *TIMING_NAMES, "real_time_factor")
_ABOUT_SPEECH = {
    "finish_reason": TEXT,
    "seed": WHOLE,
    "duration_seconds": SECONDS,
    "timings": ref("Timings"),
    "warnings": _TEXTS,
}
_LINK = {"audio_url": TEXT, "expires_at": {**TEXT, "format": "date-time"}}
_AUDIO = {**TEXT, "format": "byte", "description": "The file, or the next part of it, in base64."}
_PIECE_TEXT = {**TEXT, "description": "Of the piece that begins here, where one does."}
_ABOUT_AUDIO = {"audio_format": TEXT, "mime_type": TEXT, "sampling_rate": WHOLE}

ANSWERS: dict[str, Schema] = {
    "Error": record({"error": TEXT, "error_type": TEXT, "code": TEXT, "field": TEXT, "hint": TEXT}, "field", "hint")
    | {"description": "What went wrong, in a sentence, and the field that is to blame."},
    "OpenAIError": record({"error": record({"message": TEXT, "type": TEXT, "param": null_or(TEXT), "code": TEXT})}),
    "Unhealthy": record({"error": TEXT, "code": TEXT}),
    "Usage": _USAGE,
    "OpenAIUsage": _OPENAI_USAGE,
    "Chunk": _CHUNK,
    "Timings": {**_TIMINGS, "description": "Seconds from the moment at which the job came in."},
    "Speech": record(
        {
            "audio_base64": _AUDIO,
            **_LINK,
            **_ABOUT_AUDIO,
            **_ABOUT_SPEECH,
            "generated_text": TEXT,
            "usage": ref("Usage"),
            "model": TEXT,
            "chunks": listed("Chunk"),
            "prompt": null_or(TEXT),
            "reference_transcripts": {"type": "array", "items": null_or(TEXT)},
            "generated_audio_tokens": _CODES,
            "generated_text_tokens": {"type": "array", "items": WHOLE},
            "index": WHOLE,
            "is_final": FLAG,
        },
        *("audio_base64", "audio_url", "expires_at", "generated_audio_tokens", "generated_text_tokens"),
        *("index", "is_final"),
    )
    | {"description": "A whole answer, or the last line of a stream."},
    "SpeechPart": record(
        {
            "index": WHOLE,
            "is_final": FLAG,
            "start_seconds": SECONDS,
            "text": _PIECE_TEXT,
            "audio_base64": _AUDIO,
            **_ABOUT_AUDIO,
        },
        "text",
    ),
    "SpeechDelta": record(
        {"type": {**TEXT, "enum": ["speech.audio.delta"]}, "audio": _AUDIO, "text": _PIECE_TEXT}, "text"
    ),
    "SpeechDone": record(
        {"type": {**TEXT, "enum": ["speech.audio.done"]}, "usage": ref("OpenAIUsage"), **_ABOUT_SPEECH}
    ),
    "BatchSuccess": record(
        {
            "index": WHOLE,
            "status": {**TEXT, "enum": ["success"]},
            "audio_data": _AUDIO,
            "media_type": TEXT,
            "usage": ref("OpenAIUsage"),
            **_ABOUT_SPEECH,
            "chunks": listed("Chunk"),
            "generated_audio_tokens": _CODES,
            "generated_text_tokens": {"type": "array", "items": WHOLE},
            **_LINK,
        },
        *("generated_audio_tokens", "generated_text_tokens", *_LINK),
    ),
    "BatchFailure": {
        "allOf": [record({"index": WHOLE, "status": {**TEXT, "enum": ["error"]}}), ref("OpenAIError")],
    },
    "Batch": record(
        {
            "id": TEXT,
            "object": TEXT,
            "results": {"type": "array", "items": {"oneOf": [ref("BatchSuccess"), ref("BatchFailure")]}},
            "total": WHOLE,
            "succeeded": WHOLE,
            "failed": WHOLE,
        }
    ),
    "Model": record(
        {
            "id": TEXT,
            "object": TEXT,
            "created": WHOLE,
            "owned_by": TEXT,
            "random_weights": FLAG,
            "notice": null_or(TEXT),
            "defaults": {"type": "object", "additionalProperties": True},
        }
    ),
    "ModelList": record({"object": TEXT, "data": listed("Model")}),
    "ModelName": record({"id": TEXT, "name": TEXT, "object": TEXT}),
    "ModelNames": record({"object": TEXT, "models": listed("ModelName"), "data": listed("ModelName")}),
    "Ready": record({"status": TEXT}),
}
