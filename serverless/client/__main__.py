"""Send a job to a deployed endpoint and save the audio.

    python -m serverless.client --endpoint abc123 "Hello there." -o hello.wav
    python -m serverless.client --endpoint abc123 --mode stream --voice belinda "A long story ..." -o story.mp3
    python -m serverless.client --url http://localhost:8000 --reference me.wav --transcript "What I say in it." "Hi!"
    python -m serverless.client --url http://localhost:8000 --job test_inputs/plain.json

Keys come from the environment only: RUNPOD_API_KEY for RunPod, HIGGS_AUDIO_API_KEY for a server of your own.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from serverless.client.download import download
from serverless.client.errors import ClientError, say
from serverless.client.items import address_of, audio_of
from serverless.client.link import Json
from serverless.client.output import AudioFile
from serverless.client.terminal import ProgressLine, summary
from serverless.client.transports import HttpTransport, QueueTransport, StreamTransport, Transport

RUNPOD_QUEUE_URL = "https://api.runpod.ai/v2"
_RUNPOD_DOMAIN = ".runpod.ai"
_SUFFIXES = {".wav": "wav", ".flac": "flac", ".mp3": "mp3", ".opus": "opus", ".ogg": "opus", ".pcm": "pcm"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when the audio is saved, 1 for a failed job, 2 for wrong arguments, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        job = build_job(options)
        transport = open_transport(options, os.environ)
        result, path = asyncio.run(receive(transport, job, options.output))
    except ClientError as error:
        say(sys.stderr, str(error))
        return 1
    except KeyboardInterrupt:
        say(sys.stderr, "Cancelled.")
        return 130
    say(sys.stdout, summary(result, path))
    return 0


async def receive(transport: Transport, job: Mapping[str, Any], output: Path) -> tuple[Json, Path]:
    """Follow the job with a progress line and save its audio as `output`, or beside it if a file of that name has
    appeared meanwhile. Returns what the result says besides, and where the audio is.

    Nothing is left behind when it fails or is cancelled. Raises ClientError.
    """
    result: Json = {}
    address = None
    with ProgressLine(sys.stderr) as line, AudioFile(output) as file:
        started = time.monotonic()
        async with aclosing(transport.send(job)) as items:
            async for item in items:
                file.write(audio_of(item))
                address = address_of(item) or address
                result |= {name: value for name, value in item.items() if name != "audio_base64"}
                line.show(item, file.size, time.monotonic() - started)
        if not file.size and address:  # a stream's audio may be in a bucket as well
            file.write(await download(address, endpoint=transport.base_url))
        if not file.size:
            raise ClientError("The endpoint returned no audio.")
        return result, file.keep(str(result.get("audio_format")))


def build_job(options: argparse.Namespace) -> dict[str, Any]:
    """The job of a file, with the options on top. Raises ClientError."""
    job = _read_job(options.job) if options.job else {"input": {}}
    fields: dict[str, Any] = job["input"]
    if options.script is not None:
        fields["script"] = _standard_input() if options.script == "-" else options.script
    elif not options.job:
        raise ClientError("Give the text to speak, - for standard input, or --job with a JSON file.")
    for name, value in (("scene_prompt", options.scene), ("voice", options.voice), ("seed", options.seed)):
        if value is not None:
            fields[name] = value
    if options.reference is not None:
        clip = {"audio_base64": base64.b64encode(_read(options.reference)).decode("ascii")}
        fields["references"] = [{**clip, **({"transcript": options.transcript} if options.transcript else {})}]
    for assignment in options.set:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ClientError(f"--set needs NAME=VALUE; {name!r} has no value.")
        fields[name] = _json_or_text(text)
    wanted = options.format or _SUFFIXES.get(options.output.suffix.lower())
    if wanted:
        fields["response_format"] = wanted
    return job


def open_transport(options: argparse.Namespace, environment: Mapping[str, str]) -> Transport:
    """The transport that the options name, with the key that belongs to it. Raises ClientError."""
    if options.url is not None:
        host = _host_of(options.url, "--url")
        # RunPod's key goes to RunPod only
        variable = "RUNPOD_API_KEY" if f".{host}".endswith(_RUNPOD_DOMAIN) else "HIGGS_AUDIO_API_KEY"
        return HttpTransport(options.url, environment.get(variable))
    if not (key := environment.get("RUNPOD_API_KEY")):
        raise ClientError("RUNPOD_API_KEY is not set; RunPod's console makes one under Settings, API Keys.")
    _host_of(options.api, "--api")
    transport = StreamTransport if options.mode == "stream" else QueueTransport
    return transport(f"{options.api.rstrip('/')}/{quote(options.endpoint, safe='')}", key)


def _host_of(address: str, option: str) -> str:
    """Raises ClientError unless it is an http or https address of a host, without a user."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and "@" not in parts.netloc and parts.port != 0
    except ValueError:  # brackets or a port that are none
        usable = False
    if usable and parts.hostname:
        return parts.hostname
    raise ClientError(f"{option} is not an http or https address of a server.")


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(_read(path))
    except (ValueError, RecursionError):
        raise ClientError(f"{path} is not JSON.") from None
    if not isinstance(job, dict) or not isinstance(job.get("input"), dict):
        raise ClientError(f"{path} is not an object with 'input', an object.")
    return job


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise ClientError("The standard input is not text.") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}.") from None


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serverless.client",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("script", nargs="?", help="the text to speak; - reads standard input")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--endpoint", help="id of a RunPod queue endpoint")
    where.add_argument("--url", help="address of the HTTP server, or of a load-balancing endpoint")
    parser.add_argument("--mode", choices=("queue", "stream"), default="queue", help="how to read a queue endpoint")
    parser.add_argument("--api", default=RUNPOD_QUEUE_URL, help="address of the queue's API (default: %(default)s)")
    parser.add_argument("--job", type=Path, help="a JSON file with {'input': ...} to start from")
    parser.add_argument("-o", "--output", type=Path, default=Path("speech.wav"), help="(default: %(default)s)")
    parser.add_argument("--format", choices=sorted(set(_SUFFIXES.values())), help="default: by the output's suffix")
    parser.add_argument("--voice", help="a name of the voice library")
    parser.add_argument("--scene", help="where and how it is spoken")
    parser.add_argument("--reference", type=Path, help="an audio file whose voice is to be used")
    parser.add_argument("--transcript", help="the words spoken in the reference")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other field of the input")
    return parser


if __name__ == "__main__":
    sys.exit(main())
