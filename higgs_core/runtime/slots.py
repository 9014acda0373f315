"""The slots of a batch: which request has which row of the KV cache and of the states on the device."""

from __future__ import annotations

import time
from collections.abc import Callable

from higgs_core.model.kv_cache import KVCache
from higgs_core.runtime.generation import Generation, Status
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.text_state import TextState


class Slots:
    """Written by the engine's thread only. Other threads may read `count` and the length of `occupied`."""

    def __init__(self, state: DecodeState, text: TextState, cache: KVCache) -> None:
        self._state = state
        self._text = text
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
    def has_steps_left(self) -> bool:
        """Whether a decode step or a text step will be launched."""
        return any(
            generation.reads_text or (generation.status in (Status.SPEAKING, Status.OPENING) and generation.may_launch)
            for generation in self.occupied
        )

    @property
    def to_read_text(self) -> list[Generation]:
        """Requests that need a text step, by arrival."""
        return sorted((generation for generation in self.occupied if generation.reads_text), key=_arrival)

    @property
    def opened(self) -> list[Generation]:
        """Requests that are ready to speak."""
        return [g for g in self.occupied if g.status is Status.OPENING and g.next_text is None]

    @property
    def to_prefill(self) -> list[Generation]:
        """Requests with a prompt to prefill, by arrival."""
        return sorted((g for g in self.occupied if g.status is Status.PREFILLING), key=_arrival)

    def admit(self, generation: Generation) -> None:
        """Give the lowest free slot, so that the rows of a step stay few."""
        slot = self._requests.index(None)
        self._requests[slot] = generation
        generation.slot, generation.status = slot, Status.PREFILLING
        generation.timeline.admitted = time.perf_counter()
        generation.step_limit = min(generation.params.max_new_tokens, self._cache.context - generation.prompt.length)
        self._state.begin(slot, generation.params, generation.seed)

    def speak(self, generation: Generation) -> None:
        """Activate the row for a segment that has begun: its next decode step reads the synthetic column."""
        self._text.deactivate(generation.slot, self._cache.dummy_position)
        self._state.begin_segment(generation.slot, generation.ras_history(), generation.position, generation.step)
        generation.status = Status.SPEAKING

    def read_text(self, generation: Generation) -> None:
        """Activate the row for a text step that reads `next_text`."""
        assert generation.next_text is not None
        self._state.step[generation.slot].fill_(generation.step)
        self._text.begin(generation.slot, generation.next_text, generation.position)

    def release(self, generation: Generation) -> None:
        """Free the slot. What steps in flight emit for its row is discarded when it arrives."""
        self.deactivate(generation)
        self._requests[generation.slot] = None
        generation.status = Status.FINISHED

    def deactivate(self, generation: Generation) -> None:
        """Steps that are launched from now on emit nothing for its row."""
        self._state.deactivate(generation.slot, self._cache.dummy_position)
        self._text.deactivate(generation.slot, self._cache.dummy_position)

    def count_step(self, generation: Generation) -> None:
        """One more step of the request was launched; after the last one its row is deactivated."""
        generation.launched += 1
        if not generation.may_launch:
            self.deactivate(generation)

    def close_gap(self, batch_rows: Callable[[int], int]) -> None:
        """Move the last row of the next decode step to a free slot when the step then runs fewer rows.

        batch_rows: how many rows a step runs that has to cover so many.
        """
        launchable = self.launchable
        if not launchable or not self.has_free:
            return
        last = max(launchable, key=lambda generation: generation.slot)
        free = self._requests.index(None)
        if free >= last.slot or batch_rows(last.slot + 1) <= batch_rows(len(launchable)):
            return
        self._cache.copy_prefix(last.slot, free, last.next_position + 1)
        self._state.move(last.slot, free, self._cache.dummy_position)
        self._requests[free], self._requests[last.slot] = last, None
        last.slot = free


def _arrival(generation: Generation) -> float:
    return generation.timeline.admitted or 0.0
