"""`python -m benchmarks.gpu` with a small model on the CPU, where only torch, transformers and numpy are installed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_plan import dry_run, on_gpu
from benchmarks.stage_list import STAGES
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE
from tests.test_imports import BEYOND_TORCH, HIDE, run

Row = dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], list[Row]]:
    """The process and the rows of its file. Also the processes that it starts see no other packages."""
    folder = tmp_path_factory.mktemp("check")
    (folder / "sitecustomize.py").write_text(HIDE.format(hidden=BEYOND_TORCH))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--dry-run-cpu",
            "--minutes=60",
            f"--output={folder / 'figures.json'}",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (folder / "figures.json").exists(), done.stdout + done.stderr
    return done, json.loads((folder / "figures.json").read_text())["rows"]


@pytest.fixture(scope="module")
def rows(finished: tuple[subprocess.CompletedProcess[str], list[Row]]) -> list[Row]:
    return finished[1]


def under(rows: list[Row], heading: str) -> list[Row]:
    return [row for row in rows if row["heading"] == heading]


def test_every_stage_comes_to_its_end_and_every_check_holds(
    finished: tuple[subprocess.CompletedProcess[str], list[Row]],
) -> None:
    done, rows = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["stage"] for row in under(rows, "stage")] == ["environment", *(stage.name for stage in STAGES)]
    assert not under(rows, "failed")
    assert {row["stage"] for row in under(rows, "left out")} <= {"compile"}
    assert all(row["passed"] for row in rows if "passed" in row)
    for row in rows:
        for name, value in row.items():
            assert not isinstance(value, float) or math.isfinite(value), (row["heading"], name)
            assert value is not None, (row["heading"], name)
            if name in {"ms", "ms_per_step", "bare_ms", "transformers_ms", "seconds", "total_seconds", "us_each"}:
                assert value > 0, (row["heading"], name)


@pytest.mark.parametrize(
    ("heading", "names", "count"),
    [
        ("golden tokens", {"what", "cases", "wrong", "passed"}, 2),
        ("kernels", {"dtype", "own", "switched_off"}, 2),
        ("kernels against torch", {"what", "error", "cache_error", "rest_untouched", "passed"}, 8),
        ("captured against plain steps", {"rows", "steps", "same", "passed"}, 4),
        ("precision", {"error", "transformers_error", "best_token_agrees", "passed"}, 1),
        ("engine", {"slots", "context", "self_check_seconds", "tuning_seconds", "capture_seconds", "graphs"}, 1),
        ("kernels of the engine", {"own", "switched_off", "why"}, 1),
        ("bandwidth", {"copied_terabytes_per_second"}, 1),
        ("steps", {"batch", "ms_per_step", "bare_ms", "share_of_bandwidth", "audio_seconds_per_second"}, 2),
        ("profile of a step", {"rows", "kernels", "us_in_kernels", "us_per_step"}, 2),
        ("prefill", {"positions", "host_ms", "ms", "request_ms"}, 2),
        ("text step", {"ms", "slowest_ms", "tokens"}, 1),
        ("request lengths", {"seed", "mean_seconds", "ended_by_themselves"}, 1),
        ("traffic", {"streams", "audio_seconds_per_second", "under_runs", "worst_margin_seconds"}, 2),
        ("first audio under load", {"streams", "reference", "p50_ms", "p95_ms", "p99_ms"}, 4),
        ("first audio", {"reference", "ms", "slowest_ms"}, 3),
        ("beside transformers", {"batch", "ms_per_step", "transformers_ms", "ratio"}, 2),
        (
            "loading",
            {"total_seconds", "allocation", "reading", "codec", "self_check", "tuning", "capture", "warm_up"},
            2,
        ),
    ],
)
def test_the_rows_that_are_promised_are_there(rows: list[Row], heading: str, names: set[str], count: int) -> None:
    found = under(rows, heading)
    assert len(found) == count
    assert all(names <= row.keys() for row in found)


def test_the_profile_names_what_a_step_consists_of(rows: list[Row]) -> None:
    found = [row for row in under(rows, "profile") if row["rows"] == 1]
    assert len(found) > 5
    assert sum(row["share"] for row in found) == pytest.approx(1, abs=0.2)
    assert all(row["us_each"] * row["calls"] == pytest.approx(row["us_total"]) for row in found)


def test_traffic_has_as_many_streams_as_planned_and_both_kinds_of_reference(rows: list[Row]) -> None:
    heard = {(row["streams"], row["reference"]) for row in under(rows, "first audio under load")}
    assert heard == {(streams, kind) for streams in dry_run().streams for kind in ("cached", "cold")}


def test_it_ends_with_tables_for_the_readme(finished: tuple[subprocess.CompletedProcess[str], list[Row]]) -> None:
    printed = finished[0].stdout
    for line in (
        "| batch | 1 |",
        "| continuous streams | 1 | 4 |",
        "| decode step, ms |",
        "| peak memory of the host |",
    ):
        assert line in printed


def test_without_a_gpu_and_without_dry_run_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.main([]) == 2
    assert "torch sees no GPU" in capsys.readouterr().out


def test_stages_that_come_too_late_are_left_out_by_name(tmp_path: Path) -> None:
    gpu.main(["--dry-run-cpu", "--minutes", "0", "--output", str(tmp_path / "figures.json")])
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert {row["stage"] for row in under(rows, "left out")} == {"environment", *(stage.name for stage in STAGES)}


def test_an_unknown_stage_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--only", "stepps"])
    assert "no stage stepps; there are" in capsys.readouterr().err


def test_the_file_is_named_by_date_and_card_and_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    first = gpu._free_name("NVIDIA H200 (141 GB)")
    assert first.name.endswith("-nvidia-h200-141-gb.json")
    first.touch()
    assert gpu._free_name("NVIDIA H200 (141 GB)").name.endswith("-nvidia-h200-141-gb-2.json")


def test_the_process_that_watches_over_the_stages_loads_no_torch() -> None:
    done = run("import benchmarks.gpu, sys; print('torch' in sys.modules, 'transformers' in sys.modules)")
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_the_plan_for_a_gpu_is_what_is_promised() -> None:
    plan = on_gpu()
    assert sorted(plan.batches) == [1, 4, 8, 16, 32]
    assert set(plan.streams) == set(plan.profiled_rows) == {1, 8, 32}
    assert plan.prefills == (64, 512, 2048)
