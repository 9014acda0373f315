"""What a turn launches on the device, and who pays when its memory runs out.

A captured step allocates nothing; prefill and uncaptured steps do. Before anything is given up, what is only kept for
speed is freed and the work tried again. After that it costs the requests of a prefill that do not fit alone, or the
newest request of a step: one that fails has changed nothing that the next attempt reads.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import suppress

import torch

from higgs_core.errors import DeviceMemoryError, HiggsError
from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.failures.watchdog import Heartbeat
from higgs_core.runtime.decode_step import DecodeStep
from higgs_core.runtime.generation import Generation
from higgs_core.runtime.prefill import Chunk, Prefill
from higgs_core.runtime.prefix_cache import PrefixCache
from higgs_core.runtime.slots import Slots
from higgs_core.runtime.text_step import TextStep

log = logging.getLogger(__name__)

PREFILL_BUDGET = 1024
"""Positions prefilled between two decode steps while a request is speaking."""

Failure = tuple[Generation, HiggsError]


class DeviceWork:
    """Used by the engine's thread only."""

    def __init__(
        self,
        slots: Slots,
        prefixes: PrefixCache,
        prefill: Prefill,
        text_step: TextStep,
        decode_step: DecodeStep,
        heartbeat: Heartbeat,
    ) -> None:
        """heartbeat: of the engine's thread."""
        self._heartbeat = heartbeat
        self._slots = slots
        self._prefixes = prefixes
        self._prefill = prefill
        self._text_step, self._decode_step = text_step, decode_step

    def warm_up(self) -> int:
        """Capture the steps; returns how many. No request may have a slot."""
        return self._decode_step.warm_up()

    def run(self) -> Iterator[Failure]:
        """Prefill, a text step and a decode step. Yields requests that cannot go on, whose slots are to be released."""
        yield from self._run_prefill()
        yield from self._run_step(self._text_step.launch, lambda: self._text_step.readers)
        yield from self._run_step(self._decode_step.launch, lambda: self._slots.launchable + self._slots.opened)

    def _run_prefill(self) -> Iterator[Failure]:
        """One chunk of each request that has something to prefill; within a budget if a request is speaking."""
        for batch in self._prefill.batches(PREFILL_BUDGET if self._slots.speaking else math.inf):
            fitting = batch
            if not self._fits(batch):
                self._free_memory()
                fitting = [chunk for chunk in batch if self._fits([chunk])]
            for chunk in batch:
                if chunk in fitting:
                    self._prefill.advance(chunk)
                else:
                    message = "The device ran out of memory for this request's prompt."
                    yield chunk.generation, DeviceMemoryError(message)

    def _fits(self, batch: list[Chunk]) -> bool:
        """Prefill the chunks. False when memory is too short for them."""
        self._heartbeat.beat()
        try:
            self._prefill.forward(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _run_step(self, launch: Callable[[], None], takers: Callable[[], list[Generation]]) -> Iterator[Failure]:
        """Launch a step for as many of those who take part as there is memory for."""
        freed = False
        while True:
            self._heartbeat.beat()
            try:
                launch()
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            if not freed:
                self._free_memory()
                freed = True
                continue
            newest = max(takers(), key=lambda generation: generation.timeline.admitted or 0.0)
            yield newest, DeviceMemoryError("The device ran out of memory while this request was spoken.")

    def _free_memory(self) -> None:
        log.warning("The device is out of memory; cached prefixes are given up and the work is tried again")
        self._prefixes.clear()
        if torch.cuda.is_initialized():
            with suppress(RuntimeError):  # torch refuses while another thread captures
                torch.cuda.empty_cache()
