"""What an engine is loaded from and how large it is. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from higgs_core.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

AUTO: Final = "auto"
NumberOrAuto = int | Literal["auto"]
SecondsOrAuto = float | Literal["auto"]
DTYPES = {
    "fp32": "float32",
    "float32": "float32",
    "fp16": "float16",
    "float16": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
}
"""Allowed names of a dtype, and torch's name for each."""
WEIGHTS = (AUTO, "int8", "fp8")
MIN_CONTEXT = 64
USUAL_SLOTS = 8
"""What "auto" gives on a CPU and on a GPU of 24 GB; larger GPUs get more."""


@dataclass(frozen=True)
class EngineConfig:
    """Arguments of `HiggsAudioEngine.from_config`.

    model: a folder or a hub id, in Boson's or transformers' format, or the name of a built-in checkpoint: "demo" (a
        small synthetic voice) or "tiny" (random weights: noise).
    audio_tokenizer: folder or hub id of the codec; without one a model gives codes only. Built-in ones have their own.
    tokenizer: folder or hub id of the text tokenizer; None takes the model's.
    revision, audio_tokenizer_revision: of hub ids; None is the pinned or the default one.
    device: "auto", "cpu", "cuda" or "cuda:N".  dtype: "auto" (the checkpoint's), or a name in `DTYPES`.
    max_batch_size: slots, or "auto": as many as suit the device.  max_context: positions a slot. Fewer of both if
        memory does not reach, which the log says; `higgs_core/memory_plan.py` has the rule.
    max_waiting: requests that may wait for a slot before `submit` raises BusyError.
    hang_seconds: how long one step or one call of the codec may take before the engine counts as hung and fails for
        good; five times as long until each has done its first. "auto": 120 on a GPU, 3600 on a CPU.
    progress: show a bar while weights load.
    weights: "auto" (in `dtype`), or "int8" or "fp8": the layers' matrices in 8 bits with a scale an output feature.
    kernels: whether a GPU runs Triton kernels, which are checked at boot; without them it speaks, but more slowly.

    Raises ModelLoadError for a value that cannot work on any machine.
    """

    model: str
    audio_tokenizer: str | None = None
    tokenizer: str | None = None
    revision: str | None = None
    audio_tokenizer_revision: str | None = None
    device: str | torch.device = AUTO
    dtype: str | torch.dtype = AUTO
    max_batch_size: NumberOrAuto = AUTO
    max_context: int = 8192
    max_waiting: int = 64
    hang_seconds: SecondsOrAuto = AUTO
    progress: bool = False
    weights: str = AUTO
    kernels: bool = True

    def __post_init__(self) -> None:
        slots = self.max_batch_size
        if slots != AUTO and (not isinstance(slots, int) or slots < 1):
            raise ModelLoadError(f"max_batch_size is {slots!r}; allowed is 'auto' or at least 1.")
        if self.max_context < MIN_CONTEXT:
            raise ModelLoadError(f"max_context is {self.max_context}; allowed is at least {MIN_CONTEXT}.")
        if self.max_waiting < 0:
            raise ModelLoadError(f"max_waiting is {self.max_waiting}; allowed is at least 0.")
        if self.hang_seconds != AUTO and not self.hang_seconds > 0:
            raise ModelLoadError(f"hang_seconds is {self.hang_seconds}; allowed is 'auto' or above 0.")
        if self.dtype is None or (isinstance(self.dtype, str) and self.dtype != AUTO and self.dtype not in DTYPES):
            raise ModelLoadError(f"dtype is {self.dtype!r}; allowed is 'auto' or one of {', '.join(DTYPES)}.")
        if self.weights not in WEIGHTS:
            raise ModelLoadError(f"weights is {self.weights!r}; allowed is 'auto', 'int8' or 'fp8'.")
