"""Engines whose matrices are quantised speak, on the CPU, almost the same as in fp32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.quality import compared, spoken, turns
from higgs_core import ChatMLSample, GenerationParams, HiggsAudioEngine, Message, build
from higgs_core.engine_config import EngineConfig
from higgs_core.errors import ModelLoadError

SAMPLE = ChatMLSample([Message("user", "Good morning.")])
GREEDY = GenerationParams(max_new_tokens=60, temperature=0.0, ras_win_len=None)


@pytest.fixture(scope="module")
def demo() -> Iterator[HiggsAudioEngine]:
    torch.set_num_threads(1)
    with HiggsAudioEngine.from_pretrained("demo", device="cpu", max_batch_size=1, max_context=512) as engine:
        yield engine


@pytest.mark.parametrize(("kind", "most_error"), [("int8", 0.008), ("fp8", 0.03)])
def test_the_demo_voice_speaks_almost_the_same_codes(demo: HiggsAudioEngine, kind: str, most_error: float) -> None:
    """Scales of one matrix that are off by a row exceed the bounds of the error."""
    utterance = spoken(demo, turns("We will walk to the river."), GREEDY)
    assert utterance is not None
    parts = build.load_parts(EngineConfig("demo", device="cpu", max_batch_size=1, max_context=512, weights=kind))
    figures = compared(parts, [utterance])
    assert figures["codes"] > 100
    assert figures["best_code_agrees"] > 0.98
    assert 0 < figures["logits_error"] < most_error
    assert parts.weights.nbytes < 0.6 * demo.stats()["weights_bytes"]


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.parametrize("dtype", ["auto", "bf16", "fp16"])
def test_audio_comes_out_of_a_quantised_engine(kind: str, dtype: str) -> None:
    with HiggsAudioEngine.from_pretrained(
        "tiny", device="cpu", dtype=dtype, max_batch_size=2, max_context=256, weights=kind
    ) as engine:
        engine.warm_up()
        result = engine.generate(SAMPLE, GREEDY)
        assert result.audio is not None
        assert result.audio.size
        assert engine._parts.weights.kind == kind


def test_by_default_nothing_is_quantised(demo: HiggsAudioEngine) -> None:
    assert demo._parts.weights.kind is None


@pytest.mark.parametrize(("capability", "refused"), [((8, 0), True), ((8, 6), True), ((8, 9), False), ((9, 0), False)])
def test_a_gpu_without_fp8_is_refused_with_a_remedy(
    capability: tuple[int, int], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A Card")
    device = torch.device("cuda")
    assert build._kind("int8", device) == "int8"
    assert build._kind("auto", device) is None
    assert build._kind("fp8", torch.device("cpu")) == "fp8"
    if refused:
        with pytest.raises(ModelLoadError, match=r"weights is 'fp8', and A Card .* 8\.9.*; use 'int8'\."):
            build._kind("fp8", device)
    else:
        assert build._kind("fp8", device) == "fp8"
