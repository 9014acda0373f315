"""Whether programmatic dependent launch leaves the result of decode steps as it is, on the device itself."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from higgs_core.config import ModelConfig
from higgs_core.graph_capture import capturing
from higgs_core.kernels.attention.rope_kv import RopeTable
from higgs_core.kernels.checks.self_check_inputs import RandomInputs
from higgs_core.kernels.ops import Ops
from higgs_core.sampling.decode_state import DecodeState

log = logging.getLogger(__name__)

Repeat = Callable[[Callable[[], torch.Tensor], int], torch.Tensor]
"""(step, times) -> what the last of so many steps returned."""

_ROWS = (1, 2, 8, 32)
_LAYERS = 3
_STEPS = 6
_CONTEXT = 64


class StepChain:
    """Decode steps of a few layers that share their weights, from the same state at every call."""

    def __init__(
        self, config: ModelConfig, device: torch.device, dtype: torch.dtype, kind: torch.dtype | None, rows: int
    ) -> None:
        self._config, self._device, self._rows = config, device, rows
        inputs = self._inputs = RandomInputs(device, dtype)
        hidden, inner = config.hidden_size, config.intermediate_size
        logits = config.num_codebooks * config.codebook_size
        self._table = inputs.normal(logits, hidden)
        self._norm = inputs.norm_weight(hidden)
        self._qkv = inputs.weight(config.qkv_size, hidden, kind)
        self._output = inputs.weight(hidden, config.num_heads * config.head_dim, kind)
        self._gate_up, self._down = inputs.weight(2 * inner, hidden, kind), inputs.weight(hidden, inner, kind)
        self._head = inputs.weight(logits, hidden)
        angle = torch.arange(_CONTEXT + 1, device=device)[:, None] * torch.ones(config.head_dim, device=device)
        self._rope = RopeTable(angle.cos().to(dtype), angle.sin().to(dtype))
        cache = (_LAYERS, rows, config.num_kv_heads, _CONTEXT + 1, config.head_dim)
        self._keys, self._values = inputs.normal(*cache), inputs.normal(*cache)
        self._columns = inputs.integers(0, config.codebook_size - 2, rows, config.num_codebooks)

    def run(self, ops: Ops, repeat: Repeat) -> list[torch.Tensor]:
        """What a few steps leave: logits, keys, values, columns and statuses."""
        config, eps = self._config, self._config.rms_norm_eps
        state = DecodeState.allocate(config, self._rows, _CONTEXT, self._device)
        state.column.copy_(self._columns)
        state.position.copy_(torch.arange(self._rows) % (_CONTEXT // 2))
        state.active.fill_(True)
        keys, values = self._keys.clone(), self._values.clone()
        sample = ops.sampler(config.num_codebooks, config.codebook_size, self._device)
        step_tail = ops.step_tail(config, sample, self._device)

        def step() -> torch.Tensor:
            residual = ops.embed_columns(state.column, self._table)
            attend = ops.rope_attention(self._rope, state.position, state.active, _CONTEXT, config.num_kv_heads)
            for layer in range(_LAYERS):
                qkv = ops.norm_linear(residual, self._norm, eps, self._qkv)
                attended = attend(qkv, keys[layer], values[layer])
                residual = ops.linear_add(attended, self._output, residual)
                residual = ops.norm_mlp_add(residual, self._norm, eps, self._gate_up, self._down)
            logits = ops.norm_linear(residual, self._norm, eps, self._head)
            logits = logits.view(self._rows, config.num_codebooks, config.codebook_size)
            step_tail(state, logits, 1)
            return logits

        logits = repeat(step, _STEPS)
        return [logits.clone(), keys, values, state.column, state.emitted]


def pdl_agrees(
    without: Ops,
    with_pdl: Ops,
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    kind: torch.dtype | None,
    repeat: Repeat,
) -> bool:
    """Whether both compute exactly the same; if not, one warning says so. Sums have a fixed order, so they must."""
    try:
        for rows in _ROWS:
            chain = StepChain(config, device, dtype, kind, rows)
            expected, got = chain.run(without, repeat), chain.run(with_pdl, repeat)
            if not all(torch.equal(*pair) for pair in zip(expected, got, strict=True)):
                log.warning("Programmatic dependent launch is off: it changes the result of %d rows", rows)
                return False
    except Exception as error:  # a compiler or a driver may raise anything; without it the kernels work
        log.debug("Checking programmatic dependent launch failed", exc_info=error)
        log.warning("Programmatic dependent launch is off: it fails with %s", type(error).__name__)
        return False
    return True


def repeat_in_a_graph(step: Callable[[], torch.Tensor], times: int) -> torch.Tensor:
    """One step to warm up, then a captured one so many times."""
    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with capturing(graph):
        result = step()
    for _ in range(times):
        graph.replay()
    torch.cuda.synchronize()
    return result.clone()  # before the graph and its memory go
