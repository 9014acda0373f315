"""The worker's service without RunPod: jobs in files, their audio into a folder.

    python -m serverless.local_run test_inputs/plain.json
    HIGGS_AUDIO_MODEL_ID=demo python -m serverless.local_run --output output test_inputs/*.json

Each FILE holds a job, {"input": {...}}. Its audio goes to FOLDER/<name>.<extension> and the rest of its response to
FOLDER/<name>.json; a line says how it went. All files are checked before the model is loaded: what is wrong is named
with line and column, and then nothing is run unless --keep-going is given.
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

from higgs_core.errors import HiggsError, RequestError, SettingsError
from serverless.config.command_line import help_as_written
from serverless.config.interrupts import INTERRUPTED, Interrupts
from serverless.config.startup import WRONG_SETTING, end_process, start_up
from serverless.local.assets import allow, loopback_open, served
from serverless.local.job_files import LocalJob, overwritten, read_job, save
from serverless.local.terminal import ProgressBar, failure, summary

if TYPE_CHECKING:
    from serverless.config.settings import Settings
    from serverless.service.service import SpeechService


WRONG_USE = 2  # as argparse's own
_EPILOG = """\
Settings come from the environment; HIGGS_AUDIO_MODEL_ID=demo needs neither a GPU nor a download.
exit status: 0 every job is done, 1 some failed, 2 a file or a setting is wrong, 130 interrupted with Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the files named by the command line; the exit status."""
    options = _parser().parse_args(arguments)
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
        return _run(jobs, options.output, settings, keep_going=options.keep_going)


def _run(jobs: Sequence[LocalJob], output: Path, settings: Settings, *, keep_going: bool) -> int:
    from serverless.service.service import SpeechService

    service = SpeechService(settings)
    try:
        jobs = _checked(jobs, service, settings)
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        return WRONG_SETTING
    wrong = sum(isinstance(job.found, RequestError) for job in jobs)
    if wrong and (wrong == len(jobs) or not keep_going):
        rest = "; --keep-going runs the others" if wrong < len(jobs) else ""
        sys.stderr.write(f"{wrong} of {len(jobs)} files are wrong, nothing was run{rest}.\n")
        return WRONG_USE
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"{_cannot_be_written(output, error)} Give another folder with --output.\n")
        return WRONG_USE
    with Interrupts(_end_while_loading):
        service.load()
    with closing(service):
        done, interrupted = asyncio.run(_run_unless_interrupted(service, jobs, output))
    if service.built_in is not None:
        _say(f"{service.built_in.notice} MODEL=<hub id or folder> loads another.")
    _say(f"{done} of {len(jobs)} jobs done, audio in {output}/")
    return INTERRUPTED if interrupted else 0 if done == len(jobs) else 1


def _checked(jobs: Sequence[LocalJob], service: SpeechService, settings: Settings) -> list[LocalJob]:
    """The jobs, those that are wrong with their error, which is shown too. Raises SettingsError."""
    service.voices.open()
    voices = service.voices.snapshot()
    checked = []
    for job in jobs:
        found, warnings = job.checked(settings, voices)
        lines = [f"{job.file}: warning: {warning}" for warning in warnings]
        if isinstance(found.found, RequestError):
            lines.append(" ".join(part for part in (found.found.message, found.found.hint) if part))
        sys.stderr.writelines(f"{line}\n" for line in lines)
        checked.append(found)
    return checked


def _end_while_loading() -> None:
    """What loads cannot be told to stop, and nothing is lost with it."""
    sys.stderr.write("Interrupted while the model was loading.\n")
    end_process(INTERRUPTED)


async def _run_unless_interrupted(service: SpeechService, jobs: Sequence[LocalJob], output: Path) -> tuple[int, bool]:
    """How many jobs succeeded, and whether Ctrl-C ended the run before the last one."""
    done: list[LocalJob] = []
    running = asyncio.ensure_future(_run_all(service, jobs, output, done))
    loop = asyncio.get_running_loop()

    def cancel() -> str:
        loop.call_soon_threadsafe(running.cancel)
        return "Waiting for the job under way to stop; a second Ctrl-C ends at once."

    with Interrupts(cancel):
        await asyncio.wait((running,))
    if not running.cancelled():
        running.result()  # raises what was not expected
    return len(done), running.cancelled()


async def _run_all(service: SpeechService, jobs: Sequence[LocalJob], output: Path, done: list[LocalJob]) -> None:
    """Run the jobs one after the other; those that succeed are added to `done`."""
    width = max(len(job.name) for job in jobs)
    for job in jobs:
        try:
            line = await _run_one(service, job, output)
            done.append(job)
        except HiggsError as error:
            line = failure(error)
        _say(f"{job.name:{width}}  {line}")


async def _run_one(service: SpeechService, job: LocalJob, output: Path) -> str:
    with closing(ProgressBar(job.name)) as bar, loopback_open(job.opens_loopback):
        response = await service.run(
            job.content["input"], job_id=job.name, s3_config=job.content.get("s3Config"), on_progress=bar
        )
    try:
        return summary(response, save(response, job.name, output))
    except OSError as error:
        raise HiggsError(_cannot_be_written(output, error)) from None


def _cannot_be_written(output: Path, error: OSError) -> str:
    return f"{output} cannot be written: {error.strerror or type(error).__name__}."


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = help_as_written("serverless.local_run", __doc__, _EPILOG)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help='a JSON file with {"input": {...}}')
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output"),
        metavar="FOLDER",
        help="where the audio goes (default: %(default)s)",
    )
    parser.add_argument("--keep-going", action="store_true", help="run the other files where some are wrong")
    return parser


if __name__ == "__main__":
    sys.exit(main())
