"""OpenAI's speech request as a job's `input`.

`input`, `instructions`, `voice`, `response_format` and `speed` are names of RequestFields too, so that an error names
the field that the client sent; only what means something else in OpenAI's API is converted here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from higgs_core.errors import RequestError
from serverless.payload.readers.values import Refused, is_blank
from serverless.payload.request_fields import RequestFields

SPEECH_ROUTE = "/v1/audio/speech"
MODEL_ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "higgs-audio-v2")
"""Names that clients send because their library insists on one: there is one model here."""
_DATED_ALIAS = re.compile(r"(tts-1|tts-1-hd|gpt-4o-mini-tts)-(\d{4}-\d{2}-\d{2}|\d{4})", re.ASCII)
_LONGEST_ROUTE = 100  # with the slashes around it
DEFAULT_FORMAT = "mp3"  # OpenAI's: its clients save what comes without a response_format as .mp3
# There is one model, whatever a client calls it, and the HTTP server itself reads stream_format.
_NOT_JOB_FIELDS = ("model", "stream_format")


def is_model_alias(name: str) -> bool:
    """Whether OpenAI's clients know a speech model by that name, with or without a date: tts-1-1106."""
    return name in MODEL_ALIASES or _DATED_ALIAS.fullmatch(name) is not None


def to_job_input(route: object, body: object) -> dict[str, Any]:
    """OpenAI's body for `route` as our `input`; our own names in it (a client's extra_body) stay as they are.

    Raises RequestError for another route, a body that is no object, or one without anything to speak.
    """
    if not isinstance(route, str) or len(route) > _LONGEST_ROUTE or route.strip("/") != SPEECH_ROUTE.strip("/"):
        raise RequestError(f"The route is not served; allowed is {SPEECH_ROUTE}.", field="openai_route")
    if not isinstance(body, Mapping):
        raise Refused(body, "an object with input and voice").as_error("openai_input")
    words = (*RequestFields.script.names, "dialogue", "messages")
    if all(is_blank(body.get(name)) for name in words):
        raise RequestError("input is missing or blank; send the words to speak.", field="input")
    job_input = dict(body)
    for name in _NOT_JOB_FIELDS:
        job_input.pop(name, None)
    if is_blank(body.get("response_format")):
        job_input["response_format"] = DEFAULT_FORMAT
    return job_input
