"""Many jobs at one endpoint: the lines of a manifest, or the chapters of a book.

    python -m serverless.client batch manifest.jsonl -o results --endpoint abc123
    python -m serverless.client batch manifest.jsonl -o results --url http://localhost:8000 --jobs 8
    python -m serverless.client batch book.txt -o book --voice alloy --endpoint abc123 --join book.mp3

A manifest is a .jsonl, .ndjson or .json file. Each line is a text in quotes, an input, or an input with a name for its
audio:

    "Hello there."
    {"script": "Hello there.", "voice": "alloy", "seed": 7}
    {"input": {"script": "Hello there."}, "id": "greeting"}
    {"input": {"script": "Hello there."}, "file": "greeting.flac"}

Anything else is a book: one UTF-8 text. It is cut at headings ("Chapter 1", "CHAPTER IV. Title", "Prologue",
"# Title"), long chapters also at paragraphs, into numbered files with a list for players (.m3u).

The options say how lines are spoken that say nothing of it themselves. As many jobs are in flight as the server takes.
What may pass (a lost worker, a network that fails, a server without room) is tried again; what the worker refuses is
not. Run the same command again after an interruption, however it came about: it takes up what is under way, and does
nothing twice. A line that has changed is done anew, and a job that failed is tried again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from serverless.client.batch.book import PART_CHARACTERS
from serverless.client.batch.book_jobs import book_jobs, finish_book
from serverless.client.batch.doors import Door, HttpDoor, QueueDoor
from serverless.client.batch.folder import BatchFolder
from serverless.client.batch.manifest import BatchJob, read_manifest
from serverless.client.batch.pace import MOST, Pace
from serverless.client.batch.playlist import JOINED
from serverless.client.batch.progress import Progress
from serverless.client.batch.report import report_lines, report_of
from serverless.client.batch.run import BatchRun
from serverless.client.batch.submitter import Submitter
from serverless.client.errors import ClientError, printable, say
from serverless.client.options import (
    add_place,
    add_speech,
    agreed_format,
    key_variable,
    open_transport,
    speech_fields,
)
from serverless.client.transports import HttpTransport
from serverless.config.command_line import help_as_written
from serverless.config.interrupts import INTERRUPTED, Interrupts

DONE, FAILED, WRONG_USE = 0, 1, 2
_MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".json")
_EPILOG = """\
results: DIR/NAME.wav and so on; DIR/report.json says what became of each job; DIR/.batch belongs to the batch
exit status: 0 every job is done, 1 some failed, 2 wrong arguments or manifest, nothing was sent, 130 interrupted
"""


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 when every job is done, 1 when some are not, 2 for wrong use, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        transport = open_transport(options, os.environ)
        options.is_book = options.source.suffix.lower() not in _MANIFEST_SUFFIXES
        jobs = book_jobs(options, _tell) if options.is_book else _manifest(options)
    except ClientError as error:
        say(sys.stderr, str(error))
        return WRONG_USE
    try:
        with BatchFolder(options.output, _tell) as folder:
            return asyncio.run(_run(options, transport, folder, jobs))
    except ClientError as error:
        say(sys.stderr, str(error))
        return FAILED


async def _run(options: argparse.Namespace, transport: Any, folder: BatchFolder, jobs: Sequence[BatchJob]) -> int:
    folder.refuse_foreign(jobs)
    todo = [job for job in jobs if not folder.is_done(job)]
    _refuse_other_target(transport.base_url, folder, todo)
    submitted = folder.journal.state.submitted
    todo.sort(key=lambda job: job.key not in submitted)  # results that the platform has wait for half an hour only
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(len(jobs), len(jobs) - len(todo)))
        submitter = None
        door: Door
        if isinstance(transport, HttpTransport):
            door = HttpDoor(transport)
        else:
            submitter = Submitter(
                transport.base_url, key_variable(options), folder.journal, folder.journal_path, folder.submitter_lock
            )
            if todo:
                await stack.enter_async_context(submitter)
            door = QueueDoor(transport, submitter, folder.journal)
        run = BatchRun(door, folder, Pace(options.jobs), progress, retries=options.retries)
        progress.in_flight = lambda: run.in_flight

        def stop() -> str:
            loop.call_soon_threadsafe(run.stop)
            return (
                f"No more jobs are begun; waiting for {run.in_flight} in flight. A second Ctrl-C ends at once; "
                "the same command goes on later."
            )

        with Interrupts(stop) as interrupts:
            await run.run(todo)
    report = report_of(
        jobs,
        run.outcome,
        folder,
        wall_seconds=time.monotonic() - started,
        sent_again=submitter.sent_again if submitter else 0,
    )
    for line in report_lines(report, folder):
        say(sys.stdout, line)
    if run.outcome.stopped_by is not None:
        say(sys.stderr, str(run.outcome.stopped_by))
    folder.write_report(report)
    if run.outcome.stopped_by is not None:
        return FAILED
    if interrupts.seen and report["left"]:
        return INTERRUPTED
    if options.is_book:
        finish_book(options, folder, jobs, complete=report["done"] == len(jobs))
    return DONE if report["done"] == len(jobs) else FAILED


def _manifest(options: argparse.Namespace) -> list[BatchJob]:
    """Raises ClientError."""
    if options.join is not None:
        raise ClientError("--join is for books; a manifest's results have no order to be heard in.")
    fields = speech_fields(options)
    wanted = agreed_format(None, {"--format": options.format, "--set response_format": fields.get("response_format")})
    return read_manifest(options.source, fields, wanted, _tell)


def _refuse_other_target(target: str, folder: BatchFolder, jobs: Sequence[BatchJob]) -> None:
    """Raises ClientError where jobs are under way at another endpoint."""
    submitted = folder.journal.state.submitted
    elsewhere = [job for job in jobs if job.key in submitted and submitted[job.key].get("target") != target]
    if elsewhere:
        other = printable(submitted[elsewhere[0].key].get("target"))
        raise ClientError(
            f"{folder.path} has jobs under way at {other} ({len(elsewhere)}); go on there, or use another folder."
        )


def _tell(line: str) -> None:
    say(sys.stderr, line)
    sys.stderr.flush()


def _at_least_one(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return count


def _retries(text: str) -> int:
    return 0 if text == "0" else _at_least_one(100)(text)


def _parser() -> argparse.ArgumentParser:
    parser = help_as_written("serverless.client batch", __doc__, _EPILOG)
    parser.add_argument(
        "source", type=Path, metavar="FILE", help="a manifest (.jsonl, .ndjson, .json), or a book as plain text"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where results go; made if need be"
    )
    add_place(parser)
    add_speech(parser)
    group = parser.add_argument_group("how the batch works")
    group.add_argument(
        "--jobs", type=_at_least_one(1000), metavar="N", help=f"jobs in flight (default: what is taken, {MOST} at most)"
    )
    group.add_argument(
        "--retries", type=_retries, default=4, metavar="N", help="attempts after the first one (default: %(default)s)"
    )
    group = parser.add_argument_group("books")
    group.add_argument(
        "--join", type=Path, metavar="FILE", help=f"one file with all chapters: {', '.join(JOINED)} (default: none)"
    )
    group.add_argument(
        "--part-characters",
        type=_at_least_one(1_000_000),
        default=PART_CHARACTERS,
        metavar="N",
        help="characters of a chapter that are one job (default: %(default)s)",
    )
    return parser
