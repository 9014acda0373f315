"""Measures which linear layers of one or two rows the GEMV kernels run faster than the library."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch

from higgs_core.kernels.gemv import CONFIGS, MAX_ROWS, GemvConfig
from higgs_core.kernels.optional_triton import cdiv
from higgs_core.kernels.quantized_weight import Weight

log = logging.getLogger(__name__)

Shape = tuple[int, int]  # a weight's, [out, in]
Plan = Mapping[tuple[int, int, int], GemvConfig]  # by rows, out, in
Linear = Callable[[torch.Tensor, Weight], torch.Tensor]
ConfiguredLinear = Callable[[torch.Tensor, torch.Tensor, GemvConfig], torch.Tensor]
Timer = Callable[[Callable[[torch.Tensor], torch.Tensor], torch.device, Shape, torch.dtype], float]

_MAX_TIME_RATIO = 0.97  # of the library's time: a smaller gain is within the noise
_MAX_COPIES = 64  # of a weight; if even these fit into the cache, so does the model itself


class PlannedLinear:
    """A linear layer that runs the GEMV for the rows and shapes of a plan, and the library for all others."""

    def __init__(self, library: Linear, gemv: ConfiguredLinear, plan: Plan) -> None:
        self._library, self._gemv, self.plan = library, gemv, plan

    def __call__(self, x: torch.Tensor, weight: Weight) -> torch.Tensor:
        config = self.plan.get((x.shape[0], weight.shape[0], weight.shape[1]))
        if config is None or not isinstance(weight, torch.Tensor):
            return self._library(x, weight)
        return self._gemv(x, weight, config)


def fastest(
    library: Linear,
    gemv: ConfiguredLinear,
    shapes: Iterable[Shape],
    device: torch.device,
    dtype: torch.dtype,
    timer: Timer,
) -> dict[tuple[int, int, int], GemvConfig]:
    """The fastest configuration for each number of rows and shape at which one beats the library."""
    plan = {}
    for shape in dict.fromkeys(shapes):
        for rows in range(1, MAX_ROWS + 1):
            x = torch.randn(rows, shape[1], device=device, dtype=dtype)
            library_seconds = timer(partial(library, x), device, shape, dtype)
            times = {c: timer(_with(gemv, x, c), device, shape, dtype) for c in CONFIGS}
            best = min(times, key=times.__getitem__)
            if times[best] < _MAX_TIME_RATIO * library_seconds:
                plan[rows, *shape] = best
            log.info(
                "Linear %d x %d of %d rows: library %.1f us, own %.1f us",
                *shape,
                rows,
                library_seconds * 1e6,
                times[best] * 1e6,
            )
    return plan


def _with(gemv: ConfiguredLinear, x: torch.Tensor, config: GemvConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda weight: gemv(x, weight, config)


def seconds_in_a_graph(
    call: Callable[[torch.Tensor], torch.Tensor], device: torch.device, shape: Shape, dtype: torch.dtype
) -> float:
    """Seconds per call in a CUDA graph whose weights are not in the L2 cache, as in a decode step."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    out_features, in_features = shape
    copies = min(cdiv(2 * cache, out_features * in_features * dtype.itemsize) + 1, _MAX_COPIES)
    weights = torch.empty(copies, out_features, in_features, device=device, dtype=dtype).normal_(std=in_features**-0.5)
    call(weights[0])
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the device meanwhile
        for weight in weights:
            call(weight)
    graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) / 1e3)
    return best / copies
