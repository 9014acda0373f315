"""Engines that run on, fall silent, loop and speak too little: what a client gets, in a stream and in one piece.

And slow voices: no word of a long text is lost to the cap of a piece.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.lost_words import words_spoken
from higgs_core.errors import BusyError, DeviceMemoryError, HiggsError, NoAudioError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import AudioContent
from higgs_core.speech.request import ReferenceSource, SpeechRequest
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.session import piece_seed, retry_seed
from higgs_core.speech.speak import SpeechChunk, speak, stream_speech
from higgs_core.text.speech_length import spoken_words
from tests.helpers.pieces import FRAME
from tests.helpers.simulated_engine import (
    Behaviour,
    SimulatedEngine,
    falls_silent,
    loops,
    never_sounds,
    runs_on,
    says_nothing,
    says_too_little,
    speaks_well,
)

WORDS = 40
PIECE = " ".join(["word"] * (WORDS - 1)) + " end."
SCRIPT = " ".join([PIECE] * 3)
CAP = 25 * WORDS + 75
GOOD = 10 * WORDS
"""Frames of a piece that went well."""

Outcome = tuple[SpeechResult, list[SpeechChunk]]


def request(script: str = SCRIPT, **fields: Any) -> SpeechRequest:
    params = GenerationParams(max_new_tokens=2600, seed=fields.pop("seed", None))
    return SpeechRequest(**{"script": script, "params": params, "chunk_max_word_num": WORDS} | fields)


def whole(engine: SimulatedEngine, asked: SpeechRequest) -> SpeechResult:
    return speak(engine, asked, {})  # type: ignore[arg-type]


def streamed(engine: SimulatedEngine, asked: SpeechRequest, speed: float = 1.0) -> Outcome:
    """The result, and the chunks; they always are the result's audio, one after the other."""
    *chunks, last = stream_speech(engine, asked, {}, speed=speed, clock=engine.clock)  # type: ignore[arg-type]
    assert last.result is not None
    starts = np.cumsum([0, *(len(chunk.audio) for chunk in chunks)])
    assert [chunk.start_sample for chunk in (*chunks, last)] == starts.tolist()
    joined = np.concatenate([chunk.audio for chunk in chunks])
    assert np.array_equal(joined, last.result.audio)
    return last.result, chunks


def frames_of(spoken: SpeechResult) -> list[int]:
    """Of each piece."""
    return [round((piece.end_seconds - piece.start_seconds) * 25) for piece in spoken.pieces]


def context_of(engine: SimulatedEngine, generation: int) -> int:
    """How many earlier pieces the prompt of a generation has."""
    return len(engine.asked[generation][0].messages) // 2


# What becomes of each way to go wrong: the frames that stay when it is not generated again, and what is said of it.
FAULTS: list[tuple[Behaviour, int, str]] = [
    (runs_on, CAP - 10, "cut off"),
    (falls_silent, GOOD + 15, "followed by a long silence"),
    (loops, GOOD + 150, "caught in a loop"),
    (says_too_little, GOOD // 8, "far too short for the text"),
    (says_nothing, 0, "left without audio"),
    (never_sounds, 15, "left without audio"),
]
by_fault = pytest.mark.parametrize(
    ("fault", "frames", "reason"), FAULTS, ids=[behaviour.__name__ for behaviour, *_ in FAULTS]
)


@by_fault
@pytest.mark.parametrize("at", [0, 1, 2])
def test_in_one_piece_whatever_went_wrong_is_generated_again(
    fault: Behaviour, frames: int, reason: str, at: int
) -> None:
    engine = SimulatedEngine([*[speaks_well] * at, fault, speaks_well])
    spoken = whole(engine, request())
    assert frames_of(spoken) == [GOOD] * 3
    first, second = piece_seed(spoken.seed, at), retry_seed(piece_seed(spoken.seed, at), 1)
    assert engine.seeds[at : at + 2] == [first, second]
    assert spoken.warnings == (
        f"Piece {at + 1} of 3 was generated again, because with seed {first} it was {reason}; the generation with seed "
        f"{second} was kept.",
    )
    assert spoken.finish_reason == "stop"
    assert [context_of(engine, generation) for generation in range(4)] == [*range(at + 1), *range(at, 3)]


@by_fault
@pytest.mark.parametrize("asked", [{"seed": 5}, {"retries": 0}], ids=["seed", "retries 0"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_with_a_seed_or_no_retries_it_stays_and_is_no_context(
    fault: Behaviour, frames: int, reason: str, asked: dict[str, Any], stream: bool
) -> None:
    engine = SimulatedEngine([speaks_well, fault, speaks_well])
    spoken = streamed(engine, request(**asked))[0] if stream else whole(engine, request(**asked))
    assert frames_of(spoken) == [GOOD, frames, GOOD]
    assert len(engine.asked) == 3
    assert context_of(engine, 2) == 1
    assert len(spoken.warnings) == 1
    assert not any("generated again" in warning for warning in spoken.warnings)


@by_fault
def test_a_later_piece_of_a_stream_is_held_while_the_client_has_enough_and_generated_again(
    fault: Behaviour, frames: int, reason: str
) -> None:
    engine = SimulatedEngine([speaks_well, fault, speaks_well])
    spoken, _ = streamed(engine, request())
    assert frames_of(spoken) == [GOOD] * 3
    (warning,) = spoken.warnings
    assert f"Piece 2 of 3 was generated again, because with seed {engine.seeds[1]} it was {reason}" in warning


@by_fault
def test_the_first_piece_of_a_stream_is_sent_as_it_comes_so_it_stays_once_it_sounded(
    fault: Behaviour, frames: int, reason: str
) -> None:
    engine = SimulatedEngine([fault, speaks_well])
    spoken, chunks = streamed(engine, request())
    if fault in (says_nothing, never_sounds):  # nothing of it was sent: silence is held until a sound follows
        assert frames_of(spoken) == [GOOD] * 3
        return
    assert len(chunks[0].audio) == FRAME
    assert frames_of(spoken) == [frames, GOOD, GOOD]
    assert context_of(engine, 1) == 0
    assert spoken.warnings[-1] == ("Piece 1 of 3 was kept: the audio had been sent before the fault was seen.")


@by_fault
def test_an_engine_no_faster_than_speech_has_every_piece_sent_as_it_comes(
    fault: Behaviour, frames: int, reason: str
) -> None:
    engine = SimulatedEngine([speaks_well, fault, speaks_well], seconds_per_frame=0.04)
    spoken, _ = streamed(engine, request())
    assert frames_of(spoken) == [GOOD, GOOD if fault in (says_nothing, never_sounds) else frames, GOOD]


@by_fault
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize(
    ("asked", "live"), [({"retries": 1, "seed": 5}, True), ({}, False)], ids=["retries sent", "nothing leaves early"]
)
def test_where_everything_is_held_a_stream_is_the_whole_whatever_the_clock_says(
    fault: Behaviour, frames: int, reason: str, at: int, asked: dict[str, Any], live: bool
) -> None:
    behaviours = [*[speaks_well] * at, fault, speaks_well]
    slow = SimulatedEngine(behaviours, seconds_per_frame=0.04)
    *chunks, last = stream_speech(slow, request(**asked), {}, live=live, clock=slow.clock)  # type: ignore[arg-type]
    spoken = last.result
    assert spoken is not None
    assert frames_of(spoken) == [GOOD] * 3
    again = whole(SimulatedEngine(behaviours), request(seed=spoken.seed, retries=1))
    assert np.array_equal(np.concatenate([chunk.audio for chunk in chunks]), again.audio)
    assert (spoken.warnings, spoken.pieces) == (again.warnings, again.pieces)


@pytest.mark.parametrize(
    ("seconds_per_frame", "retries"), [(0.0001, None), (0.008, None), (0.012, None), (0.04, None), (0.008, 2)]
)
@pytest.mark.parametrize("first", [fault for fault, *_ in FAULTS], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("second", [speaks_well, *(fault for fault, *_ in FAULTS)], ids=lambda fault: fault.__name__)
def test_what_is_sent_is_always_one_generation_and_the_one_in_the_result(
    first: Behaviour, second: Behaviour, seconds_per_frame: float, retries: int | None
) -> None:
    """Each generation has a tone of its own, so a piece put together from two would not equal the result."""
    engine = SimulatedEngine([speaks_well, first, second, first, speaks_well], seconds_per_frame=seconds_per_frame)
    spoken, _ = streamed(engine, request(retries=retries))
    assert 3 <= len(engine.asked) <= 5
    assert sum(codes.shape[1] for codes in spoken.audio_codes) == sum(frames_of(spoken))


def test_what_is_played_faster_is_held_for_less_long() -> None:
    """At four times the speed, an engine of a quarter of real time is no faster than the playback."""
    for speed, again in ((1.0, True), (4.0, False)):
        engine = SimulatedEngine([speaks_well, loops, speaks_well], seconds_per_frame=0.01)
        spoken, _ = streamed(engine, request(), speed)
        assert (spoken.retried_pieces == 1) is again


@pytest.mark.parametrize("seconds_per_frame", [0.001, 0.004, 0.012, 0.016, 0.02])
def test_a_client_never_waits_for_what_is_held(seconds_per_frame: float) -> None:
    """Also where the next piece takes longer to generate than what was sent takes to play."""
    engine = SimulatedEngine(seconds_per_frame=seconds_per_frame)
    script = f"[SPEAKER0] {PIECE}\n[SPEAKER1] {'word ' * 99}end.\n[SPEAKER0] {PIECE}"
    asked = request(script, chunk_method="speaker", chunk_max_word_num=100)
    began: float | None = None
    for chunk in stream_speech(engine, asked, {}, clock=engine.clock):  # type: ignore[arg-type]
        began = engine.seconds if began is None else began
        if chunk.start_sample >= GOOD * FRAME:  # the first piece is not held
            assert engine.seconds <= began + chunk.start_sample / 24_000, "the client had nothing to play"


def test_a_good_stream_is_sent_without_waiting_for_its_end_when_the_engine_is_slow() -> None:
    engine = SimulatedEngine(seconds_per_frame=0.04)
    _, chunks = streamed(engine, request())
    assert max(len(chunk.audio) for chunk in chunks) <= 64 * FRAME


def test_both_generations_may_be_bad_and_the_better_one_stays() -> None:
    for stream in (False, True):
        engine = SimulatedEngine([speaks_well, says_nothing, says_too_little, speaks_well])
        spoken = streamed(engine, request())[0] if stream else whole(engine, request())
        assert frames_of(spoken) == [GOOD, GOOD // 8, GOOD]
        assert context_of(engine, 3) == 1
        assert len(spoken.warnings) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("second", "kept"), [(falls_silent, 1), (says_too_little, 0)])
def test_a_second_generation_that_is_worse_is_not_taken(stream: bool, second: Behaviour, kept: int) -> None:
    engine = SimulatedEngine([speaks_well, runs_on, second, speaks_well])
    spoken = streamed(engine, request())[0] if stream else whole(engine, request())
    assert frames_of(spoken) == [GOOD, [CAP - 10, GOOD + 15][kept], GOOD]
    assert f"the generation with seed {engine.seeds[1 + kept]} was kept" in spoken.warnings[0]


def test_a_second_generation_that_was_sent_stays_even_if_it_is_worse() -> None:
    """The first could be held to its end, the second could not."""
    engine = SimulatedEngine([speaks_well, falls_silent, loops, speaks_well], seconds_per_frame=0.008)
    spoken, _ = streamed(engine, request())
    assert frames_of(spoken) == [GOOD, GOOD + 150, GOOD]
    assert f"the generation with seed {engine.seeds[2]} was kept" in spoken.warnings[0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("error", [BusyError("full"), DeviceMemoryError("full")], ids=lambda error: error.code)
def test_a_second_generation_that_cannot_be_had_costs_nothing(stream: bool, error: HiggsError) -> None:
    engine = SimulatedEngine([speaks_well, falls_silent, error, speaks_well])
    spoken = streamed(engine, request())[0] if stream else whole(engine, request())
    assert frames_of(spoken) == [GOOD, GOOD + 15, GOOD]
    assert len(spoken.warnings) == 1
    engine = SimulatedEngine([speaks_well, error])
    with pytest.raises(type(error)):
        _ = streamed(engine, request()) if stream else whole(engine, request())


def test_an_engine_that_never_speaks_is_asked_twice_a_piece_and_then_an_error() -> None:
    engine = SimulatedEngine([says_nothing])
    with pytest.raises(NoAudioError):
        whole(engine, request())
    assert len(engine.asked) == 6
    with pytest.raises(NoAudioError):
        list(stream_speech(engine, request(), {}, clock=engine.clock))  # type: ignore[arg-type]


def test_a_short_text_that_runs_on_ends_early() -> None:
    engine = SimulatedEngine([runs_on])
    spoken = whole(engine, request("Hello there.", retries=0))
    assert frames_of(spoken) == [25 * 2 + 75 - 10]


def test_silence_that_the_client_wants_is_streamed_as_it_comes() -> None:
    engine = SimulatedEngine([falls_silent])
    spoken, chunks = streamed(engine, request(PIECE, trim=False, seed=1))
    assert frames_of(spoken) == [CAP - 10]
    assert max(len(chunk.audio) for chunk in chunks) <= 64 * FRAME


def test_silence_in_a_stream_is_held_back_only_beyond_its_natural_length() -> None:
    engine = SimulatedEngine([falls_silent])
    spoken, chunks = streamed(engine, request(PIECE, seed=1))
    assert frames_of(spoken) == [GOOD + 15]
    sent_by = np.cumsum([len(chunk.audio) for chunk in chunks]) / FRAME
    assert sent_by[-1] == GOOD + 15


# --- the voice stays ---


def prompts(engine: SimulatedEngine) -> list[list[str]]:
    """Of every generation: the first word of each user turn."""
    return [[text_of_turn.split()[0] for text_of_turn in _user_turns(sample)] for sample, _ in engine.asked]


def _user_turns(sample: Any) -> list[str]:
    return [message.parts[0].text for message in sample.messages if message.role == "user"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_first_good_piece_stays_in_every_prompt(stream: bool) -> None:
    script = " ".join(f"{letter}{' word' * 18} end." for letter in "ABCDEF")
    engine = SimulatedEngine([runs_on, speaks_well])
    asked = request(script, chunk_max_word_num=20, generation_chunk_buffer_size=2, seed=3)
    _ = streamed(engine, asked) if stream else whole(engine, asked)
    assert prompts(engine) == [
        ["A"],
        ["B"],  # A was cut off
        ["B", "C"],
        ["B", "C", "D"],
        ["B", "C", "D", "E"],
        ["B", "D", "E", "F"],
    ]


def test_a_reference_holds_the_voice_itself() -> None:
    script = " ".join(f"{letter}{' word' * 18} end." for letter in "ABCDE")
    source = ReferenceSource("references[0]", path="a.wav", transcript="R")
    clips = {source: AudioContent(waveform=np.zeros(FRAME, np.float32))}
    engine = SimulatedEngine()
    asked = request(script, chunk_max_word_num=20, generation_chunk_buffer_size=1, references=(source,), seed=3)
    speak(engine, asked, clips)  # type: ignore[arg-type]
    assert prompts(engine)[-1] == ["R", "D", "E"]


# --- slow voices ---


@pytest.mark.parametrize("seconds_for_100_words", [25, 52, 80])
@pytest.mark.parametrize("ceiling", [512, 1024, 2600, 8192])
@pytest.mark.parametrize("method", ["auto", "word"])
def test_no_word_is_lost_whatever_the_rate(seconds_for_100_words: float, ceiling: int, method: Any) -> None:
    script = " ".join(["This is one sentence of eight plain words."] * 60)
    engine = SimulatedEngine(columns_per_word=seconds_for_100_words / 4)
    asked = SpeechRequest(
        script=script, params=GenerationParams(max_new_tokens=ceiling), chunk_method=method, retries=0
    )
    spoken = whole(engine, asked)
    assert words_spoken(engine, spoken) == pytest.approx(spoken_words(script), abs=0.5)
    assert spoken.finish_reason == "stop"
    assert not [warning for warning in spoken.warnings if "cut off" in warning]


def test_a_model_that_speaks_few_words_at_once_gets_no_longer_piece_and_loses_none() -> None:
    script = " ".join(["This is one sentence of eight plain words."] * 20)
    engine = SimulatedEngine(max_piece_words=25)
    spoken = whole(engine, SpeechRequest(script=script, params=GenerationParams(max_new_tokens=2600)))
    assert {len(piece.text.split()) for piece in spoken.pieces} == {16, 24}
    assert words_spoken(engine, spoken) == pytest.approx(spoken_words(script), abs=0.5)


def test_a_voice_with_a_long_reference_and_a_small_context_loses_no_word_either() -> None:
    script = " ".join(["This is one sentence of eight plain words."] * 30)
    source = ReferenceSource("references[0]", path="a.wav", transcript="Words of the clip.")
    clips = {source: AudioContent(waveform=np.zeros(40 * 24_000, np.float32))}
    engine = SimulatedEngine(columns_per_word=20, max_context=2048)
    asked = SpeechRequest(script=script, params=GenerationParams(max_new_tokens=2600), references=(source,))
    spoken = speak(engine, asked, clips)  # type: ignore[arg-type]
    assert words_spoken(engine, spoken) == pytest.approx(spoken_words(script), abs=0.5)


def test_numbers_and_characters_count_for_a_piece_by_what_they_take_to_say() -> None:
    for script in (" ".join(["Call 555 0199 at 12:45."] * 40), "今天天气很好。" * 60):
        engine = SimulatedEngine(columns_per_word=20)
        spoken = whole(engine, SpeechRequest(script=script, params=GenerationParams(max_new_tokens=1024)))
        assert words_spoken(engine, spoken) == pytest.approx(spoken_words(script), abs=0.5)
        assert spoken.finish_reason == "stop"
