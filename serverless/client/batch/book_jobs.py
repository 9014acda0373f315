"""A book of the command line: its chapters as jobs, and what is made of their audio at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from higgs_core.errors import RequestError
from serverless.client.batch.book import MAX_CHAPTERS, chapters_of
from serverless.client.batch.folder import BatchFolder
from serverless.client.batch.manifest import TEXT_FIELDS, BatchJob, batch_job, text_of
from serverless.client.batch.names import slug
from serverless.client.batch.playlist import check_join, join, playlist
from serverless.client.errors import ClientError, say
from serverless.client.items import number
from serverless.client.options import FORMATS, SUFFIXES, agreed_format, speech_fields
from serverless.payload.precheck import check_input

_BOOK_FORMAT = "mp3"  # a chapter of half an hour fits an inline result


def book_jobs(options: argparse.Namespace, warn: Callable[[str], None]) -> list[BatchJob]:
    """A job for each chapter, or for each part of a long one. Raises ClientError."""
    fields = speech_fields(options)
    if texts := TEXT_FIELDS & fields.keys():
        raise ClientError(f"--set {min(texts)} is for manifests; {options.source} is a book, and has the text itself.")
    named = {"--format": options.format, "--set response_format": fields.get("response_format")}
    wanted = agreed_format(None, named)
    if wanted is not None and wanted not in FORMATS:
        raise ClientError(f"response_format is not one of {', '.join(FORMATS)}.")
    fields["response_format"] = wanted or _BOOK_FORMAT
    if options.join is not None:
        check_join(options.join, fields["response_format"], options.output)
    chapters = chapters_of(text_of(options.source), options.part_characters)
    if not chapters:
        raise ClientError(f"{options.source} has no text.")
    if len(chapters) > MAX_CHAPTERS:
        raise ClientError(f"{options.source} has {len(chapters)} chapters; allowed is at most {MAX_CHAPTERS}.")
    try:
        warnings = check_input({**fields, "script": "x"})
    except RequestError as error:
        raise ClientError(error.message) from None
    for warning in warnings:
        warn(f"warning: {warning}")
    if not {"voice", "references", "reference_audio_urls", "speakers"} & fields.keys():
        warn("warning: No voice is chosen, so each chapter may have another one; --voice or --reference keeps it.")
    suffix = next(suffix for suffix, name in SUFFIXES.items() if name == fields["response_format"])
    digits = max(2, len(str(len(chapters))))
    jobs = []
    for index, chapter in enumerate(chapters, 1):
        for part, text in enumerate(chapter.parts, 1):
            stem = "-".join(word for word in (f"{index:0{digits}}", slug(chapter.title, 60)) if word)
            several = len(chapter.parts) > 1
            name = f"{stem}-part-{part}{suffix}" if several else f"{stem}{suffix}"
            title = chapter.title or options.source.stem
            jobs.append(
                batch_job(
                    {"input": {**fields, "script": text}},
                    name,
                    f"{title} ({part}/{len(chapter.parts)})" if several else title,
                    f"chapter {index}{f', part {part}' if several else ''}",
                )
            )
    return jobs


def finish_book(options: argparse.Namespace, folder: BatchFolder, jobs: Sequence[BatchJob], *, complete: bool) -> None:
    """The list of what is there, and the file with all of it. Raises ClientError."""
    there = [job for job in jobs if folder.is_done(job)]
    seconds = (number(folder.facts(job).get("duration_seconds")) or 0.0 for job in there)
    name = f"{slug(options.source.stem) or 'book'}.m3u"
    folder.write(name, playlist((job.file, job.title, length) for job, length in zip(there, seconds, strict=True)))
    say(sys.stdout, f"{folder.path / name}: {len(there)} files")
    if options.join is None:
        return
    if not complete:
        say(sys.stderr, f"{options.join} was not made, as chapters are missing.")
        return
    length = join([folder.path / job.file for job in jobs], options.join)
    say(sys.stdout, f"{options.join}: {length:.2f} s of audio")
