"""The tables of request_fields.py as JSON Schema in the form of OpenAPI 3.0, by the names of their components."""

from __future__ import annotations

from typing import Any

from serverless.config.settings import Settings
from serverless.http.api_docs.field_descriptions import DESCRIPTIONS
from serverless.payload.batch import MAX_ITEMS
from serverless.payload.field_table import REQUIRED, Field, Table
from serverless.payload.openai import DEFAULT_FORMAT, MODEL_ALIASES
from serverless.payload.readers.json_schema import Schema, schema_of
from serverless.payload.request_fields import (
    MessageFields,
    ReferenceFields,
    RequestFields,
    SpeakerFields,
    TurnFields,
)
from serverless.payload.voice_fields import DesignedVoiceFields, SavedVoiceFields, UploadedVoiceFields

_OPENAI_NAMES = {"script": "input", "scene_prompt": "instructions"}
_WITHOUT_DEFAULT = ("system_prompt", "max_new_tokens")  # the operator's own words; what follows the text
_ENTRIES = {"references": "Reference", "dialogue": "Turn", "messages": "Message"}
_WORDS = (*RequestFields.script.names, "dialogue", "messages")


def request_schemas(settings: Settings) -> dict[str, Schema]:
    """Every body of a request and what it is made of. The ranges and defaults are those of `settings`."""
    components = {
        "Reference": _object(ReferenceFields, settings),
        "Speaker": _object(SpeakerFields, settings),
        "Turn": _object(TurnFields, settings),
        "Message": _object(MessageFields, settings),
    }
    job = _object(RequestFields, settings) | {"anyOf": [{"required": [name]} for name in _WORDS]}
    job["example"] = {"script": "Hello. It is a fine day.", "temperature": 0.3}
    speech = _speech(settings)
    of_an_item = {name: schema for name, schema in speech["properties"].items() if name != "stream_format"}
    return {
        **components,
        "JobInput": job,
        "Job": {
            "type": "object",
            "required": ["input"],
            "properties": {
                "input": ref("JobInput"),
                "s3Config": {
                    "type": "object",
                    "description": "A bucket of the job's own.",
                    "additionalProperties": True,
                },
            },
        },
        "SpeechRequest": speech,
        "BatchItem": {"type": "object", "properties": of_an_item},
        "BatchRequest": _batch(),
        "UploadedVoice": _uploaded(settings),
        "DesignedVoice": _object(DesignedVoiceFields, settings),
        "SavedVoice": _object(SavedVoiceFields, settings),
    }


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(table: type[Table], settings: Settings, renamed: dict[str, str] | None = None) -> Schema:
    names = renamed or {}
    properties = {names.get(field.name, field.name): _field(table, field, settings) for field in table.fields}
    required = [field.name for field in table.fields if field.default is REQUIRED and field.setting is None]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _field(table: type[Table], field: Field[Any], settings: Settings) -> Schema:
    schema = _with_entries(table, field, schema_of(field.reader, settings))
    name = _OPENAI_NAMES.get(field.name, "")
    aliases = [alias for alias in field.names[1:] if alias != name]
    schema["description"] = DESCRIPTIONS[table].get(field.name, "")
    if aliases:
        schema["description"] += f" Also as {', '.join(aliases)}."
        schema["x-aliases"] = aliases
    default = getattr(settings, field.setting) if field.setting else field.default
    if default is not REQUIRED and default is not None and field.name not in _WITHOUT_DEFAULT:
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema


def _with_entries(table: type[Table], field: Field[Any], schema: Schema) -> Schema:
    """The schema of a list or an object with what it holds, where its entries are tables of their own."""
    if table is RequestFields and field.name == "speakers":
        return {**schema, "additionalProperties": ref("Speaker")}
    if table is not RequestFields or field.name not in _ENTRIES:
        return schema
    several = {**schema, "type": "array", "items": ref(_ENTRIES[field.name])}
    return {"anyOf": [several["items"], several]} if field.name == "references" else several


def _speech(settings: Settings) -> Schema:
    """OpenAI's names first, then everything else of the contract."""
    properties = _object(RequestFields, settings, _OPENAI_NAMES)["properties"]
    del properties["stream"]  # it always streams
    properties["response_format"]["default"] = DEFAULT_FORMAT
    model = {"type": "string", "description": "The served model, or a name of OpenAI's, also with a date."}
    stream_format = {
        "type": "string",
        "enum": ["audio", "sse"],
        "default": "audio",
        "description": "The bytes of the audio, or events that hold them in base64.",
    }
    first = {
        "model": model | {"example": MODEL_ALIASES[0]},
        **{name: properties.pop(name) for name in ("input", "voice", "instructions", "response_format", "speed")},
        "stream_format": stream_format,
    }
    return {
        "type": "object",
        "properties": {**first, **properties},
        "anyOf": [{"required": [name]} for name in _WORDS],
        "example": {"model": "tts-1", "voice": "default", "input": "Hello. It is a fine day."},
    }


def _uploaded(settings: Settings) -> Schema:
    """A form: its texts, and the clip as a file."""
    form = _object(UploadedVoiceFields, settings)
    sample = {"type": "string", "format": "binary", "description": "The clip, 3 to 30 seconds of clear speech."}
    return {
        **form,
        "properties": {"audio_sample": sample, **form["properties"]},
        "required": ["audio_sample", *form["required"]],
    }


def _batch() -> Schema:
    items = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_ITEMS,
        "items": ref("BatchItem"),
        "description": "What differs from item to item; it goes before the fields beside items.",
    }
    return {
        "allOf": [ref("BatchItem"), {"type": "object", "required": ["items"], "properties": {"items": items}}],
        "example": {"items": [{"input": "One."}, {"input": "Two.", "voice": "default"}], "model": "tts-1"},
    }
