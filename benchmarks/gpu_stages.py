"""The stages of a run on a GPU: checks, then speed. Each adds its figures to the report at once."""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import gpu_checks
from benchmarks.gpu_plan import Plan
from benchmarks.harness import (
    SECONDS_PER_FRAME,
    TransformersSide,
    audio_seconds_per_second,
    bare_step_ms,
    copy_bandwidth,
    engine_speed,
    in_turns,
    random_codes,
    sampled,
    speech,
    step_nbytes,
)
from benchmarks.models import random_codec, random_parts, save
from benchmarks.report import Report
from higgs_core import AudioContent, HiggsAudioEngine
from higgs_core.build import EngineParts
from higgs_core.checkpoint.load import load_model
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.rates import SAMPLING_RATE
from tests.helpers.transformers_twin import prompt_of


class Run:
    """The stages in order, the most important first."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.plan = plan
        self.report = report
        self._reference = random_codes(plan.reference_seconds)
        self._bandwidth = float("nan")

    def stages(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "checks", self.checks
        parts, engine = self._engine()
        with engine:
            yield "steps", lambda: self.steps(parts, engine)
            yield "beside transformers", lambda: self.beside_transformers(parts, engine)
            yield "first audio", lambda: self.first_audio(engine)
            yield "whole requests", lambda: self.whole_requests(engine)
            yield "memory", self.memory
            yield (
                "bf16 against fp32",
                lambda: self._checked(
                    "full size", gpu_checks.low_precision(parts) if self._room_for_fp32(parts) else iter(())
                ),
            )
        yield "loading", lambda: self.loading(parts)

    def checks(self) -> None:
        plan = self.plan
        self._checked("golden tokens", gpu_checks.golden_tokens(plan.device))
        for dtype in (torch.float32, plan.dtype):
            parts = random_parts(plan.checked, plan.device, dtype, slots=8, context=plan.context)
            self._checked("kernels against torch", gpu_checks.kernels(parts))
            self._checked("captured against plain steps", gpu_checks.captured_steps(parts))
        self._checked(plan.checked.name, gpu_checks.low_precision(parts))

    def steps(self, parts: EngineParts, engine: HiggsAudioEngine) -> None:
        """ms per step of the whole engine and of bare steps, and the share of the memory bandwidth that they use."""
        plan = self.plan
        self._bandwidth = copy_bandwidth(plan.device, plan.copied_bytes)
        self.report.add("bandwidth", copied_terabytes_per_second=self._bandwidth / 1e12)
        sample = speech(self._reference)
        used = prompt_of(parts, sample).length + plan.steps // 2
        for batch in plan.batches:
            engine_speed(engine, sample, batch, plan.steps)  # captures what it needs
            speeds = [engine_speed(engine, sample, batch, plan.steps) for _ in range(plan.rounds)]
            ms = statistics.median(speed.ms_per_step for speed in speeds)
            bare = bare_step_ms(parts, batch, used + plan.steps // 10, plan.steps // 10)
            nbytes = step_nbytes(parts, batch, used)
            self.report.add(
                "steps",
                batch=batch,
                positions=used,
                ms_per_step=ms,
                bare_ms=bare,
                host_ms=ms - bare,
                floor_ms=1000 * nbytes / self._bandwidth,
                share_of_floor=1000 * nbytes / self._bandwidth / ms,
                times_real_time=audio_seconds_per_second(ms, 1),
                audio_seconds_per_second=audio_seconds_per_second(ms, batch),
            )

    def beside_transformers(self, parts: EngineParts, engine: HiggsAudioEngine) -> None:
        plan = self.plan
        sample = speech(self._reference)
        theirs = TransformersSide(parts, sample)
        for batch in plan.batches:
            medians = in_turns(
                {
                    "ours": partial(engine_speed, engine, sample, batch, plan.steps // 2),
                    "theirs": partial(theirs.speed, batch, plan.transformers_steps),
                },
                plan.rounds,
            )
            self.report.add(
                "beside transformers",
                batch=batch,
                ms_per_step=medians["ours"],
                transformers_ms=medians["theirs"],
                ratio=medians["theirs"] / medians["ours"],
            )

    def first_audio(self, engine: HiggsAudioEngine) -> None:
        """Time from the call to the first chunk: with a new reference, with a cached one and with none."""
        if engine._parts.codec is None:
            self.report.add("first audio", left_out="no codec here")
            return
        samples = int(self.plan.reference_seconds * SAMPLING_RATE)
        noise = np.random.default_rng(0)

        def clip() -> AudioContent:
            return AudioContent(waveform=noise.standard_normal(samples).astype(np.float32) * 0.1)

        known = clip()
        self._first_chunk(engine, known)
        self._first_chunk(engine, clip())
        times = {
            "not cached": [self._first_chunk(engine, clip()) for _ in range(5)],
            "cached": [self._first_chunk(engine, known) for _ in range(5)],
            "none": [self._first_chunk(engine, None) for _ in range(5)],
        }
        for reference, seconds in times.items():
            self.report.add(
                "first audio",
                reference=reference,
                reference_seconds=self.plan.reference_seconds if reference != "none" else 0.0,
                ms=1000 * statistics.median(seconds),
                slowest_ms=1000 * max(seconds),
            )

    def whole_requests(self, engine: HiggsAudioEngine) -> None:
        """Everything from submit to audio, codec and prefill included."""
        plan = self.plan
        sample = speech(self._reference)
        for batch in plan.batches:
            speed = engine_speed(engine, sample, batch, plan.steps)
            audio = batch * (plan.steps - 8) * SECONDS_PER_FRAME
            self.report.add(
                "whole requests",
                batch=batch,
                seconds=speed.wall,
                audio_seconds=audio,
                audio_seconds_per_second=audio / speed.wall,
                real_time_factor=speed.wall / (audio / batch),
            )

    def memory(self) -> None:
        figures: dict[str, Any] = {"host_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}
        if self.plan.device.type == "cuda":
            figures["device_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
            figures["reserved_gigabytes"] = torch.cuda.max_memory_reserved() / 1e9
        self.report.add("peak memory", **figures)

    def loading(self, parts: EngineParts) -> None:
        """Seconds to load the same weights from disk, with the files absent from the page cache and present in it."""
        with tempfile.TemporaryDirectory(prefix="higgs-benchmark-") as scratch:
            folder = Path(scratch)
            started = time.perf_counter()
            nbytes = save(self.plan.architecture, parts.config, parts.weights, folder)
            written = time.perf_counter() - started
            for state in ("cold", "warm"):
                if state == "cold":
                    _drop_from_page_cache(folder)
                started = time.perf_counter()
                loaded = load_model(folder, self.plan.device, self.plan.dtype)
                seconds = time.perf_counter() - started
                same = all(
                    torch.equal(a, b) for a, b in zip(loaded[1]._tensors(), parts.weights._tensors(), strict=True)
                )
                self.report.add(
                    "loading",
                    file=state,
                    gigabytes=nbytes / 1e9,
                    seconds=seconds,
                    gigabytes_per_second=nbytes / 1e9 / seconds,
                    writing_took=written,
                    passed=same,
                )
                del loaded

    def _engine(self) -> tuple[EngineParts, HiggsAudioEngine]:
        plan = self.plan
        codec: AudioCodec | None = None
        try:
            codec = random_codec(plan.device, full_size=plan.full_codec)
        except Exception as error:  # the other stages can be measured without a codec
            self.report.add("codec", left_out=f"{type(error).__name__}: {error}"[:300])
        started = time.perf_counter()
        parts = random_parts(
            plan.architecture, plan.device, plan.dtype, slots=max(plan.batches), context=plan.context, codec=codec
        )
        engine = HiggsAudioEngine(parts)
        made = time.perf_counter() - started
        started = time.perf_counter()
        engine.warm_up()
        self.report.add(
            "engine",
            model=plan.architecture.name,
            dtype=str(plan.dtype).removeprefix("torch."),
            weight_gigabytes=parts.weights.nbytes / 1e9,
            slots=engine.max_batch_size,
            context=engine.max_context,
            making_seconds=made,
            warm_up_seconds=time.perf_counter() - started,
        )
        return parts, engine

    def _first_chunk(self, engine: HiggsAudioEngine, clip: AudioContent | None) -> float:
        started = time.perf_counter()
        with engine.stream(speech(clip), sampled(60)) as stream:
            next(chunk for chunk in stream if len(chunk.audio))
            seconds = time.perf_counter() - started
        while engine.stats()["active"]:
            time.sleep(0.001)
        return seconds

    def _room_for_fp32(self, parts: EngineParts) -> bool:
        if self.plan.device.type != "cuda":
            return True
        return torch.cuda.mem_get_info()[0] > 2.2 * parts.weights.nbytes

    def _checked(self, heading: str, rows: Iterator[dict[str, Any]]) -> None:
        for row in rows:
            self.report.add(heading, **row)


def _drop_from_page_cache(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
