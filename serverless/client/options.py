"""The options that the single call and the batch share: where jobs go, how they are spoken, in which format."""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from serverless.client.errors import ClientError, printable
from serverless.client.link import OWN_KEY, RUNPOD_KEY
from serverless.client.transports import HttpTransport, QueueTransport, StreamTransport

RUNPOD_QUEUE_URL = "https://api.runpod.ai/v2"
_RUNPOD_DOMAIN = ".runpod.ai"
SUFFIXES = {
    ".wav": "wav",
    ".flac": "flac",
    ".mp3": "mp3",
    ".opus": "opus",
    ".ogg": "opus",
    ".pcm": "pcm",
    ".aac": "aac",
}
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
MAX_INPUT_BYTES = 64_000_000
"""Of a file or a text that the client reads."""


def add_place(parser: argparse.ArgumentParser) -> None:
    """--endpoint or --url, and what belongs to them."""
    group = parser.add_argument_group("where the work is done (one of --endpoint and --url)")
    where = group.add_mutually_exclusive_group(required=True)
    where.add_argument("--endpoint", metavar="ID", help="id of a RunPod queue endpoint")
    where.add_argument("--url", help="address of the HTTP server, or of a load-balancing endpoint")
    group.add_argument(
        "--mode",
        choices=("queue", "stream"),
        default="queue",
        help="how a queue endpoint is read: whole results, or parts as they are generated (default: %(default)s)",
    )
    group.add_argument("--api", default=RUNPOD_QUEUE_URL, help="address of the queue's API (default: %(default)s)")


def add_speech(parser: argparse.ArgumentParser) -> None:
    """How it is spoken."""
    group = parser.add_argument_group("how it is spoken")
    group.add_argument("--voice", metavar="NAME", help="a name of the voice library")
    group.add_argument("--scene", metavar="TEXT", help="where and how it is spoken")
    group.add_argument("--reference", type=Path, metavar="FILE", help="an audio file whose voice is to be used")
    group.add_argument("--transcript", metavar="TEXT", help="the words spoken in the reference")
    group.add_argument("--seed", type=int, help="makes the result repeatable")
    group.add_argument("--format", choices=sorted(FORMATS), help="format of the audio")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other field of the input, such as temperature=0.5; may be given several times",
    )


def speech_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of the input that the options of `add_speech` name, without the format. Raises ClientError."""
    fields: dict[str, Any] = {}
    for name, value in (("scene_prompt", options.scene), ("voice", options.voice), ("seed", options.seed)):
        if value is not None:
            fields[name] = value
    if options.reference is not None:
        clip = {"audio_base64": base64.b64encode(read_bytes(options.reference)).decode("ascii")}
        fields["references"] = [{**clip, **({"transcript": options.transcript} if options.transcript else {})}]
    elif options.transcript:
        raise ClientError("--transcript has the words of a clip; give the clip too, with --reference.")
    for assignment in options.set:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ClientError(f"--set needs NAME=VALUE; {name!r} has no value.")
        fields[name] = _json_or_text(text)
    return fields


def format_of(path: Path) -> str:
    """The format that a file's suffix names. Raises ClientError."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        *others, last = SUFFIXES
        said = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise ClientError(f"{path} has {said}; allowed is {', '.join(others)} or {last}.") from None


def agreed_format(output: Path | None, named: Mapping[str, object]) -> str | None:
    """The format of the output's suffix and of what else names one; None where nothing does.

    named: format by who names it, such as {"--format": "mp3"}; a value that is none is left out.
    Raises ClientError for a suffix that is no format's, and where two disagree.
    """
    wanted = {who: name.strip().lower() for who, name in named.items() if isinstance(name, str) and name.strip()}
    if output is not None:
        own = format_of(output)
        for who, name in wanted.items():
            if name != own:
                suffixes = " or ".join(suffix for suffix, known in SUFFIXES.items() if known == name)
                remedy = f"give a name with {suffixes}" if suffixes else f"give one of {', '.join(FORMATS)}"
                raise ClientError(f"{output} is to be {own} by its suffix and {who} is {name}; {remedy}.")
        return own
    if len(set(wanted.values())) > 1:
        raise ClientError(f"{' and '.join(f'{who} is {name}' for who, name in wanted.items())}; give one of them.")
    return next(iter(wanted.values()), None)


def open_transport(options: argparse.Namespace, environment: Mapping[str, str]) -> HttpTransport | QueueTransport:
    """The transport that the options name, with the key that belongs to it. Raises ClientError."""
    if options.url is not None:
        _host_of(options.url, "--url")
        return HttpTransport(options.url, environment.get(key_variable(options)))
    if not (key := environment.get(RUNPOD_KEY)):
        raise ClientError(f"{RUNPOD_KEY} is not set; RunPod's console makes one under Settings, API Keys.")
    _host_of(options.api, "--api")
    transport = StreamTransport if options.mode == "stream" else QueueTransport
    return transport(f"{options.api.rstrip('/')}/{quote(options.endpoint, safe='')}", key)


def key_variable(options: argparse.Namespace) -> str:
    """The variable with the key. RunPod's key goes to RunPod only. Raises ClientError."""
    if options.url is None or f".{_host_of(options.url, '--url')}".endswith(_RUNPOD_DOMAIN):
        return RUNPOD_KEY
    return OWN_KEY


def read_bytes(path: Path) -> bytes:
    """A whole file of at most MAX_INPUT_BYTES. Raises ClientError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INPUT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ClientError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no such name'}.") from None
    if len(data) > MAX_INPUT_BYTES:
        raise ClientError(f"{path} is larger than {MAX_INPUT_BYTES // 1_000_000} MB.")
    return data


def _host_of(address: str, option: str) -> str:
    """Raises ClientError unless it is an http or https address of a host, without a user."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and "@" not in parts.netloc and parts.port != 0
    except ValueError:  # brackets or a port that are none
        usable = False
    if usable and parts.hostname:
        return parts.hostname
    said = "is" if "@" in address else f"is {printable(address)!r},"  # with a user, perhaps a password too
    raise ClientError(f"{option} {said} no http or https address of a server; give one such as http://localhost:8000.")


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
