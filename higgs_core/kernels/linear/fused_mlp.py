"""The MLP of one or two rows in one launch: RMSNorm, gate-up, SwiGLU, down and the residual addition.

Between the two projections every program waits for all others. So there are only as many programs as the GPU holds at
the same time, each with several tiles of features, and the first weights of the down projection are on their way while
a program waits. The arithmetic is that of the two launches in `higgs_core.kernels.linear.gemv`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from higgs_core.kernels.linear.gemv_tiles import add_to_residual, load_rows, load_tile, normalised, store_gated
from higgs_core.kernels.linear.grid_barrier import MAX_POLLS, arrivals_of, arrive, phase_of, wait_for_all
from higgs_core.kernels.linear.quantized_weight import Weight
from higgs_core.kernels.linear.weight_tiles import feature_scales, values_and_scales
from higgs_core.kernels.optional_triton import cdiv, jit_for_any_alignment, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous

MIN_ROWS, MAX_ROWS = 1, 2
_REGISTERS = 65536  # of a multiprocessor, on every supported GPU
_THREADS_PER_WARP = 32
_KINDS = {torch.int8: 1, torch.float8_e4m3fn: 2}  # index in `FusedMlpConfig.max_rows`


@dataclass(frozen=True)
class FusedMlpConfig:
    """per_processor: programs of a multiprocessor.  warps: of a program.

    gate_tile, down_tile: features at a time.  gate_block, down_block: inner elements per load of all threads.
    max_rows: for which a thread has enough registers, with weights in the model's dtype, int8 and float8_e4m3fn.
    """

    per_processor: int
    warps: int
    gate_tile: int
    gate_block: int
    down_tile: int
    down_block: int
    max_rows: tuple[int, int, int] = field(compare=False)

    @property
    def max_registers(self) -> int:
        """Of a thread, such that all programs of a multiprocessor fit on it together."""
        return min(_REGISTERS // (self.per_processor * self.warps * _THREADS_PER_WARP), 255)

    def fits(self, rows: int, values: torch.dtype) -> bool:
        """values: the weights' dtype."""
        return rows <= self.max_rows[_KINDS.get(values, 0)]


CONFIGS = (
    FusedMlpConfig(1, 16, gate_tile=4, gate_block=1024, down_tile=2, down_block=4096, max_rows=(1, 1, 0)),
    FusedMlpConfig(2, 8, gate_tile=2, gate_block=1024, down_tile=1, down_block=2048, max_rows=(1, 1, 0)),
    FusedMlpConfig(1, 8, gate_tile=4, gate_block=1024, down_tile=2, down_block=2048, max_rows=(2, 1, 0)),
    FusedMlpConfig(1, 16, gate_tile=2, gate_block=2048, down_tile=2, down_block=4096, max_rows=(2, 2, 1)),
    FusedMlpConfig(1, 16, gate_tile=2, gate_block=2048, down_tile=1, down_block=4096, max_rows=(2, 2, 2)),
)
"""The configurations that are timed; which one is fastest depends on the GPU and the shape."""


# How many tiles a program has depends on the GPU; the compiled kernel does not.
@jit_for_any_alignment("gate_tiles", "down_tiles")
def _norm_mlp_add_kernel(
    residual: tl.tensor,
    norm: tl.tensor,
    gate_up: tl.tensor,
    gate_up_scales: tl.tensor,
    down: tl.tensor,
    down_scales: tl.tensor,
    gated: tl.tensor,
    arrivals: tl.tensor,
    eps: tl.tensor,
    gate_tiles: tl.tensor,
    down_tiles: tl.tensor,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
    INNER: tl.constexpr,
    GATE_TILE: tl.constexpr,
    GATE_BLOCK: tl.constexpr,
    DOWN_TILE: tl.constexpr,
    DOWN_BLOCK: tl.constexpr,
    MAX_POLLS: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """All programs are on the GPU at once. gate_tiles, down_tiles: of a program. gated: [ROWS, INNER]."""
    feature = tl.program_id(0) * GATE_TILE + tl.arange(0, GATE_TILE)
    up_half = gate_up + tl.full([], INNER, tl.int64) * HIDDEN
    gate = load_tile(gate_up, feature, INNER, HIDDEN, GATE_BLOCK)
    up = load_tile(up_half, feature, INNER, HIDDEN, GATE_BLOCK)
    gate_scale = feature_scales(gate_up_scales, feature, INNER)
    up_scale = feature_scales(gate_up_scales, feature + INNER, 2 * INNER)
    norm_weight = load_rows(norm, 1, HIDDEN, GATE_BLOCK, "")
    wait_for_previous(PDL)
    phase = phase_of(arrivals)
    rows = normalised(load_rows(residual, ROWS, HIDDEN, GATE_BLOCK, ""), norm_weight, eps, ROWS, HIDDEN, GATE_BLOCK)
    for _ in range(gate_tiles - 1):
        following = feature + tl.num_programs(0) * GATE_TILE
        next_gate = load_tile(gate_up, following, INNER, HIDDEN, GATE_BLOCK)
        next_up = load_tile(up_half, following, INNER, HIDDEN, GATE_BLOCK)
        next_gate_scale = feature_scales(gate_up_scales, following, INNER)
        next_up_scale = feature_scales(gate_up_scales, following + INNER, 2 * INNER)
        store_gated(rows, gate, up, gate_scale, up_scale, gated, feature, INNER, ROWS)
        feature, gate, up = following, next_gate, next_up
        gate_scale, up_scale = next_gate_scale, next_up_scale

    store_gated(rows, gate, up, gate_scale, up_scale, gated, feature, INNER, ROWS)
    arrive(arrivals)
    # Issued before the wait and not before the arrival, which would itself wait for them.
    down_feature = tl.program_id(0) * DOWN_TILE + tl.arange(0, DOWN_TILE)
    tile = load_tile(down, down_feature, HIDDEN, INNER, DOWN_BLOCK)
    scale = feature_scales(down_scales, down_feature, HIDDEN)
    complete = wait_for_all(arrivals, phase, MAX_POLLS)
    let_next_start(PDL)
    failure = tl.where(complete, 1.0, float("nan"))
    scale = scale * failure
    inner_rows = load_rows(gated, ROWS, INNER, DOWN_BLOCK, ".cg")
    for _ in range(down_tiles - 1):
        following = down_feature + tl.num_programs(0) * DOWN_TILE
        next_tile = load_tile(down, following, HIDDEN, INNER, DOWN_BLOCK)
        next_scale = feature_scales(down_scales, following, HIDDEN) * failure
        add_to_residual(inner_rows, tile, scale, residual, down_feature, HIDDEN, ROWS)
        down_feature, tile, scale = following, next_tile, next_scale
    add_to_residual(inner_rows, tile, scale, residual, down_feature, HIDDEN, ROWS)


def norm_mlp_add_triton(
    residual: torch.Tensor,
    norm: torch.Tensor,
    eps: float,
    gate_up: Weight,
    down: Weight,
    config: FusedMlpConfig,
    *,
    pdl: bool = False,
) -> torch.Tensor:
    """As `higgs_core.kernels.linear.torch_linear.norm_mlp_add` for one or two rows; everything contiguous.

    Calls on a device must follow one another. A GPU without room for all programs at once refuses the launch, or the
    result is NaN.
    """
    rows, (hidden, inner) = residual.shape[0], down.shape
    programs = config.per_processor * _processors(residual.device)
    (gate_up_values, gate_up_scales), (down_values, down_scales) = values_and_scales(gate_up), values_and_scales(down)
    # A cooperative launch fails where not all programs fit on the GPU at once. It is not combined with PDL, whose
    # launches rely on the bound of the wait alone.
    options: dict[str, Any] = launch_options(pdl=True) if pdl else {"launch_cooperative_grid": True}
    _norm_mlp_add_kernel[(programs,)](
        residual,
        norm,
        gate_up_values,
        gate_up_scales,
        down_values,
        down_scales,
        residual.new_empty(rows, inner),
        arrivals_of(residual.device),
        eps,
        cdiv(inner, config.gate_tile * programs),
        cdiv(hidden, config.down_tile * programs),
        ROWS=rows,
        HIDDEN=hidden,
        INNER=inner,
        GATE_TILE=config.gate_tile,
        GATE_BLOCK=config.gate_block,
        DOWN_TILE=config.down_tile,
        DOWN_BLOCK=config.down_block,
        MAX_POLLS=MAX_POLLS,
        PDL=pdl,
        num_warps=config.warps,
        maxnreg=config.max_registers,
        **options,
    )
    return residual


@cache
def _processors(device: torch.device) -> int:
    """Multiprocessors; one where programs run one after another, as in Triton's interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
