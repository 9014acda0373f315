"""Prefill: the prompts of several requests at once, in chunks.

What a prompt ends with is the first input of a step: a request that speaks at once begins with the synthetic column
behind its prompt, one that writes text first with the prompt's last token. So no logits are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from higgs_core.model.decoder import Decoder
from higgs_core.model.prompt_span import PromptSpan
from higgs_core.runtime.generation import Generation
from higgs_core.runtime.postprocess import Postprocess
from higgs_core.runtime.prefix_cache import PrefixCache
from higgs_core.runtime.slots import Slots

PREFILL_CHUNK = 1024
"""Positions prefilled at once; speaking requests take a step between the chunks of a longer prompt."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Positions of a request's prompt from `generation.position` to `stop`."""

    generation: Generation
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.generation.position

    def span(self) -> PromptSpan:
        start, prompt = self.generation.position, self.generation.prompt
        before, until = (int(prompt.is_audio[:end].sum()) for end in (start, self.stop))
        return PromptSpan(
            self.generation.slot,
            start,
            prompt.positions[start : self.stop],
            prompt.is_audio[start : self.stop],
            prompt.columns[:, before:until],
        )


class Prefill:
    """Used by the engine's thread only."""

    def __init__(self, decoder: Decoder, slots: Slots, prefixes: PrefixCache, postprocess: Postprocess) -> None:
        self._decoder, self._cache = decoder, decoder.cache
        self._slots = slots
        self._prefixes = prefixes
        self._postprocess = postprocess

    def batches(self, budget: float) -> Iterator[list[Chunk]]:
        """One chunk of each request that has a prompt to prefill, by arrival, until `budget` positions are used up.

        A batch has at most PREFILL_CHUNK positions. How a prompt is cut does not depend on whom it is prefilled with.
        """
        batch: list[Chunk] = []
        used = 0
        for generation in self._to_prefill():
            if budget <= 0:
                break
            chunk = self._chunk(generation)
            if batch and used + chunk.length > PREFILL_CHUNK:
                yield batch
                batch, used = [], 0
            batch.append(chunk)
            used += chunk.length
            budget -= chunk.length
        if batch:
            yield batch

    def forward(self, batch: list[Chunk]) -> None:
        """Fill the cache. Until it returns, nothing that the host knows has changed."""
        self._decoder.prefill([chunk.span() for chunk in batch])

    def advance(self, chunk: Chunk) -> None:
        """Take note that a chunk was prefilled; behind the last one the request begins to speak or to write."""
        generation, prompt = chunk.generation, chunk.generation.prompt
        generation.position = chunk.stop
        if chunk.stop == prompt.prefix_length:
            self._prefixes.store(prompt, generation.slot, self._cache)
        if chunk.stop < _end(generation):
            return
        if generation.params.force_audio_gen:
            self._postprocess.open_segment(generation, reads=None)
        else:
            self._postprocess.write_text(generation, reads=int(prompt.positions[-1]))

    def _to_prefill(self) -> Iterator[Generation]:
        """Requests whose chunk can run now; they begin behind a prefix that is known.

        A request whose prefix another one is prefilling waits for it, and finds it in the cache then.
        """
        under_way = set()
        for generation in self._slots.to_prefill:
            prompt = generation.prompt
            shared = self._prefixes.may_hold(prompt, self._cache)
            if generation.position == 0:
                if shared and prompt.prefix_fingerprint in under_way:
                    continue
                found = self._prefixes.fetch(prompt, generation.slot, self._cache)
                generation.position = generation.cached_positions = found
            if shared and generation.position < prompt.prefix_length:
                under_way.add(prompt.prefix_fingerprint)
            yield generation

    def _chunk(self, generation: Generation) -> Chunk:
        start, prefix = generation.position, generation.prompt.prefix_length
        # Split at the shared prefix whether it was cached or not, so that both ways compute the same.
        goal = prefix if start < prefix else _end(generation)
        return Chunk(generation, min(start + PREFILL_CHUNK, goal))


def _end(generation: Generation) -> int:
    """Positions of the prompt that are prefilled; a step that samples text reads the last one itself."""
    length = generation.prompt.length
    return length if generation.params.force_audio_gen else length - 1
