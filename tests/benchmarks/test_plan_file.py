"""The plan that a run writes is one that the engine reads."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.gpu import _write_plan
from benchmarks.report import Report
from higgs_core.kernels.plans.linear_plan import Plan, choices, plan_entries, read_plan
from higgs_core.kernels.plans.plan_choice import keys_of
from tests.helpers.kernel_shapes import model_config


def some_plan() -> Plan:
    keys = keys_of(model_config(), torch.bfloat16, torch.int8)
    return {key: choices(key, "gemv" if key.rows < 3 else "skinny_gemm")[-1] for key in keys}


def test_the_plan_beside_the_results_is_read_back(tmp_path: Path) -> None:
    report = Report(tmp_path / "results.json", {})
    report.add("environment", card="NVIDIA H200")
    for entry in plan_entries(some_plan()):
        report.add("plan", **entry)
    _write_plan(report)
    assert read_plan(tmp_path / "results.plan.json") == some_plan()


def test_a_run_without_a_plan_writes_none(tmp_path: Path) -> None:
    report = Report(tmp_path / "results.json", {})
    report.add("environment", card="cpu")
    _write_plan(report)
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
