"""What one round sends through one door: drawn from a seed, a mixture of everything that clients do."""

from __future__ import annotations

import json
import random
import shutil
from typing import Any

from serverless.local.assets import with_address
from tests.helpers.paths import CLIP, ROOT
from tests.soak.clips import base64_text, hostile_clips, random_clip
from tests.soak.door import MAX_REQUEST_BYTES
from tests.soak.planned import LEFT, SPOKEN, Door, Kind, Leaving, Planned

_WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dogs",
    "while",
    "rain",
    "falls",
    "on",
    "quiet",
    "houses",
)
_SHORT = 60
"""Most decode steps of a piece: 2.4 seconds of speech."""

_GONE = SPOKEN | {LEFT}
_REFUSED = frozenset({"invalid_request"})
_BAD_CLIP = frozenset({"invalid_reference"})
_FORMATS = ("wav", "flac", "mp3", "opus", "pcm")


def one_round(door: Door, seed: int, number: int, server: str) -> list[Planned]:
    """The jobs of a round in the order in which they are sent: as many of each kind in every round.

    server: the address of `clip_server`, with a slash at its end.
    """
    draw = random.Random(f"{seed} {door} {number}")
    planned = [
        *_test_inputs(server),
        *_valid(draw),
        *_with_clips(draw, server),
        *_streams(draw, door),
        *_left(draw),
        *_invalid(),
        *_hostile(draw, server),
        *(_duplicates(draw) if door == "queue" else [*_of_openai(draw), *_broken_bodies(draw)]),
    ]
    draw.shuffle(planned)
    return planned


def _words(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(_WORDS, k=count)).capitalize() + "."


def _script(draw: random.Random, least: int = 1, most: int = 30) -> dict[str, Any]:
    """A request for one short piece that no other round sends."""
    words = draw.randint(least, most)
    steps = draw.randint(10, _SHORT)
    return {"script": _words(draw, words), "seed": draw.randrange(2**32), "max_new_tokens": steps}


def _test_inputs(server: str) -> list[Planned]:
    """Every file of test_inputs/, the same in each round."""
    planned = []
    for file in sorted((ROOT / "test_inputs").glob("*.json")):
        job_input = with_address(json.loads(file.read_text()), server)["input"]
        job_input.get("openai_input", job_input)["max_new_tokens"] = _SHORT
        kind: Kind = "stream" if file.stem == "stream" else "valid"
        planned.append(Planned(file.stem, kind, job_input, repeats=True))
    return planned


def _valid(draw: random.Random) -> list[Planned]:
    plain = [Planned("plain", "valid", _script(draw)) for _ in range(8)]
    formats = [
        Planned(name, "valid", {**_script(draw), "response_format": name, "return_audio_tokens": draw.random() < 0.3})
        for name in _FORMATS
    ]
    pieces = {"chunk_method": "sentence", "script": " ".join(_words(draw, 6) for _ in range(draw.randint(2, 6)))}
    planned = [*plain, *formats, Planned("several pieces", "valid", {**_script(draw), **pieces})]
    if shutil.which("ffmpeg") is not None:
        planned.append(Planned("aac", "valid", {**_script(draw), "response_format": "aac"}))
    planned.append(Planned("speed", "valid", {**_script(draw), "speed": round(draw.uniform(0.5, 2.0), 2)}))
    planned.append(Planned("loudness", "valid", {**_script(draw), "loudness": draw.randint(-30, -10)}))
    return planned


def _with_clips(draw: random.Random, server: str) -> list[Planned]:
    sources: list[dict[str, Any]] = [{"audio_base64": base64_text(random_clip(draw))} for _ in range(4)]
    sources += [{"audio_url": f"{server}clip/{draw.getrandbits(32)}"} for _ in range(2)]
    sources += [{"path": str(CLIP)}, {"voice": "reference"}]
    planned = [Planned("a clip", "clip", {**_script(draw), "references": [source]}) for source in sources]
    both = [{"audio_url": f"{server}reference.wav"}, {"audio_base64": base64_text(random_clip(draw))}]
    tagged = [{**source, "speaker_tag": f"SPEAKER{at}"} for at, source in enumerate(both)]
    dialogue = [{"speaker": f"SPEAKER{at % 2}", "text": _words(draw, 4)} for at in range(3)]
    rest = {name: value for name, value in _script(draw).items() if name != "script"}
    return [*planned, Planned("two clips", "clip", {**rest, "dialogue": dialogue, "references": tagged})]


def _streams(draw: random.Random, door: Door) -> list[Planned]:
    planned = [
        Planned("stream", "stream", {**_script(draw), "stream": True, "response_format": draw.choice(_FORMATS)})
        for _ in range(6)
    ]
    if door == "queue":  # the platform takes a stream's items as fast as they come
        return planned
    slow = [Planned("stream read slowly", "stream", {**_script(draw), "stream": True}, slow=True) for _ in range(2)]
    left = [
        Planned(
            "stream abandoned",
            "cancelled",
            {**_long(draw), "stream": True},
            expected=_GONE,
            leaving=Leaving(answer_bytes=draw.randrange(1, 100_000)),
        )
        for _ in range(4)
    ]
    return [*planned, *slow, *left]


def _long(draw: random.Random) -> dict[str, Any]:
    """Several seconds of work, so that a client can leave in its middle."""
    script = " ".join(_words(draw, 8) for _ in range(12))
    return {"script": script, "chunk_method": "sentence", "seed": draw.randrange(2**32), "max_new_tokens": 200}


def _left(draw: random.Random) -> list[Planned]:
    return [
        Planned(
            "job cancelled",
            "cancelled",
            {**_long(draw), "stream": draw.random() < 0.5},
            expected=_GONE,
            leaving=Leaving(seconds=draw.uniform(0.01, 0.8)),
        )
        for _ in range(8)
    ]


def _invalid() -> list[Planned]:
    """One of each, the same in every round."""
    jobs: dict[str, Any] = {
        "no text": {"seed": 1},
        "an empty script": {"script": "  "},
        "a script too long": {"script": "word " * 5_000},
        "a negative temperature": {"script": "Hello.", "temperature": -1},
        "a seed of text": {"script": "Hello.", "seed": "x" * 1_000},
        "an unknown format": {"script": "Hello.", "response_format": "midi"},
        "an unknown voice": {"script": "Hello.", "voice": "nobody"},
        "references that are numbers": {"script": "Hello.", "references": [1, 2]},
        "half a surrogate pair": {"script": "Hello \ud800."},
        "messages of a wrong role": {"messages": [{"role": "robot", "content": "Hello."}]},
        "too many references": {"script": "Hello.", "references": [{"voice": "reference"}] * 17},
        "speed out of range": {"script": "Hello.", "speed": 100},
        "no bucket": {"script": "Hello.", "delivery": "s3"},
    }
    return [Planned(shape, "invalid", job_input, expected=_REFUSED, repeats=True) for shape, job_input in jobs.items()]


def _hostile(draw: random.Random, server: str) -> list[Planned]:
    clips: dict[str, dict[str, Any]] = {
        shape: {"audio_base64": base64_text(data)} for shape, data in hostile_clips(draw).items()
    }
    clips["base64 that is none"] = {"audio_base64": "!" * draw.randrange(1, 10_000)}
    clips["a path outside"] = {"path": "/etc/passwd"}
    clips["a missing file"] = {"audio_url": f"{server}missing.wav"}
    clips["a redirect to itself"] = {"audio_url": f"{server}loop"}
    clips["a server without end"] = {"audio_url": f"{server}endless"}
    clips["a server without an answer"] = {"audio_url": f"{server}silent"}
    clips["a closed port"] = {"audio_url": "http://127.0.0.1:9/clip.wav"}
    clips["a metadata service"] = {"audio_url": "http://169.254.169.254/latest/"}
    return [
        Planned(
            shape,
            "hostile",
            {**_script(draw), "references": [clip], "download_timeout": 0.3},
            expected=_BAD_CLIP,
        )
        for shape, clip in clips.items()
    ]


def _duplicates(draw: random.Random) -> list[Planned]:
    """Jobs that the platform delivers twice."""
    return [Planned("delivered twice", "duplicate", _script(draw)) for _ in range(3)]


def _of_openai(draw: random.Random) -> list[Planned]:
    planned = []
    for stream_format in ("audio", "sse"):
        for name in draw.sample(_FORMATS, 2):
            script = _script(draw)
            body = {**script, "input": script["script"], "response_format": name, "stream_format": stream_format}
            del body["script"]
            planned.append(Planned(f"speech as {stream_format}", "stream", body, route="/v1/audio/speech"))
    body = {"input": "Hello.", "model": "another"}
    refused = frozenset({"model_not_found"})
    planned.append(Planned("another model", "invalid", body, expected=refused, repeats=True, route="/v1/audio/speech"))
    return planned


def _broken_bodies(draw: random.Random) -> list[Planned]:
    def raw(shape: str, body: bytes, code: str, route: str = "/generate", **headers: str) -> Planned:
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return Planned(shape, "invalid", expected=frozenset({code}), route=route, raw=body, headers=sent)

    deep = b'{"input": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    return [
        raw("not JSON", draw.randbytes(draw.randrange(1, 1_000)), "invalid_request"),
        raw("nested too deep", deep, "invalid_request"),
        raw("a list", b"[1, 2]", "invalid_request"),
        raw("no input", b'{"script": "Hello."}', "invalid_request"),
        raw("a form", b"input=Hello", "unsupported_media_type", Content_Type="application/x-www-form-urlencoded"),
        raw("too large", b" " * (MAX_REQUEST_BYTES + 1), "request_too_large"),
        raw("no such page", b"{}", "not_found", route="/nowhere"),
        Planned(
            "half a body",
            "cancelled",
            expected=frozenset({LEFT}),
            raw=b'{"input": {"script": "Hel',
            headers={"Content-Type": "application/json", "Content-Length": "1000"},
            leaving=Leaving(seconds=draw.uniform(0.01, 0.2)),
        ),
    ]


def counts(planned: list[Planned]) -> dict[str, int]:
    """Jobs by kind."""
    kinds = sorted({job.kind for job in planned})
    return {kind: sum(job.kind == kind for job in planned) for kind in kinds}
