"""Pauses in what is spoken: exact silence in its place, in one piece and in a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from higgs_core.errors import BusyError, RequestError
from higgs_core.params import GenerationParams
from higgs_core.speech.plan import check_text
from higgs_core.speech.request import SpeechRequest
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import SpeechChunk, speak, stream_speech
from higgs_core.speech.work_limits import WorkLimits
from tests.helpers.pieces import FRAME
from tests.helpers.simulated_engine import (
    SimulatedEngine,
    falls_silent,
    runs_on,
    says_nothing,
    speaks_well,
    text_of,
)

RATE = 24_000
SCRIPT = "[pause 2s] One two three. [pause: 1] four five [pause 500ms]"


def request(script: str = SCRIPT, **fields: Any) -> SpeechRequest:
    params = GenerationParams(seed=3, max_new_tokens=400)
    return SpeechRequest(**{"script": script, "system_prompt": "S", "params": params} | fields)


def whole(engine: SimulatedEngine, asked: SpeechRequest, **hooks: Any) -> SpeechResult:
    return speak(engine, asked, {}, **hooks)  # type: ignore[arg-type]


def streamed(engine: SimulatedEngine, asked: SpeechRequest) -> list[SpeechChunk]:
    return list(stream_speech(engine, asked, {}, clock=engine.clock))  # type: ignore[arg-type]


def test_pauses_are_exact_silence_between_the_pieces() -> None:
    engine = SimulatedEngine()
    result = whole(engine, request())
    first, second = result.pieces
    assert (first.text, second.text) == ("One two three.", "four five.")
    assert first.start_seconds == 2.0
    assert second.start_seconds == pytest.approx(first.end_seconds + 1.0)
    assert len(result.audio) / RATE == pytest.approx(second.end_seconds + 0.5)
    edges = [round(seconds * RATE) for seconds in (0, 2, first.end_seconds, second.start_seconds, second.end_seconds)]
    assert result.pauses == ((0, edges[1]), (edges[2], edges[3]), (edges[4], len(result.audio)))
    for start, stop in result.pauses:
        assert not result.audio[start:stop].any()
    without = whole(SimulatedEngine(), request("One two three.\nfour five.", chunk_max_word_num=3, normalize=False))
    spoken = np.concatenate([result.audio[edges[1] : edges[2]], result.audio[edges[3] : edges[4]]])
    np.testing.assert_array_equal(spoken, without.audio)
    assert all(map(np.array_equal, result.audio_codes, without.audio_codes))  # a pause has no codes
    assert (without.pauses, result.finish_reason, result.warnings) == ((), "stop", ())


def test_the_tag_is_never_spoken_and_earlier_text_is_context() -> None:
    for normalize in (True, False):
        engine = SimulatedEngine()
        whole(engine, request("[SPEAKER1] One, [PAUSE 1.5S] two [pause] [SPEAKER0] three.", normalize=normalize))
        end = "." if normalize else ""
        assert [text_of(sample) for sample, _ in engine.asked] == [
            "[SPEAKER1] One,",
            f"[SPEAKER1] two{end}",
            "[SPEAKER0] three.",
        ]
        sample, _ = engine.asked[-1]
        assert len(sample.messages) == sample.shared_turns + 5


def test_a_stream_sends_pauses_in_time_order() -> None:
    chunks = streamed(SimulatedEngine(), request())
    result = chunks[-1].result
    assert result is not None
    assert [(c.start_sample, c.start_sample + len(c.audio)) for c in chunks if c.is_pause] == list(result.pauses)
    assert chunks[0].is_pause
    assert chunks[-2].is_pause
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), result.audio)
    np.testing.assert_array_equal(result.audio, whole(SimulatedEngine(), request()).audio)
    assert [chunk.start_sample for chunk in chunks[1:]] == np.cumsum([len(c.audio) for c in chunks])[:-1].tolist()
    texts = {chunk.start_sample / RATE: chunk.text for chunk in chunks if chunk.text is not None}
    assert texts == {piece.start_seconds: piece.text for piece in result.pieces}


def test_a_pause_before_the_first_sound_is_sent_while_the_engine_works() -> None:
    engine = SimulatedEngine()
    chunks = stream_speech(engine, request(), {}, clock=engine.clock)  # type: ignore[arg-type]
    assert len(next(chunks).audio) == 2 * RATE
    assert len(engine.asked) == 1
    assert engine.seconds == 0  # of the generation nothing has been waited for


def test_a_refused_request_sends_no_pause() -> None:
    """A client that has got audio can be told of no error by a status any more."""
    chunks = stream_speech(SimulatedEngine([BusyError("full")]), request(), {})  # type: ignore[arg-type]
    with pytest.raises(BusyError):
        next(chunks)


@pytest.mark.parametrize("behaviours", [[speaks_well, runs_on, speaks_well], [says_nothing, speaks_well]])
def test_a_piece_that_is_generated_again_has_its_pause_and_its_text_once(behaviours: list[Any]) -> None:
    asked = request(retries=1)
    chunks = streamed(SimulatedEngine(behaviours), asked)
    result = chunks[-1].result
    assert result is not None
    assert result.retried_pieces == 1
    assert [len(chunk.audio) for chunk in chunks if chunk.is_pause] == [2 * RATE, RATE, RATE // 2]
    assert [chunk.text for chunk in chunks if chunk.text is not None] == ["One two three.", "four five."]
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), result.audio)


def test_trim_cuts_the_silence_of_a_piece_and_not_the_pause() -> None:
    result = whole(SimulatedEngine([falls_silent]), request("One two. [pause 9s] three four."))
    first, second = result.pieces
    assert second.start_seconds - first.end_seconds == pytest.approx(9.0)
    assert first.end_seconds == pytest.approx(0.8 + 0.6)


def test_a_pause_gives_the_listener_something_to_play_while_the_next_piece_is_checked() -> None:
    """It lasts as long at any speed, so a stream at double speed holds a piece for as long."""
    words = " ".join(["word"] * 30)
    engine = SimulatedEngine([speaks_well, runs_on, speaks_well], seconds_per_frame=0.004)
    asked = request(f"Hi. [pause 10s] {words}", params=GenerationParams(max_new_tokens=2600))
    *_, last = stream_speech(engine, asked, {}, speed=4.0, clock=engine.clock)  # type: ignore[arg-type]
    assert last.result is not None
    assert last.result.retried_pieces == 1


def test_pauses_count_for_the_samples_and_the_limits() -> None:
    checked: list[tuple[int, int]] = []
    result = whole(SimulatedEngine(), request(), check_samples=lambda *samples: checked.append(samples))
    speech, pauses = checked[-1]
    assert speech == sum(codes.shape[1] for codes in result.audio_codes) * FRAME
    assert speech + pauses == len(result.audio) - RATE // 2
    asked = request("One. [pause 10s] two.", limits=WorkLimits(characters=100, pieces=2, audio_seconds=10.5))
    with pytest.raises(RequestError, match="takes about 11 s to speak"):
        check_text(asked, 8192)
    with pytest.raises(RequestError, match="makes 3 pieces"):
        check_text(request("One. [pause] two. [pause] three.", limits=WorkLimits(100, 2, 60)), 8192)


@pytest.mark.parametrize("script", ["[pause 3s]", "[pause] [SPEAKER0] ... [pause]"])
def test_pauses_alone_are_nothing_to_speak(script: str) -> None:
    with pytest.raises(RequestError, match="nothing to speak: it holds only pauses"):
        whole(SimulatedEngine(), request(script))


def test_what_looks_like_a_pause_is_warned_of() -> None:
    result = whole(SimulatedEngine(), request("Press the [pause button] now."))
    assert result.warnings == ("script has [pause button], which is read as text; a pause is written [pause 1.5s].",)
    assert [piece.text for piece in result.pieces] == ["Press the [pause button] now."]
