"""The report at the end of a batch: what became of each job, as a few lines and as report.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serverless.client.batch.folder import REPORT, BatchFolder
from serverless.client.batch.manifest import BatchJob
from serverless.client.batch.run import Outcome
from serverless.client.items import number

MAX_FAILURES = 20
"""Failed jobs that are named at the terminal; the file has all of them."""

_TOKENS = ("prompt_tokens", "completion_tokens")


def report_of(
    jobs: Sequence[BatchJob], outcome: Outcome, folder: BatchFolder, *, wall_seconds: float, sent_again: int
) -> dict[str, Any]:
    """The report.

    Jobs, seconds of audio and tokens count all that are done, also by earlier runs; wall_seconds is this run's.
    sent_again: jobs that were submitted again although nobody knows what became of their first submission.
    """
    results = [_result(job, outcome, folder) for job in jobs]
    done = [result for result in results if result["status"] == "done"]
    return {
        "jobs": len(jobs),
        "done": len(done),
        "done_earlier": sum(job.key not in outcome.done for job in jobs if folder.is_done(job)),
        "failed": sum(result["status"] == "failed" for result in results),
        "left": sum(result["status"] == "left" for result in results),
        "sent_again": sent_again,
        "audio_seconds": round(sum(number(result.get("duration_seconds")) or 0.0 for result in done), 3),
        "wall_seconds": round(wall_seconds, 3),
        "usage": {name: sum(_tokens(result, name) for result in done) for name in _TOKENS},
        "results": results,
    }


def report_lines(report: dict[str, Any], folder: BatchFolder) -> list[str]:
    """The same in a few lines."""
    usage = report["usage"]
    earlier = f" ({report['done_earlier']} by earlier runs)" if report["done_earlier"] else ""
    left = f", {report['left']} left" if report["left"] else ""
    lines = [
        f"{report['done']} of {report['jobs']} jobs done{earlier}, {report['failed']} failed{left}: "
        f"{report['audio_seconds']:.2f} s of audio in {report['wall_seconds']:.1f} s, "
        f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens -> {folder.path}/, {REPORT}"
    ]
    failed = [result for result in report["results"] if result["status"] == "failed"]
    lines += [f"FAILED {result['where']} ({result['file']}): {result['error']}" for result in failed[:MAX_FAILURES]]
    if len(failed) > MAX_FAILURES:
        lines.append(f"and {len(failed) - MAX_FAILURES} more, all of them in {REPORT}.")
    if report["sent_again"]:
        lines.append(
            f"{report['sent_again']} submissions had no answer, and their jobs were submitted again; "
            "the endpoint may have spoken them twice."
        )
    if report["left"]:
        lines.append("The same command goes on where this run ended.")
    elif report["failed"]:
        lines.append("The same command tries again what failed.")
    return lines


def _result(job: BatchJob, outcome: Outcome, folder: BatchFolder) -> dict[str, Any]:
    about = {"file": job.file, "where": job.where}
    if folder.is_done(job):
        return {**about, "status": "done", **folder.facts(job)}
    if job.key in outcome.failed:
        return {**about, "status": "failed", "error": outcome.failed[job.key]}
    return {**about, "status": "left"}


def _tokens(result: dict[str, Any], name: str) -> int:
    usage = result.get("usage")
    return int(number(usage.get(name)) or 0) if isinstance(usage, dict) else 0
