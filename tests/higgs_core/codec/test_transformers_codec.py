"""The codec without torchaudio: its resampling does what torchaudio's does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from transformers.models.higgs_audio_v2_tokenizer import modeling_higgs_audio_v2_tokenizer as modeling

from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.codec.transformers_codec import resample


@pytest.mark.parametrize(("source", "target"), [(24_000, 16_000), (16_000, 24_000), (44_100, 16_000), (8_000, 8_000)])
@pytest.mark.parametrize("shape", [(960,), (2, 1, 24_000), (1, 12_345), (3, 1)])
def test_it_is_torchaudios_resampling(source: int, target: int, shape: tuple[int, ...]) -> None:
    waveform = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = torchaudio.functional.resample(waveform, source, target)
    found = resample(waveform, source, target)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)


def test_a_clip_has_the_same_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny(tmp_path)[1]
    clip = np.random.default_rng(0).standard_normal(50 * 960).astype(np.float32) * 0.2
    expected = AudioCodec.from_folder(folder, torch.device("cpu")).encode(clip)
    monkeypatch.setattr(modeling.torchaudio.functional, "resample", resample)
    found = AudioCodec.from_folder(folder, torch.device("cpu")).encode(clip)
    assert torch.equal(found, expected)


def test_where_torchaudio_is_installed_nothing_stands_in_for_it() -> None:
    assert sys.modules["torchaudio"] is torchaudio
    assert modeling.torchaudio is torchaudio
