"""What quantised weights cost is measured against a reference that costs nothing."""

from __future__ import annotations

import pytest
import torch

from benchmarks import quality
from higgs_core import HiggsAudioEngine
from tests.golden import CASES


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
