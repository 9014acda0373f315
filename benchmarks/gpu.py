"""`python -m benchmarks.gpu`: correctness on this GPU, and the speed of the full-size model with random weights.

Needs only torch, transformers and numpy. Checks come first, then speed. Stages run in processes of their own with a
time limit each; every figure is written to the JSON file at once, and what could not run is reported with the reason.
`--dry-run-cpu` runs the same stages on a small model, on the CPU.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environment import software
from benchmarks.report import Report, say
from benchmarks.stage_context import Settings
from benchmarks.stage_list import ENVIRONMENT, chosen
from benchmarks.summary import summary
from benchmarks.supervisor import Supervisor

RESULTS = Path(__file__).parent / "results"
SLOTS = 32
_DRY_RUN_SLOTS, _DRY_RUN_PATIENCE = 8, 20.0


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when every check held and no stage failed, 2 when there is nothing to run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, help="the JSON file; by default benchmarks/results/<date>-<card>.json")
    parser.add_argument("--minutes", type=float, default=8.0, help="what has not ended by then is ended or left out")
    parser.add_argument("--dry-run-cpu", action="store_true", help="the same stages on a small model, on the CPU")
    parser.add_argument("--only", default="", help="stages or groups of stages, by name, with commas between")
    options = parser.parse_args(arguments)
    try:
        stages = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    began = time.monotonic()
    settings = Settings(dry_run=options.dry_run_cpu, slots=_DRY_RUN_SLOTS if options.dry_run_cpu else SLOTS)
    report = Report(options.output, software())
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: as by Ctrl-C
    try:
        with tempfile.TemporaryDirectory(prefix="higgs-benchmark-") as scratch:
            deadline, log = began + 60 * options.minutes, Path(scratch) / "log"
            # A CPU may be slow or busy, and nothing can hang there.
            patience = _DRY_RUN_PATIENCE if options.dry_run_cpu else 1.0
            supervisor = Supervisor(report, settings, deadline, log, patience=patience)
            supervisor.run([ENVIRONMENT])
            machine: dict[str, str] = next((row for row in report.rows if row["heading"] == "environment"), {})
            if supervisor.failures and not machine:
                say("nothing can be measured here; --dry-run-cpu runs the same stages on a small model")
                return 2
            if options.output is None:
                report.path = _free_name(str(machine.get("card", "gpu")))
            supervisor.run(stages)
    finally:
        signal.signal(signal.SIGTERM, before)
    wrong = [row for row in report.rows if row.get("passed") is False]
    say("\n" + report.table())
    say("\n" + summary(report.about, report.rows))
    say(f"\n{len(wrong)} checks failed, {supervisor.failures} stages failed, {time.monotonic() - began:.0f} s")
    say(f"Everything is in {report.path}")
    _write_plan(report)
    return 1 if wrong or supervisor.failures else 0


def _write_plan(report: Report) -> None:
    """The linear kernels chosen, as a file for `higgs_core/kernels/plans/`, whose README says how it is named."""
    choices = [
        {name: row[name] for name in row if name != "heading"} for row in report.rows if row["heading"] == "plan"
    ]
    if choices and report.path is not None:
        card = next(row["card"] for row in report.rows if row["heading"] == "environment")
        path = report.path.with_suffix(".plan.json")
        path.write_text(json.dumps({"gpu": card, "choices": choices}, indent=1) + "\n")
        say(f"The plan of the linear kernels is in {path}")


def _free_name(card: str) -> Path:
    """A file of today's date for this card that does not exist yet."""
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{re.sub('[^a-z0-9]+', '-', card.lower()).strip('-')}"
    path, count = RESULTS / f"{stem}.json", 1
    while path.exists():
        count += 1
        path = RESULTS / f"{stem}-{count}.json"
    return path


if __name__ == "__main__":
    sys.exit(main())
