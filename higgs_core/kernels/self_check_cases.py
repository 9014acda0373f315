"""Inputs for the check of each kernel at start: the model's own shapes, ragged rows, bounds of the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.self_check import Case
from higgs_core.params import MAX_RAS_WINDOW, MAX_SEED

_ROWS = (1, 2, 5)
_MAX_KV_LENGTH = 512


class Cases:
    """Random inputs in the shapes of a model on a device, the same at every start."""

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        self._generator = torch.Generator().manual_seed(0)
        # Large tensors are drawn on the device itself: a weight's millions of numbers take a second on the host.
        self._on_device = self._generator if device.type == "cpu" else torch.Generator(device).manual_seed(0)

    def embed(self) -> Iterator[Case]:
        """columns, table."""
        codebooks, codes = self._config.num_codebooks, self._config.codebook_size
        table = self._random(codebooks * codes, self._config.hidden_size)
        for rows in _ROWS:
            yield self._integers(0, codes, rows, codebooks), table

    def norm(self) -> Iterator[Case]:
        """x, weight, eps."""
        for rows in _ROWS:
            width = self._config.hidden_size
            yield self._random(rows, width), self._random(width), self._config.rms_norm_eps

    def gated(self) -> Iterator[Case]:
        """gate_up."""
        for rows in _ROWS:
            yield (self._random(rows, 2 * self._config.intermediate_size),)

    def rope_attention(self) -> Iterator[Case]:
        """qkv, k_cache, v_cache, cos, sin, positions, active, max_kv_length; the last of several rows is inactive."""
        config = self._config
        angle = torch.rand(_MAX_KV_LENGTH + 1, config.head_dim // 2, generator=self._generator).mul(6).repeat(1, 2)
        cos, sin = (part.to(self._device, self._dtype) for part in (angle.cos(), angle.sin()))
        for rows in _ROWS:
            cache = (rows + 1, config.num_kv_heads, _MAX_KV_LENGTH + 1, config.head_dim)
            positions = self._integers(0, _MAX_KV_LENGTH, rows)
            positions[0] = _MAX_KV_LENGTH - 1
            active = torch.ones(rows, dtype=torch.bool, device=self._device)
            if rows > 1:
                active[-1], positions[-1] = False, _MAX_KV_LENGTH
            qkv = self._random(rows, config.qkv_size)
            yield qkv, self._random(*cache), self._random(*cache), cos, sin, positions, active, _MAX_KV_LENGTH

    def linear(self, plan: Iterable[tuple[int, int, int]]) -> Iterator[Case]:
        """x, weight for rows, out and in of a plan."""
        for rows, out_features, in_features in plan:
            yield self._random(rows, in_features), self._random(out_features, in_features).mul(in_features**-0.5)

    def sampler(self) -> Iterator[Case]:
        """logits, window, step and the parameters of `SamplerRows`, in its order: greedy, every filter, RAS."""
        codebooks, codes = self._config.num_codebooks, self._config.codebook_size
        few = min(50, codes)
        temperature = torch.tensor([0.0, 1.0, 0.3, 0.7, 1.5, 1.0], device=self._device)
        top_k = torch.tensor([codes, codes, few, 5, 1, codes], device=self._device)
        top_p = torch.tensor([1.0, 0.9, 0.95, 1.0, 0.5, 1.0], device=self._device)
        ras_window = torch.tensor([7, 0, 7, MAX_RAS_WINDOW, 1, 3], device=self._device)
        ras_win_max_num_repeat = torch.tensor([2, 1, 2, 1, 1, 1], device=self._device)
        rows = len(temperature)
        for _ in range(3):
            logits = torch.randn(rows, codebooks, codes, generator=self._generator).mul(4)
            logits[..., :4] += 8  # so that RAS finds repeats in the window
            window = self._integers(-1, 4, rows, MAX_RAS_WINDOW, codebooks)
            seed, step = self._integers(0, MAX_SEED, rows), self._integers(0, 4096, rows)
            parameters = (temperature, top_k, top_p, ras_window, ras_win_max_num_repeat, seed)
            yield logits.to(self._device), window, step, *parameters

    def step_tail(self) -> Iterator[Case]:
        """tokens and the tensors of a `DecodeState`, in its order: delay head, EOS anywhere, countdowns."""
        codebooks, eos = self._config.num_codebooks, self._config.stream_eos
        rows = 32
        for share_of_eos in (0.0, 0.2):
            tokens = self._integers(0, eos, rows, codebooks)
            tokens[torch.rand(tokens.shape, generator=self._generator).to(self._device) < share_of_eos] = eos
            step = self._integers(0, 4, rows)
            window = self._integers(-1, eos, rows, MAX_RAS_WINDOW, codebooks)
            reach = self._integers(0, codebooks + 1, rows) * self._integers(0, 2, rows)
            column, position = tokens.flip(0), self._integers(0, 9, rows)
            sampled, active = self._integers(0, codebooks + 3, rows), self._integers(0, 2, rows).bool()
            emitted = self._integers(0, 2, rows, codebooks + 1)
            yield tokens, column, position, window, step, sampled, reach, active, emitted

    def _random(self, *shape: int) -> torch.Tensor:
        generator = self._on_device
        return torch.randn(shape, generator=generator, device=generator.device).to(self._device, self._dtype)

    def _integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=self._generator).to(self._device)
