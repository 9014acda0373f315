"""A KV cache that the device refuses is tried smaller; what an engine gets is what was planned."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

from benchmarks.models import SMALLEST, random_model
from higgs_core import sized_cache as module
from higgs_core.config import ModelConfig
from higgs_core.errors import ModelLoadError
from higgs_core.memory_plan import DeviceMemory
from higgs_core.model.kv_cache import KVCache
from higgs_core.sized_cache import allocated, device_memory, memory_for_weights, sized_cache

CPU = torch.device("cpu")


class FullDevice:
    """Makes caches of at most so many positions in all, and remembers what it was asked for."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self.asked: list[tuple[int, int]] = []

    def __call__(
        self, config: ModelConfig, slots: int, context: int, device: torch.device, dtype: torch.dtype
    ) -> KVCache:
        self.asked.append((slots, context))
        if slots * context > self._positions:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.52 GiB.")
        return KVCache(config, slots, 8, device, dtype)


def test_a_refused_cache_is_halved_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    make = FullDevice(4 * 2048)
    with caplog.at_level(logging.WARNING):
        cache = allocated(SMALLEST.config(), 8, 8192, CPU, torch.float32, make)
    assert make.asked == [(8, 8192), (8, 4096), (8, 2048), (4, 2048)]
    assert cache.slots == 4
    assert caplog.records[0].getMessage() == (
        "The KV cache of 8 slots of 8192 positions could not be allocated; trying 8 of 4096"
    )


@pytest.mark.parametrize(
    ("slots", "context", "asked"),
    [
        (1, 1500, [(1, 1500)]),
        (3, 2048, [(3, 2048), (1, 2048)]),
        (64, 8192, [(64, 8192), (64, 4096), (64, 2048), (32, 2048), (16, 2048), (8, 2048)]),
    ],
)
def test_a_device_without_any_memory_is_an_error_that_says_what_to_do(
    slots: int, context: int, asked: list[tuple[int, int]]
) -> None:
    make = FullDevice(0)
    with pytest.raises(ModelLoadError) as caught:
        allocated(SMALLEST.config(), slots, context, CPU, torch.float32, make)
    assert make.asked == asked
    assert caught.value.message == (
        f"Not even a KV cache of {asked[-1][0]} slots of {asked[-1][1]} positions could be allocated."
    )
    assert "end it, use another device, or ask for fewer slots" in str(caught.value.hint)


def test_another_failure_is_not_taken_for_a_lack_of_memory() -> None:
    def fail(*_: object) -> KVCache:
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        allocated(SMALLEST.config(), 8, 8192, CPU, torch.float32, fail)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_weights_that_do_not_fit_are_an_error_of_loading(error: Exception) -> None:
    sentence = r"^The weights do not fit cpu: \d+\.\d of its \d+\.\d GB of memory were free\.$"
    with pytest.raises(ModelLoadError, match=sentence), memory_for_weights(CPU):
        raise error


def test_what_else_fails_while_loading_stays_what_it_is() -> None:
    with pytest.raises(ModelLoadError, match="not whole"), memory_for_weights(CPU):
        raise ModelLoadError("not whole")


def test_the_host_has_memory_and_says_so() -> None:
    memory = device_memory(CPU)
    assert not memory.is_gpu
    assert 0 < memory.free <= memory.total


@pytest.fixture
def with_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the device have so many bytes free."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(module, "device_memory", lambda _: DeviceMemory(10 * free, free, is_gpu=False))

    return set_free


def test_the_plan_is_one_line_in_the_log(with_free: Callable[[int], None], caplog: pytest.LogCaptureFixture) -> None:
    config, weights = random_model(SMALLEST, "cpu", torch.float32)
    with_free(10**9)
    with caplog.at_level(logging.INFO):
        cache = sized_cache(config, weights, "auto", 512, with_codec=True)
    assert (cache.slots, cache.context) == (8, 512)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Memory plan: 8 slots of 512 positions; ")
    for part in ("of weights", "of KV cache", "of prefix cache", "in reserve", "left of 1.00 free"):
        assert part in line


def test_less_than_was_wished_for_is_a_warning(
    with_free: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    config, weights = random_model(SMALLEST, "cpu", torch.float32)
    with_free(2 * KVCache.nbytes_per_position(config, torch.float32) * 2048)
    with caplog.at_level(logging.WARNING):
        cache = sized_cache(config, weights, 4, 4096, with_codec=False)
    assert (cache.slots, cache.context) == (1, pytest.approx(2 * 2048 * 0.8 / 1.1, abs=2))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"Memory for 1 slots of {cache.context} positions instead of 4 of 4096 (0.0 GB free)"
