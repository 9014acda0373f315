"""What a client of a live session may send, one message at a time, as vllm-omni's clients send it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from higgs_core.errors import RequestError
from serverless.payload.readers.values import Refused, shown
from serverless.payload.request_fields import RequestFields

CONFIG, TEXT, DONE, CANCEL, CLOSE = "session.config", "input.text", "input.done", "input.cancel", "session.close"
_TYPES = ", ".join((CONFIG, TEXT, DONE, CANCEL))
# What to speak comes in messages of its own.
_TEXT_FIELDS = (*RequestFields.script.names, "dialogue", "messages", "openai_route", "openai_input")
# Of the speech request, but without a meaning here: a session always streams, and its audio comes in its own frames.
_DROPPED_FIELDS = frozenset({"type", "model", "api_key", "stream_audio", "stream", "stream_format", "delivery"})


@dataclass(frozen=True)
class Config:
    """fields: of a job, but for its text.  stream_audio: several frames a sentence, as it is generated.

    model, api_key: what the client sent there, of any type.
    """

    fields: Mapping[str, Any]
    stream_audio: bool
    model: object
    api_key: object


@dataclass(frozen=True)
class Text:
    """A piece of the utterance's text."""

    text: str


@dataclass(frozen=True)
class Done:
    """The utterance's text is complete."""


@dataclass(frozen=True)
class Cancel:
    """Be silent."""


@dataclass(frozen=True)
class Close:
    """The client has had enough."""


ClientMessage = Config | Text | Done | Cancel | Close
_PLAIN: Mapping[str, ClientMessage] = {DONE: Done(), CANCEL: Cancel(), CLOSE: Close()}


def message_of(body: Mapping[str, Any]) -> ClientMessage:
    """Raises RequestError for an unknown type or a field of the wrong one; a config's own fields are checked later."""
    kind = body.get("type")
    if kind == CONFIG:
        return _config_of(body)
    if kind == TEXT:
        text = body.get("text")
        if not isinstance(text, str):
            raise Refused(text, "a string").as_error("text")
        return Text(text)
    if isinstance(kind, str) and kind in _PLAIN:
        return _PLAIN[kind]
    raise RequestError(f"type is {shown(kind)}; allowed is {_TYPES} or {CLOSE}.", field="type")


def _config_of(body: Mapping[str, Any]) -> Config:
    stream_audio = body.get("stream_audio")
    if stream_audio is not None and not isinstance(stream_audio, bool):
        raise Refused(stream_audio, "true or false").as_error("stream_audio")
    for name in _TEXT_FIELDS:
        if body.get(name) is not None:
            raise RequestError(
                f"{name} has no place in a session's configuration.", field=name, hint="Send input.text messages."
            )
    fields = {name: value for name, value in body.items() if name not in _DROPPED_FIELDS}
    if isinstance(voice := body.get("voice"), Mapping):  # a voice of one's own comes as {"id": name}
        fields["voice"] = voice.get("id")
    return Config(fields, bool(stream_audio), body.get("model"), body.get("api_key"))
