"""What can be said of a job's `input` where it is written, before a worker sees it: names, types and ranges of fields.

The worker checks again, against its own settings and voices. Its limits may be wider than the usual ones, so this
check uses the widest that any worker can have.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from higgs_core.errors import RequestError
from higgs_core.speech.voices import VoiceLibrary
from serverless.config.limits import PREFIX
from serverless.config.settings import Settings
from serverless.payload.field_table import ParseContext
from serverless.payload.request_fields import ReferenceFields, RequestFields, SpeakerFields, TurnFields

_ONLY_WITH_FFMPEG = "aac"  # a worker may have what this machine has not


def check_input(job_input: object) -> tuple[str, ...]:
    """Warnings, among them every unknown field with the nearest name that is known.

    Raises RequestError for the first field whose type or range no worker takes, and where there is nothing to speak.
    """
    if not isinstance(job_input, Mapping):
        raise RequestError('input is not an object such as {"script": "Hello."}.', field="input")
    if "openai_route" in job_input or "openai_input" in job_input:
        return ()  # OpenAI's fields in an envelope of the platform's
    body = {name: value for name, value in job_input.items() if not _is_aac(name, value)}
    context = ParseContext(_widest(), VoiceLibrary())
    fields = RequestFields(body, context)
    for index, entry in enumerate(fields.references or ()):
        ReferenceFields(entry, context, f"{fields.path_given('references')}[{index}]")
    for index, entry in enumerate(fields.dialogue or ()):
        TurnFields(entry, context, f"dialogue[{index}]")
    for name, speaker in (fields.speakers or {}).items():
        if isinstance(speaker, Mapping):
            SpeakerFields(speaker, context, f"speakers.{name}")
    if not any(name in fields.given for name in ("script", "dialogue", "messages")):
        raise RequestError("There is nothing to speak: 'script' is missing or empty.", field="script")
    return context.warnings


def _is_aac(name: object, value: object) -> bool:
    return name == "response_format" and isinstance(value, str) and value.strip().lower() == _ONLY_WITH_FFMPEG


@cache
def _widest() -> Settings:
    limits = {
        "MAX_SCRIPT_CHARACTERS": 1_000_000,
        "MAX_MESSAGE_PARTS": 10_000,
        "MAX_REFERENCES": 64,
        "MAX_REFERENCE_BYTES": 100_000_000,
        "MAX_CONTEXT": 131_072,
        "MAX_NEW_TOKENS": 131_072,
        "MAX_DOWNLOAD_TIMEOUT": 3600,
    }
    return Settings.from_environment({f"{PREFIX}{name}": str(value) for name, value in limits.items()})
