"""Plans: what is in a GPU's file is used, what it does not say or says wrongly is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from higgs_core.kernels.linear import fused_mlp, gemv, skinny_gemm
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight
from higgs_core.kernels.plans import linear_plan
from higgs_core.kernels.plans.linear_plan import (
    FAMILIES,
    LIBRARY,
    LINEAR_ADD,
    NORM_LINEAR,
    NORM_MLP_ADD,
    ROW_BUCKETS,
    Choice,
    Key,
    choices,
    plan_entries,
    plan_path,
    read_plan,
)
from higgs_core.kernels.plans.plan_choice import keys_of
from higgs_core.kernels.plans.planned_ops import PlannedOp
from tests.helpers.kernel_shapes import model_config

CONFIG = model_config()
KINDS = (None, torch.int8, torch.float8_e4m3fn)


def whole_plan() -> dict[Key, Choice]:
    """Another choice for every key: the last one of a family, the families in turn, and the library."""
    plan = {}
    keys = [key for kind in KINDS for key in keys_of(CONFIG, torch.bfloat16, kind)]
    for number, key in enumerate(keys):
        found = [options[-1] for family in FAMILIES if (options := choices(key, family))] + [LIBRARY]
        plan[key] = found[number % len(found)]
    return plan


def file_of(plan: Mapping[Key, Choice]) -> str:
    """Of a GPU's file."""
    return json.dumps({"gpu": "NVIDIA H200", "choices": plan_entries(plan)})


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "gpu.json"
    path.write_text(content)
    return path


def test_a_plan_is_read_as_it_was_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = whole_plan()
    assert {choice.family for choice in plan.values()} == {*FAMILIES, "library"}
    assert read_plan(written(tmp_path, file_of(plan))) == plan
    assert caplog.records == []


def test_the_same_plan_is_the_same_file_whatever_its_order() -> None:
    plan = whole_plan()
    assert plan_entries(dict(reversed(plan.items()))) == plan_entries(plan)


def test_a_gpu_without_a_file_has_no_plan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_plan(tmp_path / "none.json") == {}
    assert caplog.records == []


def edited(**changes: Any) -> str:
    """A file with two choices, the first one changed."""
    key = Key(NORM_LINEAR, 1, ((144, 72),), "bfloat16", "bfloat16")
    other = Key(LINEAR_ADD, 32, ((72, 96),), "bfloat16", "int8")
    plan = {key: choices(key, "gemv")[0], other: choices(other, "skinny_gemm")[1]}
    file = json.loads(file_of(plan))
    number = next(i for i, entry in enumerate(file["choices"]) if entry["operation"] == NORM_LINEAR)
    file["choices"][number].update(changes)
    return json.dumps(file)


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "megakernel"},
        {"family": "fused_mlp"},  # has no such operation
        {"family": "skinny_gemm"},  # with another family's configuration
        {"configs": [{"tile": 3, "tiles": 1, "block": 1024, "warps": 4}]},
        {"configs": []},
        {"configs": 2 * plan_entries(whole_plan())[0]["configs"]},
        {"rows": 8},  # of another family
        {"shapes": [[144]]},
        {"operation": "attention"},
        {"rows": "many"},
    ],
)
def test_a_choice_that_is_unknown_is_left_out_with_one_warning(
    changes: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (key,) = read_plan(written(tmp_path, edited(**changes)))
    assert key.operation == LINEAR_ADD
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "1 choices of the kernel plan gpu.json" in record.getMessage()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"choices": 3}', '{"choices": [3]}'])
def test_a_file_that_is_no_plan_is_left_out_with_one_warning(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_plan(written(tmp_path, content)) == {}
    (record,) = caplog.records
    assert "timed instead" in record.getMessage()


def test_the_name_of_a_file() -> None:
    assert plan_path("NVIDIA H200").name == "NVIDIA-H200.json"
    assert plan_path("NVIDIA RTX 6000 Ada Generation (x/y)").name == "NVIDIA-RTX-6000-Ada-Generation-x-y.json"


def test_every_plan_in_the_tree_is_known(caplog: pytest.LogCaptureFixture) -> None:
    for path in plan_path("any").parent.glob("*.json"):
        assert read_plan(path)
        assert plan_path(json.loads(path.read_text())["gpu"]) == path
    assert caplog.records == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_rows_has_a_kernel_for_every_operation(kind: torch.dtype | None) -> None:
    for key in keys_of(CONFIG, torch.bfloat16, kind):
        expected = ["gemv"] if key.rows <= 2 else ["skinny_gemm"]
        if key.operation == NORM_MLP_ADD and key.rows <= 2:
            expected.insert(0, "fused_mlp")
        assert [family for family in FAMILIES if choices(key, family)] == expected


def test_only_layers_are_quantised() -> None:
    head = (CONFIG.num_codebooks * CONFIG.codebook_size, CONFIG.hidden_size)
    for key in keys_of(CONFIG, torch.bfloat16, torch.int8):
        assert key.kind == ("bfloat16" if key.shapes == (head,) else "int8")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, "gemv"),
        (2, "library"),
        (3, "skinny"),
        (4, "skinny"),
        (5, "library"),
        (9, "skinny"),
        (32, "library"),
        (33, "library"),
    ],
)
def test_other_numbers_of_rows_take_the_next_buckets_choice_where_its_kernel_can(
    rows: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorder(name: str) -> Any:
        return lambda x, norm, eps, weight, config, *, pdl: name

    monkeypatch.setattr(gemv, "norm_linear_triton", recorder("gemv"))
    monkeypatch.setattr(skinny_gemm, "norm_linear_triton", recorder("skinny"))
    key = {rows: Key(NORM_LINEAR, rows, ((5, 8),), "float32", "float32") for rows in ROW_BUCKETS}
    skinny = choices(key[16], "skinny_gemm")[0]
    # Rows 2 have a choice that cannot run 2 rows.
    plan = {key[1]: choices(key[1], "gemv")[0], key[2]: skinny, key[4]: skinny, key[16]: skinny, key[32]: LIBRARY}
    op = PlannedOp(NORM_LINEAR, lambda *_: "library", plan)  # type: ignore[arg-type,return-value]
    assert op(torch.ones(rows, 8), torch.ones(8), 1e-5, torch.ones(5, 8)) == expected


def test_a_quantised_weight_has_a_choice_of_its_own() -> None:
    x, weight = torch.ones(1, 8), torch.ones(5, 8)
    quantised = QuantizedWeight(weight.to(torch.int8), torch.ones(5))
    keys = [Key.of(NORM_LINEAR, 1, (each,), x.dtype) for each in (weight, quantised)]
    assert [key.kind for key in keys if key] == ["float32", "int8"]


def test_the_families_have_what_a_family_must_have() -> None:
    assert linear_plan.FAMILIES["gemv"].MAX_ROWS + 1 >= linear_plan.FAMILIES["skinny_gemm"].MIN_ROWS
    for name, module in FAMILIES.items():
        assert len(set(module.CONFIGS)) == len(module.CONFIGS), name
    assert not hasattr(fused_mlp, "linear_add_triton")
