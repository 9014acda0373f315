"""A stage that fails in any way is reported with the reason, keeps its rows, and leaves the others running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import Report
from benchmarks.stage_context import Settings
from benchmarks.stage_list import Stage
from benchmarks.supervisor import Supervisor
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE, wait_until

Row = dict[str, Any]


def stage(name: str, seconds: float = PATIENCE, **options: bool) -> Stage:
    return Stage(name, "", f"tests.benchmarks.failing_stages:{name}", seconds, **options)


class Run:
    """Stages by name, run to the end; their rows as the file has them."""

    def __init__(self, folder: Path, *stages: Stage, slots: int = 8, seconds: float = PATIENCE) -> None:
        file = folder / "figures.json"
        report = Report(file, {})
        settings = Settings(dry_run=True, slots=slots)
        self.supervisor = Supervisor(report, settings, time.monotonic() + seconds, folder / "log")
        self.supervisor.run(stages)
        self.rows: list[Row] = json.loads(file.read_text())["rows"]

    def under(self, heading: str) -> list[Row]:
        return [row for row in self.rows if row["heading"] == heading]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", "ValueError: this is why"),
        ("exits", "its process ended with status 3"),
        ("is_killed", "its process was ended by SIGKILL"),
    ],
)
def test_a_stage_that_fails_keeps_its_rows_and_the_next_one_runs(tmp_path: Path, name: str, reason: str) -> None:
    run = Run(tmp_path, stage("fine"), stage(name), stage("fine"))
    assert [row["heading"] for row in run.rows] == [
        "fine",
        "stage",
        "before the end",
        "failed",
        "stage",
        "fine",
        "stage",
    ]
    (failed,) = run.under("failed")
    assert (failed["stage"], failed["reason"]) == (name, reason)
    assert run.supervisor.failures == 1
    first, second = run.under("fine")
    assert first["process"] != second["process"]


def test_stages_share_a_process_until_one_asks_for_another(tmp_path: Path) -> None:
    stages = [stage("fine"), stage("fine"), stage("fine", fresh=True), stage("fine", last=True), stage("fine")]
    a, b, c, d, e = (row["process"] for row in Run(tmp_path, *stages).under("fine"))
    assert a == b
    assert b != c
    assert c == d
    assert d != e


def test_a_stage_that_takes_too_long_is_ended_and_says_where_it_was(tmp_path: Path) -> None:
    run = Run(tmp_path, stage("fine"), stage("hangs", seconds=5), stage("fine"))
    (failed,) = run.under("failed")
    assert failed["reason"] == "it took longer than 5 s"
    assert "failing_stages.py" in failed["log"]
    assert len(run.under("fine")) == 2


def test_what_a_stage_has_started_ends_with_it(tmp_path: Path) -> None:
    (child,) = Run(tmp_path, stage("hangs_with_a_child", seconds=5)).under("child")
    wait_until(lambda: not _runs(child["process"]))


def test_what_is_under_way_when_the_time_is_up_is_ended_and_the_rest_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path, stage("hangs"), stage("fine"), seconds=8)
    assert [row["stage"] for row in run.under("failed")] == ["hangs"]
    (left_out,) = run.under("left out")
    assert (left_out["stage"], left_out["reason"]) == ("fine", "no time was left for it")


def test_without_memory_a_stage_is_tried_again_with_fewer_slots_which_stay(tmp_path: Path) -> None:
    run = Run(tmp_path, stage("needs_memory"), stage("fine"), slots=32)
    assert [row["now"] for row in run.under("retried")] == ["8 slots", "2 slots"]
    assert [row["slots"] for row in run.under("fine")] == [2, 2]
    assert run.supervisor.failures == 0


def test_an_engine_that_crashes_while_it_is_built_is_built_without_kernels(tmp_path: Path) -> None:
    run = Run(tmp_path, stage("crashes_with_kernels"))
    (failed,) = run.under("failed")
    assert failed["reason"] == "its process was ended by SIGABRT"
    assert [row["kernels"] for row in run.under("fine")] == [False]


def test_an_engine_that_cannot_be_built_takes_no_stage_with_it_that_needs_none(tmp_path: Path) -> None:
    run = Run(tmp_path, stage("cannot_build"), stage("cannot_build"), stage("fine"))
    assert run.under("failed")[-1]["reason"] == "the engine cannot be built: ValueError: nothing fits"
    assert len(run.under("fine")) == 1


_INTERRUPTED = """
import sys, time
from pathlib import Path
from tests.benchmarks.test_supervisor import Run, stage
Run(Path(sys.argv[1]), stage("fine"), stage("hangs"), stage("fine"))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_keeps_every_row_and_leaves_no_process(tmp_path: Path, how: signal.Signals) -> None:
    file = tmp_path / "figures.json"

    def rows() -> list[Row]:
        found: list[Row] = json.loads(file.read_text())["rows"] if file.exists() else []
        return found

    with subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        wait_until(lambda: any(row.get("of") == "hangs" for row in rows()))
        process.send_signal(how)
    worker = next(row["process"] for row in rows() if row.get("of") == "hangs")
    wait_until(lambda: not _runs(worker))
    assert [row["heading"] for row in rows()][:3] == ["fine", "stage", "before the end"]
    if how == signal.SIGINT:
        left_out = [(row["stage"], row["reason"]) for row in rows() if row["heading"] == "left out"]
        assert left_out == [("hangs", "interrupted"), ("fine", "interrupted")]


def _runs(process: int) -> bool:
    """A process that has ended and that nobody has waited for counts as ended."""
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
