"""Send a job to a deployed endpoint and save the audio.

    python -m serverless.client --endpoint abc123 "Hello there." -o hello.wav
    python -m serverless.client --endpoint abc123 --mode stream --voice fable "A long story ..." -o story.mp3
    python -m serverless.client --url http://localhost:8000 --reference me.wav --transcript "What I say in it." "Hi!"
    python -m serverless.client --url http://localhost:8000 --job test_inputs/plain.json

Many jobs, or a whole book (see `python -m serverless.client batch --help`):

    python -m serverless.client batch manifest.jsonl -o results --endpoint abc123
    python -m serverless.client batch book.txt -o book --voice alloy --url http://localhost:8000

Keys come from the environment only: RUNPOD_API_KEY for RunPod, HIGGS_AUDIO_API_KEY for a server of your own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from serverless.client.batch import cli as batch
from serverless.client.download import download
from serverless.client.errors import ClientError, say
from serverless.client.items import address_of, audio_of
from serverless.client.job_text import JobText, read_job
from serverless.client.link import Json
from serverless.client.options import SUFFIXES, add_place, add_speech, agreed_format, open_transport, speech_fields
from serverless.client.output import AudioFile
from serverless.client.terminal import ProgressLine, summary
from serverless.client.transports import Transport
from serverless.config.command_line import help_as_written
from serverless.config.interrupts import INTERRUPTED, Interrupts

BATCH = "batch"
_EPILOG = """\
exit status: 0 the audio is saved, 1 the job failed, 2 wrong arguments, nothing was sent, 130 interrupted with Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when the audio is saved, 1 for a failed job, 2 for wrong arguments, 130 when interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == [BATCH]:
        return batch.main(words[1:])
    try:
        return _run(_parser().parse_args(words))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say(sys.stderr, "Cancelled.")
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    """The exit status. Raises KeyboardInterrupt or CancelledError after a Ctrl-C."""
    try:
        job, warnings = prepared(options)
        output = output_of(options, job)
        transport = open_transport(options, os.environ)
    except ClientError as error:
        say(sys.stderr, str(error))
        return batch.WRONG_USE
    for warning in warnings:
        say(sys.stderr, f"warning: {warning}")
    try:
        result, path = _receive_unless_interrupted(transport, job, output)
    except ClientError as error:
        say(sys.stderr, str(error))
        return batch.FAILED
    say(sys.stdout, summary(result, path, said=warnings))
    return batch.DONE


def _receive_unless_interrupted(transport: Transport, job: Mapping[str, Any], output: Path) -> tuple[Json, Path]:
    """`receive`. Raises CancelledError after a Ctrl-C; a second one ends the process at once."""
    file = AudioFile(output)

    async def run() -> tuple[Json, Path]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def cancel() -> str | None:
            loop.call_soon_threadsafe(task.cancel)
            waits_for = transport.held
            return f"Waiting for {waits_for}; a second Ctrl-C ends at once." if waits_for else None

        with Interrupts(cancel, file.discard):
            return await receive(transport, job, file)

    return asyncio.run(run())


async def receive(transport: Transport, job: Mapping[str, Any], output: AudioFile) -> tuple[Json, Path]:
    """Follow the job with a progress line and save its audio as `output`, or beside it if a file of that name has
    appeared meanwhile. Returns what the result says besides, and where the audio is.

    Nothing is left behind when it fails or is cancelled. Raises ClientError.
    """
    result: Json = {}
    address = None
    with ProgressLine(sys.stderr) as line, output as file:
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
    return prepared(options)[0]


def output_of(options: argparse.Namespace, job: Mapping[str, Any]) -> Path:
    """The file that the audio goes to."""
    if options.output is not None:
        return Path(options.output)
    wanted = job["input"].get("response_format", "wav")
    return Path("speech").with_suffix(next(suffix for suffix, name in SUFFIXES.items() if name == wanted))


def prepared(options: argparse.Namespace) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The job, and what is odd about it. Raises ClientError."""
    text = read_job(options.job) if options.job else JobText({"input": {}})
    job = {**text.job, "input": {**text.job["input"]}}
    fields: dict[str, Any] = job["input"]
    from_file = fields.get("response_format")
    given = speech_fields(options)
    if options.script is not None:
        given["script"] = _standard_input() if options.script == "-" else options.script
    elif not options.job:
        raise ClientError("Give the text to speak, - for standard input, or --job with a JSON file.")
    named = {"--format": options.format, "response_format": given.get("response_format", from_file)}
    fields |= given
    if wanted := agreed_format(options.output, named):
        fields["response_format"] = wanted
    return job, text.check(fields, given)


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise ClientError("The standard input is not text.") from None


def _parser() -> argparse.ArgumentParser:
    parser = help_as_written("serverless.client", __doc__, _EPILOG)
    parser.add_argument("script", nargs="?", help="the text to speak; - reads standard input")
    parser.add_argument("--job", type=Path, metavar="FILE", help="a JSON file with {'input': ...} to start from")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where the audio goes; its suffix decides the format: .wav, .flac, .mp3, .opus, .ogg, .pcm or .aac "
        "(default: speech.wav, or speech with the suffix of --format)",
    )
    add_place(parser)
    add_speech(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
