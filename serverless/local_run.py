"""The worker's service without RunPod: python -m serverless.local_run [--output FOLDER] FILE...

Each FILE holds a job, {"input": {...}}. Its audio goes to FOLDER/<name>.<extension> and the rest of its response to
FOLDER/<name>.json; a line says how it went. The exit status is 1 when any job failed, and 2 where a file would be
written over another, which is refused before the model is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from higgs_core.errors import HiggsError
from serverless.config.startup import WRONG_SETTING, start_up
from serverless.local.assets import allow, loopback_open, served
from serverless.local.job_files import LocalJob, overwritten, read_job, save
from serverless.local.terminal import ProgressBar, failure, summary

if TYPE_CHECKING:
    from serverless.config.settings import Settings
    from serverless.service.service import SpeechService


WRONG_USE = 2  # as argparse's own


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the files named by the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serverless.local_run", description="Run jobs without RunPod.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help='a JSON file with {"input": {...}}')
    parser.add_argument("--output", type=Path, default=Path("output"), help="where the audio goes (default: output)")
    options = parser.parse_args(arguments)
    jobs = [read_job(file) for file in options.files]
    if (problem := overwritten(jobs, options.output)) is not None:
        sys.stderr.write(f"{problem}\n")
        return WRONG_USE
    with ExitStack() as stack:
        assets = options.files[0].resolve().parent / "assets"
        if assets.is_dir() and not assets.is_symlink():
            allow(assets)
            if names := set().union(*(job.asset_names for job in jobs)):
                address = stack.enter_context(served(assets, names))
                jobs = [job.with_assets_at(address) for job in jobs]
        settings = start_up()
        if settings is None:
            return WRONG_SETTING
        logging.getLogger("serverless.jobs").setLevel(logging.WARNING)  # each job has its line on stdout
        return _run(jobs, options.output, settings)


def _run(jobs: Sequence[LocalJob], output: Path, settings: Settings) -> int:
    from serverless.service.service import SpeechService

    service = SpeechService(settings)
    service.load()
    with closing(service):
        output.mkdir(parents=True, exist_ok=True)
        done = asyncio.run(_run_all(service, jobs, output))
    if service.built_in is not None:
        _say(f"{service.built_in.notice} MODEL=<hub id or folder> loads another.")
    _say(f"{done} of {len(jobs)} jobs done, audio in {output}/")
    return 0 if done == len(jobs) else 1


async def _run_all(service: SpeechService, jobs: Sequence[LocalJob], output: Path) -> int:
    """Run the jobs one after the other; how many succeeded."""
    done = 0
    width = max(len(job.name) for job in jobs)
    for job in jobs:
        try:
            line = await _run_one(service, job, output)
            done += 1
        except HiggsError as error:
            line = failure(error)
        _say(f"{job.name:{width}}  {line}")
    return done


async def _run_one(service: SpeechService, job: LocalJob, output: Path) -> str:
    with closing(ProgressBar(job.name)) as bar, loopback_open(job.opens_loopback):
        response = await service.run(
            job.content["input"], job_id=job.name, s3_config=job.content.get("s3Config"), on_progress=bar
        )
    return summary(response, save(response, job.name, output))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
