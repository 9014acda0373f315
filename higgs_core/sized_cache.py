"""The KV cache of an engine, as large as its device allows: reads what is free, plans, allocates."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from higgs_core.config import ModelConfig
from higgs_core.engine_config import AUTO, NumberOrAuto
from higgs_core.errors import ModelLoadError
from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.host.cgroup import memory_left
from higgs_core.memory_plan import SHORT_CONTEXT, DeviceMemory, MemoryPlan, plan_memory
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.weights import DecoderWeights

log = logging.getLogger(__name__)

MakeCache = Callable[[ModelConfig, int, int, torch.device, torch.dtype], KVCache]

_TRIES = 6  # each takes half of what the one before it asked for


def sized_cache(
    config: ModelConfig, weights: DecoderWeights, slots: NumberOrAuto, context: int, *, with_codec: bool
) -> KVCache:
    """A KV cache on the device of the weights, of at most so many slots and positions a slot; fewer if memory does not
    reach, which the log says. Whatever else an engine loads at boot should be there before.

    slots, with_codec: as `plan_memory` takes them. Raises ModelLoadError.
    """
    device, dtype = weights.norm.device, weights.norm.dtype
    memory = device_memory(device)
    memory = replace(memory, free=max(memory.free - weights.largest_dense_nbytes, 0))  # torch's products need one
    plan = plan_memory(config, dtype, memory, slots, context, with_codec=with_codec)
    _log_plan(plan, weights.nbytes, wanted=(plan.slots if slots == AUTO else slots, context))
    return allocated(config, plan.slots, plan.context, device, dtype)


def allocated(
    config: ModelConfig,
    slots: int,
    context: int,
    device: torch.device,
    dtype: torch.dtype,
    make: MakeCache = KVCache,
) -> KVCache:
    """The cache, or a smaller one where another process has taken memory since it was planned.

    make: allocates it. Raises ModelLoadError when a small part of it does not fit either.
    """
    for attempt in range(_TRIES):
        try:
            return make(config, slots, context, device, dtype)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if attempt + 1 == _TRIES or (slots, context) == _half(slots, context):
            break
        smaller = _half(slots, context)
        log.warning(
            "The KV cache of %d slots of %d positions could not be allocated; trying %d of %d",
            slots,
            context,
            *smaller,
        )
        slots, context = smaller
    raise ModelLoadError(
        f"Not even a KV cache of {slots} slots of {context} positions could be allocated.",
        hint="Another process may be using the device: end it, use another device, or ask for fewer slots.",
    )


def _half(slots: int, context: int) -> tuple[int, int]:
    """As in the plan, the context is shortened before slots are given up; one short slot stays as it is."""
    if context > SHORT_CONTEXT:
        return slots, max(context // 2, SHORT_CONTEXT)
    return max(slots // 2, 1), context


def device_memory(device: torch.device) -> DeviceMemory:
    """What the device has now; on a host page cache counts as free, and a container's own limit is kept."""
    if device.type != "cuda":
        free = _free_host_memory()
        return DeviceMemory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), free, is_gpu=False)
    torch.cuda.empty_cache()  # what torch keeps for later counts as taken
    free, total = torch.cuda.mem_get_info(device)
    return DeviceMemory(total, free, is_gpu=True)


@contextmanager
def memory_for_weights(device: torch.device) -> Iterator[None]:
    """While weights are loaded: running out of memory becomes a ModelLoadError that says so."""
    memory = device_memory(device)
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ModelLoadError(
            f"The weights do not fit {device}: {memory.free / 1e9:.1f} of its {memory.total / 1e9:.1f} GB of memory "
            "were free.",
            hint="Use a larger device or smaller weights, or end what else uses its memory.",
        ) from error


def _log_plan(plan: MemoryPlan, weights: int, *, wanted: tuple[int, int]) -> None:
    reserve = plan.reserve
    log.info(
        "Memory plan: %d slots of %d positions; %.2f GB of weights, %.2f of KV cache, %.2f of prefix cache, %.2f in "
        "reserve (prefill %.2f, decode steps %.2f, codec %.2f, libraries %.2f, margin %.2f), %.2f left of %.2f free",
        plan.slots,
        plan.context,
        weights / 1e9,
        plan.kv_cache / 1e9,
        plan.prefix_cache / 1e9,
        reserve.total / 1e9,
        reserve.prefill / 1e9,
        reserve.decode_steps / 1e9,
        reserve.codec / 1e9,
        reserve.libraries / 1e9,
        reserve.margin / 1e9,
        plan.left / 1e9,
        plan.memory.free / 1e9,
    )
    if (plan.slots, plan.context) != wanted:
        log.warning(
            "Memory for %d slots of %d positions instead of %d of %d (%.1f GB free)",
            plan.slots,
            plan.context,
            *wanted,
            plan.memory.free / 1e9,
        )


def _free_host_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not Linux: assume half is taken
    left = memory_left()
    return free if left is None else min(free, left)
