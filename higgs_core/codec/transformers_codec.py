"""transformers' model of the codec, also on a machine without torchaudio.

transformers' module needs torchaudio for one function, which brings a clip to the 16 kHz of the semantic encoder, and
does not import without it. Where torchaudio is missing, or does not load beside this build of torch, `resample` does
the same.
"""

from __future__ import annotations

import importlib
import math
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import HiggsAudioV2TokenizerModel

__all__ = ["HiggsAudioV2TokenizerModel", "resample"]

_MODULE = "transformers.models.higgs_audio_v2_tokenizer.modeling_higgs_audio_v2_tokenizer"
_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99


def resample(waveform: torch.Tensor, orig_freq: int, new_freq: int) -> torch.Tensor:
    """[..., N] at orig_freq to [..., ceil(N * new_freq / orig_freq)] at new_freq.

    Band-limited interpolation: every output sample is a sum of the input under a sinc of 6 zero crossings on either
    side in a Hann window, cut off at 0.99 of the lower rate's Nyquist frequency; torchaudio's defaults.
    Source: Smith, "Digital Audio Resampling", https://ccrma.stanford.edu/~jos/resample/.
    """
    divisor = math.gcd(orig_freq, new_freq)
    source, target = orig_freq // divisor, new_freq // divisor
    if source == target:
        return waveform
    cutoff = _ROLLOFF * min(source, target)
    reach = math.ceil(_ZERO_CROSSINGS * source / cutoff)  # input samples on either side of an output sample
    # Output sample j lies at j / target, input sample i at i / source. The filters of `target` neighbouring outputs
    # differ; the next ones have the same, `source` input samples further on. So all of it is one strided convolution.
    inputs = torch.arange(-reach, source + reach, dtype=torch.float64) / source  # [K]
    outputs = torch.arange(target, dtype=torch.float64) / target  # [target]
    crossings = cutoff * (inputs - outputs[:, None])  # [target, K]
    window = torch.cos(math.pi / 2 * (crossings / _ZERO_CROSSINGS).clamp(-1, 1)).square()
    filters = (torch.sinc(crossings) * window * (cutoff / source))[:, None].to(waveform)  # [target, 1, K]
    flat = waveform.reshape(-1, 1, waveform.shape[-1])  # [B, 1, N]
    padded = torch.nn.functional.pad(flat, (reach, reach + source))
    columns = torch.nn.functional.conv1d(padded, filters, stride=source)  # [B, target, M]
    length = math.ceil(waveform.shape[-1] * target / source)
    return columns.transpose(1, 2).flatten(1)[:, :length].reshape(*waveform.shape[:-1], length)


def _load() -> type:
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        return _load_without_torchaudio()
    from transformers import HiggsAudioV2TokenizerModel

    return HiggsAudioV2TokenizerModel


def _load_without_torchaudio() -> type:
    """Its module, imported by its own name: the package refuses to hand it out without torchaudio."""
    stand_in = ModuleType("torchaudio")
    stand_in.__spec__ = ModuleSpec("torchaudio", None)
    stand_in.functional = SimpleNamespace(resample=resample)  # type: ignore[attr-defined]
    sys.modules["torchaudio"] = stand_in
    try:
        module = importlib.import_module(_MODULE)
    finally:
        del sys.modules["torchaudio"]  # or other modules would import it as the library
    return module.HiggsAudioV2TokenizerModel  # type: ignore[no-any-return]


if not TYPE_CHECKING:
    HiggsAudioV2TokenizerModel = _load()
