"""The benchmarks' code paths on a model of seconds; what they measure here means nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, quality
from benchmarks.harness import TransformersSide, engine_speed, speech
from benchmarks.models import FULL_SIZE, SMALLEST, random_model, random_parts
from benchmarks.report import Report
from higgs_core import HiggsAudioEngine
from tests.golden import CASES
from tests.test_imports import BEYOND_TORCH, run


def test_with_torch_transformers_and_numpy_alone_the_gpu_run_works_through_every_stage(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    code = f"from benchmarks import gpu; raise SystemExit(gpu.main(['--dry-run-cpu', '--output', {str(file)!r}]))"
    done = run(code, BEYOND_TORCH)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert found["about"].keys() >= {"device", "date", "torch", "transformers", "cores"}
    rows = found["rows"]
    headings = {row["heading"] for row in rows}
    assert {
        "golden tokens",
        "kernels against torch",
        "captured against plain steps",
        "smallest",
        "full size",
    } <= headings
    assert {"engine", "bandwidth", "steps", "beside transformers", "first audio", "loading"} <= headings
    assert {"whole requests", "peak memory"} <= headings
    assert not headings & {"failed", "left out", "codec"}
    assert all(row.get("passed", True) for row in rows)
    assert [row["batch"] for row in rows if row["heading"] == "steps"] == [1, 2]
    assert [row["reference"] for row in rows if row["heading"] == "first audio"] == ["not cached", "cached", "none"]
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float):
                assert math.isfinite(value), name
            if name.startswith(("ms", "transformers_ms", "seconds")):
                assert value > 0, name


def test_without_a_gpu_and_without_dry_run_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "torch sees no GPU" in capsys.readouterr().out


def test_stages_that_come_too_late_are_left_out_by_name(tmp_path: Path) -> None:
    gpu.main(["--dry-run-cpu", "--minutes", "0", "--output", str(tmp_path / "figures.json")])
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert {row["stage"] for row in rows if row["heading"] == "left out"} >= {"checks", "steps", "loading"}


def test_a_random_model_speaks_as_long_as_it_may_on_both_sides() -> None:
    torch.set_num_threads(1)
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=2, context=512)
    with HiggsAudioEngine(parts) as engine:
        assert engine_speed(engine, speech(), 2, 40).steps == 40
    assert TransformersSide(parts, speech()).speed(2, 20).ms_per_step > 0


def test_rows_of_random_weights_differ_and_stream_tokens_are_unlikely() -> None:
    config, weights = random_model(SMALLEST, "cpu", torch.float32)
    assert weights.code_embedding.unique(dim=0).shape[0] == weights.code_embedding.shape[0]
    assert weights.layers[0].qkv.std().item() == pytest.approx(config.hidden_size**-0.5, rel=0.05)
    assert (weights.audio_head.view(8, 1026, -1)[:, 1024:] == 0).all()


def test_the_full_size_is_the_released_models() -> None:
    config = FULL_SIZE.config()
    assert (config.hidden_size, config.intermediate_size, config.num_layers) == (3072, 8192, 28)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (24, 8, 128)
    assert (config.vocab_size, config.codebook_size, config.num_codebooks) == (128256, 1026, 8)


def test_quality_of_the_reference_itself_is_perfect_and_of_worse_weights_is_not() -> None:
    torch.set_num_threads(1)
    case = next(case for case in CASES if case.params.force_audio_gen)
    reference = quality.parts_of(case.folder, quality.REFERENCE)
    with HiggsAudioEngine(reference) as engine:
        utterance = quality.spoken(engine, case.sample, case.params)
    assert utterance is not None
    assert utterance.columns.T.tolist() == case.raw["delayed_audio_columns"][0]
    same = quality.compared(quality.parts_of(case.folder, quality.REFERENCE), [utterance])
    assert (same["logits_error"], same["best_code_agrees"], same["same_columns"]) == (0, 1, 1)
    assert same["divergence"] == pytest.approx(0, abs=1e-9)
    errors = []
    for kind in ("int8", "fp8"):
        found = quality.compared(quality.parts_of(case.folder, quality.Variant(torch.float32, kind)), [utterance])
        errors.append((found["logits_error"], found["divergence"]))
    assert (0, 1e-9) < errors[0] < errors[1]


def test_an_unfinished_report_holds_what_was_added(tmp_path: Path) -> None:
    report = Report(tmp_path / "deep" / "figures.json", torch.device("cpu"))
    report.add("speed", batch=1, ms=2.5)
    report.add("speed", batch=8, ms=1234.5)
    report.add("memory", gigabytes=1.0)
    assert [row["batch"] for row in json.loads((tmp_path / "deep" / "figures.json").read_text())["rows"][:2]] == [1, 8]
    table = report.table().splitlines()
    assert table[0].split() == ["heading", "batch", "ms"]
    assert table[3].split() == ["speed", "8", "1234.5"]
