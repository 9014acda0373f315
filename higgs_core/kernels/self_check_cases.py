"""Cases for the check of each kernel at start: the model's own shapes, ragged rows, bounds of the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.self_check import Case
from higgs_core.kernels.self_check_inputs import RandomInputs
from higgs_core.params import MAX_RAS_WINDOW, MAX_SEED

ROWS = (1, 2, 5, 8, 32)
_MAX_KV_LENGTH = 512
_RESIDUAL = 0.05  # size of a residual beside what is added to it, which an error in the sum must not hide behind


class Cases:
    """Random inputs in the shapes of a model on a device, the same at every start."""

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        self._inputs = RandomInputs(device, dtype)
        self._generator = torch.Generator().manual_seed(0)

    def embed(self) -> Iterator[Case]:
        """columns, table."""
        codebooks, codes = self._config.num_codebooks, self._config.codebook_size
        table = self._inputs.normal(codebooks * codes, self._config.hidden_size)
        for rows in ROWS:
            yield Case((self._inputs.integers(0, codes, rows, codebooks), table))

    def norm(self) -> Iterator[Case]:
        """x, weight, eps."""
        width = self._config.hidden_size
        for rows in ROWS:
            x, weight = self._inputs.activations(rows, width), self._inputs.norm_weight(width)
            yield Case((x, weight, self._config.rms_norm_eps))

    def gated(self) -> Iterator[Case]:
        """gate_up."""
        for rows in ROWS:
            yield Case((self._inputs.normal(rows, 2 * self._config.intermediate_size),))

    def linear(self, plan: Iterable[tuple[int, int, int]]) -> Iterator[Case]:
        """x, weight for rows, out and in of a plan."""
        for rows, out_features, in_features in plan:
            x, weight = self._inputs.activations(rows, in_features), self._inputs.weight(out_features, in_features)
            yield Case((x, weight))

    def norm_linear(
        self, out_features: int, kind: torch.dtype | None = None, rows: Iterable[int] = ROWS
    ) -> Iterator[Case]:
        """x, norm, eps, weight.  kind: of a quantised weight, int8 or float8_e4m3fn; None is the model's dtype."""
        config, inputs = self._config, self._inputs
        weight, norm = inputs.weight(out_features, config.hidden_size, kind), inputs.norm_weight(config.hidden_size)
        for count in rows:
            yield Case((inputs.activations(count, config.hidden_size), norm, config.rms_norm_eps, weight))

    def linear_add(
        self, out_features: int, in_features: int, kind: torch.dtype | None = None, rows: Iterable[int] = ROWS
    ) -> Iterator[Case]:
        """x, weight, residual."""
        weight = self._inputs.weight(out_features, in_features, kind)
        for count in rows:
            residual = self._inputs.activations(count, out_features).mul_(_RESIDUAL)
            yield Case((self._inputs.activations(count, in_features), weight, residual), writes=(2,))

    def norm_mlp_add(self, kind: torch.dtype | None = None, rows: Iterable[int] = ROWS) -> Iterator[Case]:
        """residual, norm, eps, gate_up, down."""
        config, inputs = self._config, self._inputs
        hidden, inner = config.hidden_size, config.intermediate_size
        norm, gate_up = inputs.norm_weight(hidden), inputs.weight(2 * inner, hidden, kind)
        down = inputs.weight(hidden, inner, kind)
        for count in rows:
            residual = inputs.activations(count, hidden).mul_(_RESIDUAL)
            yield Case((residual, norm, config.rms_norm_eps, gate_up, down), writes=(0,))

    def rope_attention(self) -> Iterator[Case]:
        """qkv, k_cache, v_cache, cos, sin, positions, active, max_kv_length; the last of several rows is inactive."""
        config, inputs = self._config, self._inputs
        angle = torch.rand(_MAX_KV_LENGTH + 1, config.head_dim // 2, generator=self._generator).mul(6).repeat(1, 2)
        cos, sin = (part.to(self._device, self._dtype) for part in (angle.cos(), angle.sin()))
        for rows in ROWS:
            cache = (rows + 1, config.num_kv_heads, _MAX_KV_LENGTH + 1, config.head_dim)
            positions = inputs.integers(0, _MAX_KV_LENGTH, rows)
            positions[0] = _MAX_KV_LENGTH - 1
            active = torch.ones(rows, dtype=torch.bool, device=self._device)
            if rows > 1:
                active[-1], positions[-1] = False, _MAX_KV_LENGTH
            caches = (inputs.normal(*cache), inputs.normal(*cache))
            qkv = inputs.normal(rows, config.qkv_size)
            yield Case((qkv, *caches, cos, sin, positions, active, _MAX_KV_LENGTH), writes=(1, 2))

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
            window = self._inputs.integers(-1, 4, rows, MAX_RAS_WINDOW, codebooks)
            seed, step = self._inputs.integers(0, MAX_SEED, rows), self._inputs.integers(0, 4096, rows)
            parameters = (temperature, top_k, top_p, ras_window, ras_win_max_num_repeat, seed)
            yield Case((logits.to(self._device), window, step, *parameters))

    def step_tail(self) -> Iterator[Case]:
        """tokens and the tensors of a `DecodeState`, in its order: delay head, EOS anywhere, countdowns."""
        codebooks, eos = self._config.num_codebooks, self._config.stream_eos
        rows = 32
        for share_of_eos in (0.0, 0.2):
            tokens = self._inputs.integers(0, eos, rows, codebooks)
            tokens[torch.rand(tokens.shape, generator=self._generator).to(self._device) < share_of_eos] = eos
            step = self._inputs.integers(0, 4, rows)
            window = self._inputs.integers(-1, eos, rows, MAX_RAS_WINDOW, codebooks)
            reach = self._inputs.integers(0, codebooks + 1, rows) * self._inputs.integers(0, 2, rows)
            column, position = tokens.flip(0), self._inputs.integers(0, 9, rows)
            sampled, active = self._inputs.integers(0, codebooks + 3, rows), self._inputs.integers(0, 2, rows).bool()
            emitted = self._inputs.integers(0, 2, rows, codebooks + 1)
            state = (column, position, window, step, sampled, reach, active, emitted)
            yield Case((tokens, *state), writes=tuple(range(1, 9)))
