"""Streams that listen without a pause: each sends a request, plays it as it arrives, and then sends the next one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.harness import sampled, speech
from higgs_core import AudioContent, HiggsAudioEngine
from higgs_core.rates import SAMPLING_RATE

_VOICES = 4
_COLD_SHARE, _FIRST_COLD = 8, 2  # one request of so many comes with a clip that was never heard


@dataclass(frozen=True)
class Heard:
    """One request as a player saw it, which began with the first chunk and stopped whenever nothing was there.

    reference: "cached" or "cold".  seconds: until all of it was there.  stalled_seconds: silence within the speech.
    margin_seconds: the least audio that was ahead of the player when a chunk arrived; below 0 it had run dry.
    """

    reference: str
    first_audio_seconds: float
    seconds: float
    audio_seconds: float
    stalled_seconds: float
    margin_seconds: float
    finish_reason: str


@dataclass(frozen=True)
class Measured:
    """requests: those that ended.  audio_seconds_per_second: of all chunks until the time was up."""

    requests: list[Heard]
    audio_seconds_per_second: float


class ClosedLoop:
    """Voices are noise. The n-th request of a run has the seed n, so that runs are alike."""

    def __init__(self, engine: HiggsAudioEngine, reference_seconds: float, most_columns: int) -> None:
        self._engine = engine
        self._samples = int(reference_seconds * SAMPLING_RATE)
        self._most_columns = most_columns
        self._noise = np.random.default_rng(0)
        self._lock = threading.Lock()
        self._voices = [self._clip() for _ in range(_VOICES)]
        self._begun = 0

    def run(self, streams: int, seconds: float) -> Measured:
        """`streams` at a time for so long; those under way at the end are heard out. Raises what a request raised."""
        self._begun = 0  # the same requests in every run
        heard: list[Heard] = []
        errors: list[Exception] = []
        chunks: list[tuple[float, float]] = []  # moment, seconds of audio
        began = time.perf_counter()

        def listen() -> None:
            try:
                number = 0
                while not number or time.perf_counter() - began < seconds:
                    heard.append(self._listen(self._next_seed(), chunks))
                    number += 1
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=listen, name=f"stream-{stream}") for stream in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        window = max(seconds, min(moment for moment, _ in chunks) - began + 1e-3)
        in_time = [audio for moment, audio in chunks if moment - began <= window]
        return Measured(heard, sum(in_time) / window)

    def _listen(self, seed: int, chunks: list[tuple[float, float]]) -> Heard:
        cold = seed % _COLD_SHARE == _FIRST_COLD
        clip = self._clip() if cold else self._voices[seed % _VOICES]
        began = time.perf_counter()
        first = played_until = 0.0
        audio = stalled = 0.0
        margin = float("inf")
        with self._engine.stream(speech(clip), sampled(self._most_columns, seed)) as stream:
            for chunk in stream:
                length = len(chunk.audio) / SAMPLING_RATE
                if not length:
                    continue
                now = time.perf_counter()
                chunks.append((now, length))
                if not first:
                    first = played_until = now
                else:
                    margin = min(margin, played_until - now)
                    stalled += max(now - played_until, 0.0)
                played_until = max(played_until, now) + length
                audio += length
        assert stream.result is not None
        ended = time.perf_counter()
        return Heard(
            reference="cold" if cold else "cached",
            first_audio_seconds=(first or ended) - began,
            seconds=ended - began,
            audio_seconds=audio,
            stalled_seconds=stalled,
            margin_seconds=min(margin, audio),
            finish_reason=stream.result.finish_reason,
        )

    def _next_seed(self) -> int:
        with self._lock:
            self._begun += 1
            return self._begun

    def _clip(self) -> AudioContent:
        with self._lock:
            noise = self._noise.standard_normal(self._samples)
        return AudioContent(waveform=noise.astype(np.float32) * 0.1)
