"""Cases for the check of each kernel at start: the model's own shapes, ragged rows, bounds of the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.checks.self_check import Case
from higgs_core.kernels.checks.self_check_inputs import RandomInputs
from higgs_core.params import MAX_RAS_WINDOW, MAX_SEED

ROWS = (1, 2, 5, 8, 32)
_RESIDUAL = 0.05  # size of a residual beside what is added to it, which an error in the sum must not hide behind

# Of the sampler's rows; top-k, which depends on the vocabulary, is beside them below.
_TEMPERATURES = (0.0, 1.0, 0.3, 0.7, 1.5, 1.0, 0.3, 0.0)
_TOP_PS = (1.0, 0.9, 0.95, 1.0, 0.5, 1.0, 0.95, 1.0)
_RAS_WINDOWS = (7, 0, 7, MAX_RAS_WINDOW, 7, 6, 7, 0)
_RAS_REPEATS = (1, 1, 2, 1, 1, 1, 1, 1)


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

    def sampler(self) -> Iterator[Case]:
        """logits, window, step and the tensors of `SamplerRows`, in its order: greedy, every filter, RAS."""
        rows, codes = len(_TEMPERATURES), self._config.codebook_size
        tokens = self._inputs.integers(0, codes - 1, rows, self._config.num_codebooks)
        for _ in range(2):
            logits, step = self._logits(tokens), self._inputs.integers(0, 4096, rows)
            yield Case((logits, self._window(tokens), step, *self._sampling(rows)))

    def step_tail(self) -> Iterator[Case]:
        """logits, the tensors of a `DecodeState` and of its sampler, in their order: delay head, EOS, countdowns."""
        codebooks, eos, inputs = self._config.num_codebooks, self._config.stream_eos, self._inputs
        rows = 4 * len(_TEMPERATURES)
        for share_of_eos in (0.0, 0.2):
            tokens = inputs.integers(0, eos, rows, codebooks)
            tokens[torch.rand(tokens.shape, generator=self._generator).to(self._device) < share_of_eos] = eos
            reach = inputs.integers(0, codebooks + 1, rows) * inputs.integers(0, 2, rows)
            column, position = tokens.flip(0), inputs.integers(0, 9, rows)
            sampled, active = inputs.integers(0, codebooks + 3, rows), inputs.integers(0, 2, rows).bool()
            emitted, step = inputs.integers(0, 2, rows, codebooks + 1), inputs.integers(0, 4, rows)
            state = (column, position, self._window(tokens), step, sampled, reach, active, emitted)
            writes = tuple(range(1, 1 + len(state)))
            yield Case((self._logits(tokens), *state, *self._sampling(rows)), writes)

    def _logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, Q, V] of which `tokens` [B, Q] are the likeliest, but not certain."""
        logits = self._inputs.normal(*tokens.shape, self._config.codebook_size).mul_(2)
        return logits.scatter_(-1, tokens[..., None], 9.0)

    def _window(self, tokens: torch.Tensor) -> torch.Tensor:
        """Other columns [B, W, Q], but for some codebooks' likeliest tokens at the two ends of a RAS window of 7."""
        window = self._inputs.integers(-1, self._config.codebook_size, tokens.shape[0], MAX_RAS_WINDOW, tokens.shape[1])
        for age in (6, 7):
            repeated = self._inputs.integers(0, 3, *tokens.shape) == 0
            window[:, -1 - age] = torch.where(repeated, tokens, window[:, -1 - age])
        return window

    def _sampling(self, rows: int) -> tuple[torch.Tensor, ...]:
        codes, repeats = self._config.codebook_size, rows // len(_TEMPERATURES)
        top_k = (codes, codes, min(50, codes), 5, 1, codes, min(50, codes), codes)
        columns = (_TEMPERATURES, top_k, _TOP_PS, _RAS_WINDOWS, _RAS_REPEATS)
        tensors = [torch.tensor(values, device=self._device).repeat(repeats) for values in columns]
        return (*tensors, self._inputs.integers(0, MAX_SEED, rows))
