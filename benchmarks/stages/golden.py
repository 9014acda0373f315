"""Boson's own greedy tokens, in fp32, on this device."""

from __future__ import annotations

from benchmarks.stage_context import StageContext
from higgs_core import HiggsAudioEngine
from tests.golden import CASES, CHECKPOINTS, FOLDER


def run(context: StageContext) -> None:
    """All cases of a checkpoint at once."""
    for checkpoint in CHECKPOINTS:
        wrong = []
        with HiggsAudioEngine.from_pretrained(
            str(FOLDER / checkpoint), device=context.plan.device, dtype="fp32", max_context=2048
        ) as engine:
            cases = [case for case in CASES if case.checkpoint == checkpoint]
            futures = [engine.submit(case.sample, case.params) for case in cases]
            for case, future in zip(cases, futures, strict=True):
                try:
                    case.check(future.result())
                except AssertionError:
                    wrong.append(case.raw["name"])
        context.add(
            "golden tokens",
            what=checkpoint,
            cases=len(cases),
            wrong=", ".join(wrong) or "none",
            passed=not wrong,
        )
