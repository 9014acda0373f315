"""What benchmarks take from inside a running engine: single steps and prefills.

With `benchmarks.making_probe` the only module of the benchmarks that names internals of `higgs_core`.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from higgs_core import GenerationParams
from higgs_core.build import EngineParts
from higgs_core.kernels.ops import Ops
from higgs_core.model.decoder import Decoder
from higgs_core.model.prompt_span import PromptSpan
from higgs_core.prompt.layout import Prompt
from higgs_core.sampling.sampler import FAST_TOP_K

Row = dict[str, Any]


def step(parts: EngineParts, rows: int, max_kv_length: int) -> None:
    """Enqueue one step of so many rows, as the engine does. The engine on these parts must be idle."""
    parts.runner.run(rows, max_kv_length, FAST_TOP_K)


def prepare(parts: EngineParts) -> None:
    """Capture the usual steps, as an engine's warm-up does; for parts that have no engine."""
    with torch.inference_mode():
        parts.runner.prepare()


@contextmanager
def speaking_rows(parts: EngineParts, rows: int, position: int) -> Iterator[Callable[[], None]]:
    """Rows that speak as if in the middle of a segment; yields a function that puts them back to `position`."""
    state, dummy = parts.runner.view(rows), parts.decoder.cache.dummy_position
    codes = torch.randint(0, parts.config.stream_bos, state.column.shape, generator=torch.Generator().manual_seed(0))

    def put_back() -> None:
        state.column.copy_(codes)
        state.position.fill_(position)
        state.sampled.fill_(parts.config.num_codebooks)
        state.eos_reach.zero_()
        state.active.fill_(True)

    with torch.inference_mode():
        put_back()
        try:
            yield put_back
        finally:
            for slot in range(rows):
                parts.state.deactivate(slot, dummy)


def bare_step_ms(parts: EngineParts, rows: int, max_kv_length: int, steps: int) -> float:
    """ms per step of steps launched back to back, without scheduler or requests: the time of the device alone."""
    times = []
    with speaking_rows(parts, rows, max_kv_length - 1 - steps) as put_back:
        for _ in range(4):
            put_back()
            synchronize(parts.device)
            started = time.perf_counter()
            for _ in range(steps):
                step(parts, rows, max_kv_length)
            synchronize(parts.device)
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[1:]) / steps


def prefill_ms(parts: EngineParts, prompt: Prompt) -> tuple[float, float]:
    """ms of a prompt's positions through the decoder: until the host is free, and until the device is."""
    times = []
    with torch.inference_mode():
        for _ in range(6):
            synchronize(parts.device)
            started = time.perf_counter()
            _prefill(parts.decoder, prompt)
            enqueued = time.perf_counter() - started
            synchronize(parts.device)
            times.append((1000 * enqueued, 1000 * (time.perf_counter() - started)))
    return statistics.median(host for host, _ in times[1:]), statistics.median(both for _, both in times[1:])


def teacher_forced(decoder: Decoder, prompt: Prompt, columns: torch.Tensor) -> torch.Tensor:  # float32 [steps, Q, V]
    """Logits of given columns, int64 [steps, Q], behind a prompt in slot 0."""
    device = columns.device
    _prefill(decoder, prompt)
    logits = []
    for position, column in enumerate(columns, start=prompt.length):
        place = torch.tensor([position], device=device)
        active = torch.ones_like(place, dtype=torch.bool)
        logits.append(decoder.decode_step(column[None], place, active, max_kv_length=position + 1)[0])
    return torch.stack(logits)


def _prefill(decoder: Decoder, prompt: Prompt) -> None:
    """All positions of a prompt, in slot 0."""
    decoder.prefill([PromptSpan(0, 0, prompt.positions, prompt.is_audio, prompt.columns)])


def columns_of_steps(
    parts: EngineParts, rows: int, params: Callable[[int], GenerationParams], steps: int, *, capture: bool
) -> torch.Tensor:  # int64 [steps, rows, Q + 1]
    """What steps emit, captured or operation by operation, from a cache and columns that are the same each time.

    params: of each row. After half of the steps the last of several rows is deactivated.
    """
    state, cache, config = parts.state, parts.decoder.cache, parts.config
    generator = torch.Generator().manual_seed(rows)
    columns = torch.randint(0, config.stream_bos, (rows, config.num_codebooks), generator=generator).to(parts.device)
    positions = [int(p) for p in torch.linspace(7, cache.context * 3 // 4, rows + 1)[1:]]
    fill_cache(parts, seed=rows)
    runner = parts.runner
    if capture:
        runner.prepare()
    for slot in range(cache.slots):
        state.deactivate(slot, cache.dummy_position)
    for row in range(rows):
        state.begin(row, params(row), 1234 + row)
        state.begin_segment(row, columns[row][:, None], positions[row] + 1, 9)
        state.column[row] = columns[row]
        state.sampled[row] = config.num_codebooks
    longest = max(positions) + steps + 1
    emitted = []
    for number in range(steps):
        if number == steps // 2 and rows > 1:
            state.deactivate(rows - 1, cache.dummy_position)
        if capture:
            runner.run(rows, longest, FAST_TOP_K)
        else:  # the same step, operation by operation
            runner._step(runner.batch_rows(rows), cache.context, config.codebook_size)
        emitted.append(state.emitted[:rows].clone())
    for slot in range(cache.slots):
        state.deactivate(slot, cache.dummy_position)
    return torch.stack(emitted)


def logits_of_step(
    parts: EngineParts, ops: Ops, rows: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # [rows, Q, V], [layers, 2, rows, Hkv, D], the whole cache
    """One decode step with some operations: its logits, what it wrote to the cache, and the cache with zeros there."""
    config, cache = parts.config, parts.decoder.cache
    generator = torch.Generator().manual_seed(rows)
    columns = torch.randint(0, config.stream_bos, (rows, config.num_codebooks), generator=generator).to(parts.device)
    positions = torch.linspace(7, cache.context * 3 // 4, rows + 1)[1:].long().to(parts.device)
    fill_cache(parts, seed=rows)
    decoder = Decoder(config, parts.weights, cache, ops)
    active = torch.ones_like(positions, dtype=torch.bool)
    logits = decoder.decode_step(columns, positions, active, max_kv_length=int(positions.max()) + 1)
    written = (slice(None), slice(None), torch.arange(rows, device=parts.device), slice(None), positions)
    keys_values = cache._all[written].clone()
    cache._all[written] = 0
    return logits, keys_values, cache._all.clone()


def fill_cache(parts: EngineParts, seed: int) -> None:
    """Random keys and values, the same for the same seed."""
    generator = torch.Generator(parts.device).manual_seed(seed)
    parts.decoder.cache._all.normal_(generator=generator)


def free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more, also captured steps, which refer to each other."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
