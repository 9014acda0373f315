"""The worker's handler without RunPod: python -m serverless.local_run [--output FOLDER] FILE...

Each FILE holds a job, {"input": {...}}. Its audio goes to FOLDER/<name>.<extension> and the rest of its response to
FOLDER/<name>.json; a line says how it went. The exit status is 1 when any job failed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from higgs_core.errors import SettingsError
from serverless.local.assets import allow, served, with_address
from serverless.runpod_worker import SDK_DEFAULTS

if TYPE_CHECKING:
    from higgs_core.speech.speak import Progress
    from serverless.queue.handler import QueueWorker


@dataclass(frozen=True)
class LocalJob:
    """A file and the job in it, or what is wrong with the file."""

    name: str
    job: dict[str, Any] | None
    problem: str = ""


class Bar:
    """A job's progress at the terminal; nothing where there is no terminal."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._bar = tqdm(total=100, desc=str(job["id"]), unit="%", leave=False, disable=None, bar_format=_BAR_FORMAT)

    def __call__(self, progress: Progress) -> None:
        self._bar.set_postfix_str(f"{progress.audio_seconds:.1f} s of audio", refresh=False)
        self._bar.update(100 * progress.share - self._bar.n)

    async def settle(self) -> None:
        self._bar.close()


_BAR_FORMAT = "{desc}: {percentage:3.0f}%|{bar:30}| {elapsed}{postfix}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the files named by the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serverless.local_run", description="Run jobs without RunPod.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help='a JSON file with {"input": {...}}')
    parser.add_argument("--output", type=Path, default=Path("output"), help="where the audio goes (default: output)")
    options = parser.parse_args(arguments)
    for name, value in SDK_DEFAULTS.items():
        os.environ.setdefault(name, value)
    with ExitStack() as stack:
        address = ""
        assets = options.files[0].resolve().parent / "assets"
        if assets.is_dir():
            allow(assets)
            address = stack.enter_context(served(assets))
        jobs = [read_job(file, address) for file in options.files]
        return _run(jobs, options.output)


def read_job(file: Path, assets_address: str) -> LocalJob:
    """The job in `file`, clips at the placeholder's address pointed at `assets_address`."""
    try:
        job = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return LocalJob(file.stem, None, f"the file cannot be read ({type(error).__name__}).")
    if not isinstance(job, dict) or "input" not in job:
        return LocalJob(file.stem, None, 'the file does not hold {"input": {...}}.')
    return LocalJob(file.stem, {**with_address(job, assets_address), "id": file.stem})


def _run(jobs: Sequence[LocalJob], output: Path) -> int:
    from serverless.config.settings import Settings
    from serverless.queue.handler import QueueWorker
    from serverless.service.log import configure_logging
    from serverless.service.service import SpeechService

    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    configure_logging(settings)
    logging.getLogger("serverless.jobs").setLevel(logging.WARNING)  # each job has its line on stdout
    service = SpeechService(settings)
    service.load()
    try:
        output.mkdir(parents=True, exist_ok=True)
        failed = asyncio.run(_run_all(QueueWorker(service, reporter=Bar), jobs, output))
    finally:
        service.close()
    if service.random_weights:
        _say(
            "The tiny checkpoint has random weights: all of this is noise. MODEL=<hub id or folder> loads a real model."
        )
    _say(f"{len(jobs) - failed} of {len(jobs)} jobs done, audio in {output}/")
    return 1 if failed else 0


async def _run_all(worker: QueueWorker, jobs: Sequence[LocalJob], output: Path) -> int:
    failed = 0
    width = max(len(job.name) for job in jobs)
    for job in jobs:
        result = await worker.run(job.job) if job.job is not None else {"error": job.problem}
        line = failure(result) if "error" in result else summary(result, save(result, job.name, output))
        failed += "error" in result
        _say(f"{job.name:{width}}  {line}")
    return failed


def save(result: dict[str, Any], name: str, output: Path) -> Path:
    """Write the response, and its audio beside it where it came inline; the file to look at first."""
    about = output / f"{name}.json"
    rest = {key: value for key, value in result.items() if key != "audio_base64"}
    about.write_text(json.dumps(rest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if "audio_base64" not in result:
        return about
    audio = output / f"{name}.{result['audio_format']}"
    audio.write_bytes(base64.b64decode(result["audio_base64"]))
    return audio


def summary(result: dict[str, Any], file: Path) -> str:
    """One line about a success."""
    factor = result["timings"].get("real_time_factor")
    pace = f"real-time factor {factor:.3f}" if factor is not None else "no real-time factor"
    usage = result["usage"]
    return (
        f"{result['duration_seconds']:6.2f} s of audio, {pace}, {usage['prompt_tokens']} + "
        f"{usage['completion_tokens']} tokens, {result['finish_reason']} -> {file}"
    )


def failure(result: dict[str, Any]) -> str:
    """One line about a failure."""
    return " ".join(part for part in ("FAILED:", str(result["error"]), result.get("hint")) if part)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
