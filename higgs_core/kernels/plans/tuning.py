"""Measures which kernels run a linear operation of a decode step fastest on a GPU that has no plan yet."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.graph_capture import capturing
from higgs_core.kernels.checks.self_check_inputs import RandomInputs
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight
from higgs_core.kernels.optional_triton import cdiv
from higgs_core.kernels.plans.linear_plan import FAMILIES, LIBRARY, LINEAR_ADD, Choice, Key, choices
from higgs_core.kernels.plans.planned_ops import WEIGHTS, Operation, launcher

log = logging.getLogger(__name__)

Arguments = tuple[Any, ...]
Timer = Callable[[Operation, Sequence[Arguments]], float]
"""(call, arguments of each call) -> seconds a call."""

_MIN_TIMED_BYTES = 8 << 20  # of a key's weights; below, how long a launch takes decides, not which kernel it is
_MIN_GAIN = 0.03  # a smaller one is within the noise
_REPEATS = 9
_MAX_COPIES = 64  # of a weight; if even these fit into the cache, so does the model itself


def worth_timing(key: Key) -> bool:
    """Whether a model of these shapes and dtype is one whose speed matters: every choice has to be compiled first.

    Small models and fp32, which checks are made in, run the first choice of the first family that agrees with torch.
    """
    nbytes = sum(outer * inner for outer, inner in key.shapes) * key.kind_dtype.itemsize
    return nbytes >= _MIN_TIMED_BYTES and key.dtype != "float32"


class Tuner:
    """Times calls with random arguments of a model's shapes."""

    def __init__(self, device: torch.device, dtype: torch.dtype, timer: Timer) -> None:
        self._device, self._timer = device, timer
        self._inputs = RandomInputs(device, dtype)

    def ranked(self, key: Key, library: Operation) -> list[Choice]:
        """The library and the best choice of each family that runs at all, the fastest first.

        The library alone where there is no memory for the weights that are read: a worker that speaks is worth more.
        """
        try:
            calls = self._calls(key)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning(
                "%s of %d rows cannot be timed for lack of memory; torch's product runs", key.operation, key.rows
            )
            return [LIBRARY]
        seconds = {LIBRARY: self._seconds(library, calls)}
        for family in FAMILIES:
            found = {each: self._seconds(launcher(key.operation, each), calls) for each in choices(key, family)}
            found.update(self._both_launches(key, found, calls))
            found = {choice: time for choice, time in found.items() if time < float("inf")}
            if found:
                best = fastest(found)
                seconds[best] = found[best]
        ranking = []
        left = dict(seconds)
        while left:
            ranking.append(fastest(left))
            del left[ranking[-1]]
        times = ", ".join(f"{choice.family} {seconds[choice] * 1e6:.1f} us" for choice in ranking)
        log.info("%s %s of %d rows, %s: %s", key.operation, key.shapes, key.rows, key.kind, times)
        return ranking

    def _both_launches(self, key: Key, found: dict[Choice, float], calls: Sequence[Arguments]) -> dict[Choice, float]:
        """Of two launches, each was timed beside the first configuration of the other; now the best of both."""
        default = next(iter(found), LIBRARY).configs
        if len(default) < 2:
            return {}
        first = fastest({choice: time for choice, time in found.items() if choice.configs[1] == default[1]})
        second = fastest({choice: time for choice, time in found.items() if choice.configs[0] == default[0]})
        both = Choice(first.family, (first.configs[0], second.configs[1]))
        return {} if both in found else {both: self._seconds(launcher(key.operation, both), calls)}

    def _seconds(self, call: Operation, calls: Sequence[Arguments]) -> float:
        """Infinite if the call fails, as where a compiler does not support a GPU or a dtype."""
        try:
            return self._timer(call, calls)
        except Exception as error:
            log.debug("Timing a kernel failed", exc_info=error)
            return float("inf")

    def _calls(self, key: Key) -> list[Arguments]:
        """As many calls with weights of their own as it takes for none to be in the GPU's cache when it is due."""
        kind = None if key.kind == key.dtype else key.kind_dtype
        weights = [self._inputs.weight(*shape, kind) for shape in key.shapes]
        (outer, inner), eps = key.shapes[0], 1e-5
        x, norm = self._inputs.activations(key.rows, inner), self._inputs.norm_weight(inner)
        if key.operation == LINEAR_ADD:
            arguments: Arguments = (x, weights[0], self._inputs.activations(key.rows, outer))
        else:
            arguments = (x, norm, eps, *weights)
        numbers = WEIGHTS[key.operation]
        return [
            tuple(_copy(each) if number in numbers else each for number, each in enumerate(arguments))
            for _ in range(self._copies(sum(weight.nbytes for weight in weights)))
        ]

    def _copies(self, nbytes: int) -> int:
        if self._device.type != "cuda":
            return 1
        cache = torch.cuda.get_device_properties(self._device).L2_cache_size
        return min(cdiv(2 * cache, nbytes) + 1, _MAX_COPIES)


def _copy(weight: torch.Tensor | QuantizedWeight) -> torch.Tensor | QuantizedWeight:
    if isinstance(weight, QuantizedWeight):
        return QuantizedWeight(weight.values.clone(), weight.scales.clone())
    return weight.clone()


def fastest(seconds: dict[Choice, float]) -> Choice:
    """The first one that is about as fast as the fastest, so that noise seldom decides."""
    limit = min(seconds.values()) / (1 - _MIN_GAIN)
    return next(choice for choice, time in seconds.items() if time <= limit)


def seconds_in_a_graph(call: Operation, calls: Sequence[Arguments]) -> float:
    """Seconds per call in a CUDA graph, as in a decode step: the median of several replays."""
    call(*calls[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with capturing(graph):
        for arguments in calls:
            call(*arguments)
    graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times: list[float] = []
    for _ in range(_REPEATS):
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times) / len(calls)
