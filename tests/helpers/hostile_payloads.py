"""Job inputs that mean harm: every field of the contract with every kind of value that is large, odd or deep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from serverless.payload.field_table import Table
from serverless.payload.request_fields import (
    AudioPartFields,
    EnvelopeFields,
    MessageFields,
    ReferenceFields,
    RequestFields,
    SpeakerFields,
    TextPartFields,
    TurnFields,
)

URL = "https://example.com/a.wav"
PLACES: dict[str, tuple[type[Table], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "input": (RequestFields, lambda body: {"script": "Hello.", **body}),
    "openai_input": (
        RequestFields,
        lambda body: {"openai_route": "/v1/audio/speech", "openai_input": {"input": "Hello.", **body}},
    ),
    "envelope": (EnvelopeFields, lambda body: {"openai_route": "/v1/audio/speech", "openai_input": {}, **body}),
    "references": (ReferenceFields, lambda body: {"script": "Hello.", "references": [{"url": URL, **body}]}),
    "speakers": (SpeakerFields, lambda body: {"script": "Hello.", "speakers": {"Ann": {"url": URL, **body}}}),
    "dialogue": (TurnFields, lambda body: {"dialogue": [{"speaker": "Ann", "text": "Hello.", **body}]}),
    "messages": (MessageFields, lambda body: {"messages": [{"role": "user", "content": "Hello.", **body}]}),
    "text part": (
        TextPartFields,
        lambda body: {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello.", **body}]}]},
    ),
    "audio part": (
        AudioPartFields,
        lambda body: {"messages": [{"role": "user", "content": [{"type": "audio", "url": URL, **body}]}]},
    ),
}
"""Where an object of a table stands in a payload: the table, and the payload around further keys of the object."""


@dataclass(frozen=True)
class Size:
    """How large the values are: entries of a list, keys of an object, characters of a text."""

    entries: int
    keys: int
    characters: int


FULL = Size(1_000_000, 500_000, 30_000_000)
"""What a body of the largest size holds, and more."""


def hostile_values(size: Size) -> dict[str, Any]:
    """Values by name. The same object stands in many places of one list, which a reader cannot tell."""
    entry = {"speaker": "Ann", "text": "Hi.", "role": "user", "content": "Hi.", "url": URL}
    lists: dict[str, Any] = {
        "nulls": None,
        "blanks": " ",
        "words": "word",
        "numbers": 7,
        "lists": [],
        "objects": {},
        "entries": entry,
        "lists of lists": [[[]]],
    }
    objects: dict[str, Any] = {"nulls": None, "words": "word", "objects": {}, "lists": [], "entries": entry}
    texts = {
        "letters": "a",
        "blanks": " ",
        "lines": "\n",
        "digits": "1",
        "brackets": "[",
        "tags": "[SPEAKER0] ",
        "slashes": "/",
        "combining marks": "e\u0301",
        "right to left": "\u202e\u05d0",
        "zero width": "\u200b",
        "emoji": "\U0001f469\u200d\U0001f4bb",
        "null characters": "\0",
        "surrogates": "\ud800",
        "degrees": "°F",
        "dots": "…",
    }
    found: dict[str, Any] = {f"list of {name}": [value] * size.entries for name, value in lists.items()}
    found["list of mixed"] = [None, "", 1, 1.5, True, [], {}, entry] * (size.entries // 8)
    found |= {f"object of {name}": {f"k{i}": value for i in range(size.keys)} for name, value in objects.items()}
    found |= {f"text of {name}": text * (size.characters // len(text)) for name, text in texts.items()}
    found["deep list"] = nested(lambda inner: [inner], 900)
    found["deep object"] = nested(lambda inner: {"a": inner}, 900)
    found["number of many digits"] = 10**4000
    found["largest float"] = 1.7e308
    return found


def nested(around: Callable[[Any], Any], depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = around(value)
    return value


def hostile_fields(values: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(place and field, name of the value, payload) for every field and alias of every object of the contract."""
    for place, (table, around) in PLACES.items():
        for name in sorted({alias for field in table.fields for alias in field.names}):
            for kind, value in values.items():
                yield f"{place}.{name}", kind, around({name: value})


def hostile_wholes(size: Size) -> dict[str, Callable[[], dict[str, Any]]]:
    """Payloads, by name, that are hostile by how their parts add up."""
    turn = {"speaker": "Ann", "text": "Hi."}
    clip = {"url": URL}
    return {
        "turns": lambda: {"dialogue": [turn] * size.entries},
        "turns of long texts": lambda: {"dialogue": [{"speaker": "Ann", "text": "a" * 19_999}] * size.entries},
        "turns of many speakers": lambda: {"dialogue": [{"speaker": f"s{i}", "text": "a"} for i in range(size.keys)]},
        "turns of unknown fields": lambda: {"dialogue": [{**turn, **{f"k{i}": 1 for i in range(300)}}] * 1_600},
        "speakers": lambda: {"script": "Hello.", "speakers": {f"s{i}": clip for i in range(size.keys)}},
        "references": lambda: {"script": "Hello.", "references": [clip] * size.entries},
        "blank references": lambda: {"script": "Hello.", "references": [{"url": ""}] * size.entries},
        "messages": lambda: {"messages": [{"role": "user", "content": "a"}] * size.entries},
        "messages without content": lambda: {"messages": [{"role": "user"}] * size.entries},
        "messages of empty lists": lambda: {"messages": [{"role": "user", "content": []}] * size.entries},
        "parts": lambda: {"messages": [{"role": "user", "content": ["a"] * size.entries}]},
        "messages of long texts": lambda: {"messages": [{"role": "user", "content": ["a" * 19_999] * 500}] * 3},
        "messages of clips": lambda: {"messages": [{"role": "user", "content": [{"type": "audio", **clip}] * 500}] * 3},
        "messages of unknown fields": lambda: {
            "messages": [{"role": "user", **{f"k{i}": 1 for i in range(900)}}] * 500
        },
        "unknown fields": lambda: {"script": "Hello.", **{f"unknown {i}": None for i in range(size.keys)}},
        "unknown fields of OpenAI": lambda: {
            "openai_route": "/v1/audio/speech",
            "openai_input": {"input": "Hello.", **{f"k{i}": None for i in range(size.keys)}},
        },
        "unknown fields that nearly are fields": lambda: {
            "script": "Hello.",
            **{f"reference_audio_base6{i:043}": None for i in range(size.keys // 10)},
        },
        "long unknown fields": lambda: {"script": "Hello.", **{f"{i}" + "k" * 20_000: None for i in range(1_000)}},
        "stop strings": lambda: {"script": "Hello.", "stop_strings": ["a"] * size.entries},
    }
