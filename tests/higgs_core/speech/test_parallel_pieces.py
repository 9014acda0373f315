"""Pieces that are spoken at the same time: order, share of the slots, faults, failures and whose voice they need."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.cancellation import CancelToken
from higgs_core.errors import BusyError, DeviceMemoryError, GenerationCancelled, HiggsError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import AudioContent
from higgs_core.speech.generations import MOST_AT_ONCE
from higgs_core.speech.progress import Progress
from higgs_core.speech.request import ReferenceSource, Speaker, SpeechRequest
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.session import SpeechSession, piece_seed, retry_seed
from higgs_core.speech.speak import SpeechChunk, speak, stream_speech
from tests.helpers.interleaving_engine import InterleavingEngine
from tests.helpers.patience import wait_until
from tests.helpers.pieces import count_bytes, looping_codes
from tests.helpers.pieces import result as generated
from tests.helpers.simulated_engine import Behaviour, runs_on, speaks_well

PIECES = tuple(f"Some words of piece {letter}{' and more' * (at % 3)}." for at, letter in enumerate("ABCDEFGHIJKL"))
CLIP = ReferenceSource("references[0]", path="unused.wav", transcript="Words.")
CLIPS = {CLIP: AudioContent(codes=np.ones((8, 20), np.int64))}


def request(**fields: Any) -> SpeechRequest:
    params = GenerationParams(max_new_tokens=2600, seed=fields.pop("seed", 9))
    asked: dict[str, Any] = {
        "script": " ".join(PIECES),
        "chunk_max_word_num": 9,
        "chunk_method": "sentence",
        "chunk_parallel": True,
        "references": (CLIP,),
    }
    return SpeechRequest(**asked | {"params": params} | fields)


def spoken(engine: InterleavingEngine, asked: SpeechRequest, **hooks: Any) -> SpeechResult:
    return speak(engine, asked, CLIPS, **hooks)  # type: ignore[arg-type]


def streamed(engine: InterleavingEngine, asked: SpeechRequest, **hooks: Any) -> list[SpeechChunk]:
    return list(stream_speech(engine, asked, CLIPS, **hooks))  # type: ignore[arg-type]


def engine(seed: int = 0, **fields: Any) -> InterleavingEngine:
    return InterleavingEngine(Random(seed), **fields)


@pytest.fixture(scope="module")
def one_by_one() -> SpeechResult:
    """The same pieces, each spoken alone after the one before, without context."""
    return spoken(engine(), request(chunk_parallel=False, generation_chunk_buffer_size=0))


@pytest.mark.parametrize("order", range(6))
def test_the_speech_is_the_same_in_whatever_order_the_pieces_end(order: int, one_by_one: SpeechResult) -> None:
    at_work = engine(order)
    together = spoken(at_work, request())
    assert at_work.most_at_once == 4
    chunks = streamed(engine(order + 100), request())
    assert chunks[-1].result is not None
    for result in (together, chunks[-1].result):
        np.testing.assert_array_equal(result.audio, one_by_one.audio)
        assert result.pieces == one_by_one.pieces
        assert result.seed == 9
        assert result.warnings == ()
        assert all(map(np.array_equal, result.audio_codes, one_by_one.audio_codes))
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), one_by_one.audio)
    assert [chunk.text for chunk in chunks if chunk.text is not None] == [piece.text for piece in one_by_one.pieces]


def test_no_piece_hears_another() -> None:
    at_work = engine()
    spoken(at_work, request())
    assert len(at_work.started) > 4
    assert all(len(each.sample.messages) == each.sample.shared_turns + 1 for each in at_work.started)
    assert [each.params.seed for each in at_work.started] == [piece_seed(9, at) for at in range(len(at_work.started))]


@pytest.mark.parametrize(("slots", "at_once"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, MOST_AT_ONCE)])
def test_a_request_has_at_most_half_of_the_slots(slots: int, at_once: int) -> None:
    for speak_it in (spoken, streamed):
        at_work = engine(max_batch_size=slots)
        speak_it(at_work, request())  # type: ignore[operator]
        assert at_work.most_at_once == at_once


def test_what_waits_ahead_is_bounded() -> None:
    """While the first piece goes on, those after it end, and from some number on no further one is started."""
    started_beside_the_first: list[int] = []

    class LastFirst(Random):
        def choice(self, seq: Any) -> Any:
            if len(seq) == 1:
                started_beside_the_first.append(len(at_work.started))
            return seq[-1]

    at_work = InterleavingEngine(LastFirst())
    spoken(at_work, request(script=" ".join(["word"] * 300)))
    assert started_beside_the_first[0] == 2 * 4
    assert len(at_work.started) > 2 * 4


def test_a_stream_that_is_closed_ends_all_generations() -> None:
    at_work = engine()
    chunks = stream_speech(at_work, request(), CLIPS)  # type: ignore[arg-type]
    next(chunks)
    assert len(at_work.running) == 4
    chunks.close()  # type: ignore[attr-defined]
    assert not at_work.running


@pytest.mark.parametrize(("others", "at_once"), [(2, 4), (3, 3), (4, 2), (5, 1), (8, 1)])
def test_pieces_ahead_leave_one_slot_in_four_to_others(others: int, at_once: int) -> None:
    at_work = engine(others=others)
    spoken(at_work, request())
    assert at_work.most_at_once == at_once


def test_a_piece_ahead_that_finds_no_place_is_started_later(one_by_one: SpeechResult) -> None:
    def refuse(at_work: InterleavingEngine) -> None:
        if at_work.running:
            raise BusyError("full")

    at_work = engine(refuse=refuse)
    np.testing.assert_array_equal(spoken(at_work, request()).audio, one_by_one.audio)
    assert at_work.most_at_once == 1


def second_goes_wrong(text: str, seed: int) -> Behaviour | HiggsError:
    return runs_on if seed == piece_seed(9, 1) else speaks_well


def test_a_piece_that_went_wrong_is_generated_again_alone_and_named(one_by_one: SpeechResult) -> None:
    at_work = engine(behaviour=second_goes_wrong)
    result = spoken(at_work, request(retries=1))
    again = retry_seed(piece_seed(9, 1), 1)
    assert [each.params.seed for each in at_work.started].count(again) == 1
    assert len(at_work.started) == len(one_by_one.pieces) + 1
    assert result.retried_pieces == 1
    (warning,) = result.warnings
    assert warning.startswith(
        f"Piece 2 of {len(one_by_one.pieces)} was generated again, because with seed {piece_seed(9, 1)} it was cut off"
    )
    assert warning.endswith(f"the generation with seed {again} was kept.")
    chunks = streamed(engine(5, behaviour=second_goes_wrong), request(retries=1))
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), result.audio)
    texts = [chunk.text for chunk in chunks if chunk.text is not None]
    assert texts == [piece.text for piece in one_by_one.pieces]


def test_a_piece_ahead_that_finds_too_little_memory_is_generated_again_in_its_turn() -> None:
    script = " [pause 1s] ".join(PIECES)
    fields = {"chunk_parallel": False, "generation_chunk_buffer_size": 0}
    expected = spoken(engine(), request(script=script, **fields))
    for speak_it in (spoken, streamed):
        failed: list[int] = []

        def fails_once_ahead(text: str, seed: int, failed: list[int] = failed) -> Behaviour | HiggsError:
            if seed in (piece_seed(9, 1), piece_seed(9, 4)) and seed not in failed:
                failed.append(seed)
                return DeviceMemoryError("full")
            return speaks_well

        at_work = engine(4, behaviour=fails_once_ahead)
        made = speak_it(at_work, request(script=script))  # type: ignore[operator]
        result = made if isinstance(made, SpeechResult) else made[-1].result
        assert len(failed) == 2
        np.testing.assert_array_equal(result.audio, expected.audio)
        assert result.pauses == expected.pauses
        assert result.warnings == ()
        if speak_it is streamed:
            np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in made]), expected.audio)
            assert [chunk.text for chunk in made if chunk.text is not None] == [piece.text for piece in expected.pieces]
        assert not at_work.running


@pytest.mark.parametrize("speak_it", [spoken, streamed])
def test_a_failure_ends_all_generations(speak_it: Any) -> None:
    def third_fails(text: str, seed: int) -> Behaviour | HiggsError:
        return DeviceMemoryError("full") if seed == piece_seed(9, 2) else speaks_well

    at_work = engine(behaviour=third_fails)
    with pytest.raises(DeviceMemoryError):
        speak_it(at_work, request())
    assert not at_work.running
    assert len(at_work.started) > 3


@pytest.mark.parametrize("speak_it", [spoken, streamed])
def test_a_cancel_ends_all_generations(speak_it: Any) -> None:
    at_work, cancel = engine(), CancelToken()

    def stop(progress: Progress) -> None:
        if progress.share > 0.2:
            cancel.cancel()

    with pytest.raises(GenerationCancelled):
        speak_it(at_work, request(), cancel=cancel, on_progress=stop)
    assert not at_work.running
    assert any(each.cancelled for each in at_work.started)


def test_a_piece_that_is_generated_again_leaves_the_seeds_of_those_ahead_alone() -> None:
    """They may start before it, or while it is generated again."""
    session = SpeechSession(request(retries=2), CLIPS, 8192, count_bytes)
    assert session.add(generated(200, codes=[looping_codes(200, 25)])) is None
    assert session.params().seed == retry_seed(9, 1)
    assert [session.params(ahead).seed for ahead in (1, 2)] == [piece_seed(9, 1), piece_seed(9, 2)]


def test_progress_counts_the_pieces_ahead_and_never_falls() -> None:
    for speak_it in (spoken, streamed):
        reported: list[Progress] = []
        speak_it(engine(3), request(), on_progress=reported.append)  # type: ignore[operator]
        assert all(before.share <= after.share for before, after in pairwise(reported))
        assert reported[-1].share == 1.0


def test_samples_are_checked_after_each_piece(one_by_one: SpeechResult) -> None:
    checked: list[int] = []

    def check(speech: int, pauses: int) -> None:
        checked.append(speech)
        assert pauses == 0

    spoken(engine(2), request(), check_samples=check)
    assert checked == [round(piece.end_seconds * 24_000) for piece in one_by_one.pieces]


# --- whose voice ---

TAGGED = "[SPEAKER0] One two three. [SPEAKER1] Four five six."
ANN = ReferenceSource("references[0]", path="a.wav", transcript="A.", speaker_tag="SPEAKER0")
BEN = ReferenceSource("references[1]", path="b.wav", transcript="B.", speaker_tag="SPEAKER1")
NAMELESS = ReferenceSource("references[0]", path="c.wav", transcript="C.")
NAMELESS_TOO = ReferenceSource("references[1]", path="d.wav", transcript="D.")


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"script": TAGGED, "references": (ANN, BEN)}, None),
        ({"script": TAGGED, "references": (NAMELESS, NAMELESS_TOO)}, None),
        ({"script": TAGGED, "references": (NAMELESS, NAMELESS_TOO), "ref_audio_in_system_message": True}, None),
        ({"script": TAGGED, "speakers": (Speaker("SPEAKER0", ANN), Speaker("SPEAKER1", BEN))}, None),
        ({"script": TAGGED, "references": (ANN,), "speakers": (Speaker("SPEAKER1", BEN),)}, None),
        ({"script": "One. Two.", "references": (ANN,)}, None),
        ({"script": "[SPEAKER5] One. Two.", "references": (NAMELESS,)}, None),
        ({"script": "One. Two.", "speakers": (Speaker("SPEAKER0", ANN),)}, None),
        ({"script": TAGGED, "references": (ANN,)}, "the voice of SPEAKER1"),
        ({"script": TAGGED, "references": (NAMELESS,)}, "the voice of SPEAKER0, SPEAKER1"),
        (
            {"script": TAGGED, "speakers": (Speaker("SPEAKER0", ANN), Speaker("SPEAKER1", description="deep"))},
            "SPEAKER1",
        ),
        ({"script": "One. Two."}, "give the voice,"),
        ({"script": "One. Two.", "speakers": (Speaker("SPEAKER0", description="deep"),)}, "give the voice,"),
        ({"script": "[SPEAKER0] One. Two.", "scene_prompt": "SPEAKER0: deep"}, "the voice of SPEAKER0"),
    ],
)
def test_every_speaker_needs_a_clip(fields: dict[str, Any], missing: str | None) -> None:
    at_work = engine()
    asked = request(**{"chunk_max_word_num": 1, "chunk_method": "word", "references": ()} | fields)
    clips = {source: AudioContent(codes=np.ones((8, 20), np.int64)) for source in asked.reference_sources}
    result = speak(at_work, asked, clips)  # type: ignore[arg-type]
    if missing is None:
        assert result.warnings == ()
        assert at_work.most_at_once > 1
    else:
        assert len(result.warnings) == 1
        assert result.warnings[0].startswith("chunk_parallel was not used: no clip, codes or library voice give")
        assert missing in result.warnings[0]
        assert at_work.most_at_once == 1
        assert len(at_work.started[-1].sample.messages) > at_work.started[-1].sample.shared_turns + 1


# --- the real engine ---


def test_a_real_engine_speaks_pieces_together_and_gives_every_slot_back(tiny_engine: HiggsAudioEngine) -> None:
    most: list[int] = []

    def look(_: Progress) -> None:
        most.append(tiny_engine.stats()["active"])

    asked = request(seed=5, retries=1)
    result = speak(tiny_engine, asked, CLIPS, on_progress=look)
    assert 1 < max(most) <= tiny_engine.max_batch_size // 2
    assert len(result.pieces) > 4
    assert [piece.start_seconds for piece in result.pieces[1:]] == [piece.end_seconds for piece in result.pieces[:-1]]
    wait_until(lambda: tiny_engine.stats()["active"] == tiny_engine.stats()["waiting"] == 0)


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_a_real_engine_is_idle_after_a_request_that_was_left(tiny_engine: HiggsAudioEngine, way: str) -> None:
    cancel = CancelToken()
    chunks = stream_speech(tiny_engine, request(seed=5), CLIPS, cancel=cancel)
    next(chunks)
    if way == "close":
        chunks.close()  # type: ignore[attr-defined]
    else:
        cancel.cancel()
        with pytest.raises(GenerationCancelled):
            list(chunks)
    wait_until(lambda: tiny_engine.stats()["active"] == tiny_engine.stats()["waiting"] == 0)
