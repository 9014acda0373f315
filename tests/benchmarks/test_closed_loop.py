"""Streams without a pause, against an engine whose chunks come when the test says."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import closed_loop
from benchmarks.closed_loop import ClosedLoop
from higgs_core.rates import SAMPLING_RATE


class Clock:
    """time.perf_counter that moves when it is told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


class ScriptedStream:
    """chunks: seconds until each, and seconds of audio in it."""

    def __init__(self, clock: Clock, chunks: list[tuple[float, float]]) -> None:
        self._clock, self._chunks = clock, chunks
        self.result = SimpleNamespace(finish_reason="stop")

    def __enter__(self) -> ScriptedStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for wait, audio in self._chunks:
            self._clock.now += wait
            yield SimpleNamespace(audio=np.zeros(round(audio * SAMPLING_RATE), dtype=np.float32))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(closed_loop, "time", clock)
    return clock


def loop(clock: Clock, chunks: list[tuple[float, float]]) -> ClosedLoop:
    engine = SimpleNamespace(stream=lambda *_: ScriptedStream(clock, chunks))
    return ClosedLoop(engine, 0.01, 100)  # type: ignore[arg-type]


def test_a_player_that_runs_dry_waits_and_then_goes_on(clock: Clock) -> None:
    """First audio after .5 s; the second chunk .1 s late, the third .3 s before it is needed."""
    (heard,) = loop(clock, [(0.5, 0.2), (0.3, 0.5), (0.2, 1.0), (0.0, 0.0)]).run(1, 0.9).requests
    assert heard.first_audio_seconds == pytest.approx(0.5)
    assert heard.stalled_seconds == pytest.approx(0.1)
    assert heard.margin_seconds == pytest.approx(-0.1)
    assert heard.audio_seconds == pytest.approx(1.7)
    assert heard.seconds == pytest.approx(1.0)


def test_a_stream_sends_the_next_request_until_the_time_is_up(clock: Clock) -> None:
    """Requests of 1 s that begin at 0, 1, .. 9; the chunks of all ten come in time."""
    measured = loop(clock, [(0.6, 1.0), (0.4, 1.0)]).run(1, 10.0)
    assert len(measured.requests) == 10
    assert measured.audio_seconds_per_second == pytest.approx(2.0, abs=0.11)
    assert all(request.stalled_seconds == 0 for request in measured.requests)
    assert [request.reference for request in measured.requests].count("cold") == 2


def test_what_a_request_raises_is_raised(clock: Clock) -> None:
    def stream(*_: object) -> None:
        raise RuntimeError("the engine stopped")

    broken = ClosedLoop(SimpleNamespace(stream=stream), 0.01, 100)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="the engine stopped"):
        broken.run(2, 1.0)
