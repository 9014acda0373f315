"""The slots of a batch: which request has which row of the KV cache and of the decode state."""

from __future__ import annotations

import time
from collections.abc import Callable

from higgs_core.model.kv_cache import KVCache
from higgs_core.runtime.generation import Generation, Status
from higgs_core.sampling.decode_state import DecodeState


class Slots:
    """Written by the engine's thread only. Other threads may read `count` and the length of `occupied`."""

    def __init__(self, state: DecodeState, cache: KVCache) -> None:
        self._state = state
        self._cache = cache
        self._requests: list[Generation | None] = [None] * cache.slots

    @property
    def count(self) -> int:
        return len(self._requests)

    @property
    def occupied(self) -> list[Generation]:
        return [generation for generation in self._requests if generation is not None]

    @property
    def has_free(self) -> bool:
        return None in self._requests

    @property
    def speaking(self) -> list[Generation]:
        return [generation for generation in self.occupied if generation.status is Status.SPEAKING]

    @property
    def launchable(self) -> list[Generation]:
        """Requests that take part in the next decode step."""
        return [generation for generation in self.speaking if generation.may_launch]

    @property
    def to_prefill(self) -> list[Generation]:
        """Requests with a prompt or text to prefill; those that write text first, then by arrival."""
        waiting = [generation for generation in self.occupied if generation.status is not Status.SPEAKING]
        return sorted(waiting, key=lambda g: (g.status is Status.PREFILLING, g.timeline.admitted or 0.0))

    def admit(self, generation: Generation) -> None:
        """Give the lowest free slot, so that the rows of a step stay few."""
        slot = self._requests.index(None)
        self._requests[slot] = generation
        generation.slot, generation.status = slot, Status.PREFILLING
        generation.timeline.admitted = time.perf_counter()
        generation.step_limit = min(generation.params.max_new_tokens, self._cache.context - generation.prompt.length)
        self._state.begin(slot, generation.params, generation.seed)
        self.deactivate(generation)

    def release(self, generation: Generation) -> None:
        """Free the slot. What steps in flight emit for its row is discarded when it arrives."""
        self.deactivate(generation)
        self._requests[generation.slot] = None
        generation.status = Status.FINISHED

    def deactivate(self, generation: Generation) -> None:
        """Steps that are launched from now on emit nothing for its row."""
        self._state.deactivate(generation.slot, self._cache.dummy_position)

    def close_gap(self, batch_rows: Callable[[int], int]) -> None:
        """Move the last row of the next step to a free slot when the step then runs fewer rows.

        batch_rows: how many rows a step runs that has to cover so many.
        """
        launchable = self.launchable
        if not launchable or not self.has_free:
            return
        last = max(launchable, key=lambda generation: generation.slot)
        free = self._requests.index(None)
        if free >= last.slot or batch_rows(last.slot + 1) <= batch_rows(len(launchable)):
            return
        self._cache.copy_prefix(last.slot, free, last.position + 1)
        self._state.move(last.slot, free, self._cache.dummy_position)
        self._requests[free], self._requests[last.slot] = last, None
        last.slot = free
