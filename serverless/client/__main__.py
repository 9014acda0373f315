"""Send a job to a deployed endpoint and save the audio.

    python -m serverless.client --endpoint abc123 "Hello there." -o hello.wav
    python -m serverless.client --endpoint abc123 --mode stream --voice belinda "A long story ..." -o story.mp3
    python -m serverless.client --url http://localhost:8000 --reference me.wav --transcript "What I say in it." "Hi!"
    python -m serverless.client --url http://localhost:8000 --job test_inputs/plain.json

Keys come from the environment only: RUNPOD_API_KEY for RunPod, HIGGS_AUDIO_API_KEY for a server of your own.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serverless.client.output import AudioFile, ProgressLine, summary
from serverless.client.transports import (
    ClientError,
    HttpTransport,
    Item,
    QueueTransport,
    StreamTransport,
    Transport,
    session,
)

RUNPOD_QUEUE_URL = "https://api.runpod.ai/v2"
_RUNPOD_DOMAIN = ".runpod.ai"
_SUFFIXES = {".wav": "wav", ".flac": "flac", ".mp3": "mp3", ".opus": "opus", ".ogg": "opus", ".pcm": "pcm"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when the audio is saved, 1 for a failed job, 2 for wrong arguments, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        job = build_job(options)
        transport = open_transport(options, os.environ)
        result = receive(transport, job, options.output)
    except ClientError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Cancelled.\n")
        return 130
    sys.stdout.write(f"{summary(result, options.output)}\n")
    return 0


def receive(transport: Transport, job: Mapping[str, Any], output: Path) -> Item:
    """Follow the job with a progress line, save its audio as `output`, return what the result says besides.

    Nothing is left behind when it fails. Raises ClientError.
    """
    result: Item = {}
    items = transport.send(job)
    with ProgressLine(sys.stderr) as line, AudioFile(output) as file:
        started = time.monotonic()
        try:
            for item in items:
                if audio := item.pop("audio_base64", None):
                    file.write(base64.b64decode(audio))
                if url := item.get("audio_url"):
                    file.download(url)
                result |= item
                line.show(item, file.size, time.monotonic() - started)
        finally:
            items.close()  # type: ignore[attr-defined]  # every transport is a generator
        if not file.size:
            raise ClientError("The endpoint returned no audio.")
        file.keep(str(result.get("audio_format") or ""))
    return result


def build_job(options: argparse.Namespace) -> dict[str, Any]:
    """The job of a file, with the options on top. Raises ClientError."""
    job = _read_job(options.job) if options.job else {"input": {}}
    fields: dict[str, Any] = job["input"]
    if options.script is not None:
        fields["script"] = sys.stdin.read() if options.script == "-" else options.script
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
        host = urlsplit(options.url).hostname or ""
        # RunPod's key goes to RunPod only
        variable = "RUNPOD_API_KEY" if f".{host}".endswith(_RUNPOD_DOMAIN) else "HIGGS_AUDIO_API_KEY"
        return HttpTransport(session(environment.get(variable)), options.url)
    if not (key := environment.get("RUNPOD_API_KEY")):
        raise ClientError("RUNPOD_API_KEY is not set; RunPod's console makes one under Settings, API Keys.")
    transport = StreamTransport if options.mode == "stream" else QueueTransport
    return transport(session(key), f"{options.api.rstrip('/')}/{options.endpoint}")


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(_read(path))
    except ValueError:
        raise ClientError(f"{path} is not JSON.") from None
    if not isinstance(job, dict) or not isinstance(job.get("input"), dict):
        raise ClientError(f"{path} is not an object with 'input', an object.")
    return job


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}.") from None


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
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
