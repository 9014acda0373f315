"""Whole requests, spoken by the real engine on the tiny checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.cancellation import CancelToken
from higgs_core.errors import GenerationCancelled, PromptTooLongError, RequestError
from higgs_core.rates import FRAME_SAMPLES
from higgs_core.speech.plan import LEAST_STEPS
from higgs_core.speech.progress import Progress
from higgs_core.speech.request import ReferenceSource, Speaker, SpeechRequest
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.session import piece_seed
from higgs_core.speech.speak import SpeechChunk, speak, stream_speech
from tests.helpers.patience import PATIENCE, wait_until

SYSTEM = "Generate audio following instruction.\n\n<|scene_desc_start|>\nA quiet room.\n<|scene_desc_end|>"
THREE_PIECES = ("One two three.", "Four five six.", "Seven eight nine.")


@pytest.fixture(scope="module")
def engine() -> Iterator[HiggsAudioEngine]:
    torch.set_num_threads(1)
    with HiggsAudioEngine.from_pretrained("tiny", max_batch_size=2, max_context=2048) as engine:
        yield engine


def request(script: str = "Hello there.", steps: int = 40, seed: int | None = 5, **fields: Any) -> SpeechRequest:
    params = GenerationParams(max_new_tokens=steps, seed=seed)
    return SpeechRequest(**{"script": script, "system_prompt": SYSTEM, "params": params} | fields)


def in_three_pieces(**fields: Any) -> SpeechRequest:
    """With the seed as it is, each piece ends by itself and goes well, so that the next one hears it."""
    return request(" ".join(THREE_PIECES), **{"chunk_max_word_num": 3, "steps": 150, "seed": 14} | fields)


@pytest.fixture(scope="module")
def three_pieces(engine: HiggsAudioEngine) -> SpeechResult:
    return speak(engine, in_three_pieces(), {})


def endless() -> SpeechRequest:
    """Hundreds of pieces: minutes of work that a test never waits for."""
    return request(" ".join(THREE_PIECES * 200), chunk_max_word_num=3)


def is_idle(engine: HiggsAudioEngine) -> bool:
    return engine.stats()["active"] == engine.stats()["waiting"] == 0


def same(left: list[np.ndarray[Any, Any]], right: list[np.ndarray[Any, Any]]) -> bool:
    return len(left) == len(right) and all(map(np.array_equal, left, right))


# --- what is spoken ---


def test_a_short_script_is_exactly_one_generation(engine: HiggsAudioEngine) -> None:
    spoken = speak(engine, request(), {})
    sample = ChatMLSample([Message("system", SYSTEM), Message("user", "Hello there.")])
    alone = engine.generate(sample, GenerationParams(max_new_tokens=40, seed=5))
    assert alone.audio is not None
    assert same(spoken.audio_codes, alone.audio_codes)
    assert np.allclose(spoken.audio, alone.audio, atol=1e-5)
    assert (spoken.text, spoken.text_token_ids) == (alone.text, alone.text_token_ids)
    assert (spoken.seed, spoken.finish_reason) == (5, alone.finish_reason)
    assert spoken.usage["total_tokens"] == alone.usage["total_tokens"]
    assert [(piece.text, piece.start_seconds) for piece in spoken.pieces] == [("Hello there.", 0.0)]
    assert spoken.pieces[0].end_seconds == pytest.approx(len(spoken.audio) / spoken.sampling_rate)


def test_each_piece_is_spoken_after_the_first_and_the_last_with_their_text_and_codes(engine: HiggsAudioEngine) -> None:
    spoken = speak(engine, in_three_pieces(generation_chunk_buffer_size=1), {})
    params = GenerationParams(max_new_tokens=150)
    turns = [Message("user", words) for words in THREE_PIECES]
    context: list[Message] = []
    codes, audio = [], []
    for at, turn in enumerate(turns):
        sample = ChatMLSample([Message("system", SYSTEM), *context, turn])
        result = engine.generate(sample, replace(params, seed=piece_seed(14, at)))
        assert result.audio is not None
        context += [turn, Message("assistant", AudioContent(codes=np.concatenate(result.audio_codes, axis=1)))]
        codes += result.audio_codes
        audio.append(result.audio)
    assert same(spoken.audio_codes, codes)
    assert np.allclose(spoken.audio, np.concatenate(audio), atol=1e-5)
    assert [piece.text for piece in spoken.pieces] == list(THREE_PIECES)
    ends = np.cumsum([len(part) for part in audio]) / 24_000
    assert [piece.end_seconds for piece in spoken.pieces] == pytest.approx(ends.tolist())
    assert [piece.start_seconds for piece in spoken.pieces] == pytest.approx([0.0, *ends[:-1].tolist()])


def test_what_was_spoken_before_changes_what_is_spoken_next(
    engine: HiggsAudioEngine, three_pieces: SpeechResult
) -> None:
    alone, after = speak(engine, in_three_pieces(generation_chunk_buffer_size=0), {}), three_pieces
    first_end = round(alone.pieces[0].end_seconds * 24_000)
    assert np.allclose(alone.audio[:first_end], after.audio[:first_end], atol=1e-5)
    assert not same(alone.audio_codes, after.audio_codes)


def test_the_reported_seed_speaks_the_same_again(engine: HiggsAudioEngine) -> None:
    """With the same retries: a piece that went wrong is then generated again with the same seed as before."""
    first = speak(engine, in_three_pieces(seed=None), {})
    again = speak(engine, in_three_pieces(seed=first.seed, retries=1), {})
    other = speak(engine, in_three_pieces(seed=None), {})
    assert same(first.audio_codes, again.audio_codes)
    assert first.warnings == again.warnings
    assert not same(first.audio_codes, other.audio_codes)


def test_a_cut_off_piece_is_generated_again_with_its_own_seed(engine: HiggsAudioEngine) -> None:
    spoken = speak(engine, request(steps=20, seed=5, retries=1), {})
    alone = speak(engine, request(steps=20, seed=5), {})
    assert same(spoken.audio_codes, alone.audio_codes)  # both were cut off, so the first one stayed
    assert spoken.usage["completion_tokens"] > alone.usage["completion_tokens"]
    assert spoken.warnings[0].startswith("The speech was generated again, because with seed 5 it was cut off, and with")


def test_a_cut_off_piece_is_warned_of(engine: HiggsAudioEngine) -> None:
    spoken = speak(engine, request(steps=20, cap_follows_text=False), {})
    assert spoken.finish_reason == "length"
    assert spoken.warnings == ("The speech was cut off at max_new_tokens=20 (1 s); raise max_new_tokens.",)


def test_clips_reach_the_model_as_turns_and_as_voices(engine: HiggsAudioEngine) -> None:
    source = ReferenceSource("references[0]", path="unused.wav", transcript="Words.", speaker_tag="SPEAKER0")
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    clips = {source: AudioContent(waveform=noise)}
    speaker = Speaker("SPEAKER0", reference=source)
    by_turns = speak(engine, request(references=(source,)), clips)
    in_scene = speak(engine, request(references=(source,), ref_audio_in_system_message=True), clips)
    as_speaker = speak(engine, request(speakers=(speaker,)), clips)
    assert not same(by_turns.audio_codes, in_scene.audio_codes)
    assert same(in_scene.audio_codes, as_speaker.audio_codes)
    assert not same(by_turns.audio_codes, speak(engine, request(), {}).audio_codes)


@pytest.mark.parametrize("steps", [1, 8])
def test_too_few_steps_for_a_frame_are_refused(engine: HiggsAudioEngine, steps: int) -> None:
    with pytest.raises(RequestError, match=f"max_new_tokens is {steps}, .* 9 decode steps") as refused:
        speak(engine, request(steps=steps), {})
    assert refused.value.field == "max_new_tokens"
    with pytest.raises(RequestError, match=f"max_new_tokens is {steps}, .* 9 decode steps"):
        list(stream_speech(engine, request(steps=steps), {}))


def test_the_fewest_steps_are_one_frame(engine: HiggsAudioEngine) -> None:
    spoken = speak(engine, request(steps=LEAST_STEPS), {})
    assert sum(codes.shape[1] for codes in spoken.audio_codes) == 1
    assert len(spoken.audio) == FRAME_SAMPLES


def test_a_prompt_that_cannot_fit_is_refused(engine: HiggsAudioEngine) -> None:
    with pytest.raises(PromptTooLongError):
        speak(engine, request("word " * 1000, chunk_method="none"), {})
    wait_until(lambda: is_idle(engine))


def test_context_that_would_not_fit_is_left_out(engine: HiggsAudioEngine) -> None:
    script = " ".join(THREE_PIECES * 2)
    fields = {"chunk_max_word_num": 3, "generation_chunk_buffer_size": 4, "steps": 150, "seed": 14}
    system = "x" * 1650  # the tiny tokenizer takes a position a letter
    spoken = speak(engine, request(script, system_prompt=system, **fields), {})
    assert len(spoken.pieces) == 6
    assert "fewer earlier pieces than generation_chunk_buffer_size=4" in spoken.warnings[-1]


def test_a_request_without_words_never_reaches_the_engine(engine: HiggsAudioEngine) -> None:
    with pytest.raises(RequestError, match="nothing to speak"):
        speak(engine, request("()"), {})
    with pytest.raises(RequestError, match="nothing to speak"):
        next(stream_speech(engine, request("()"), {}))


# --- progress ---


@pytest.mark.parametrize("streamed", [False, True])
def test_progress_only_grows_and_ends_with_all(engine: HiggsAudioEngine, streamed: bool) -> None:
    reported: list[Progress] = []
    if streamed:
        audio = np.concatenate(
            [chunk.audio for chunk in stream_speech(engine, in_three_pieces(), {}, on_progress=reported.append)]
        )
    else:
        audio = speak(engine, in_three_pieces(), {}, on_progress=reported.append).audio
    assert all(
        before.share <= after.share and before.audio_seconds <= after.audio_seconds
        for before, after in pairwise(reported)
    )
    assert reported[-1].share == 1.0
    assert reported[-1].audio_seconds == pytest.approx(len(audio) / 24_000, abs=0.001)
    ends_of_pieces = [progress.share for progress in reported if progress.share in (1 / 3, 2 / 3)]
    assert len(ends_of_pieces) >= 2


# --- streaming ---


def test_streamed_chunks_joined_are_the_whole(engine: HiggsAudioEngine, three_pieces: SpeechResult) -> None:
    whole = three_pieces
    chunks = list(stream_speech(engine, in_three_pieces(), {}))
    assert len(chunks) > 4
    assert all(len(chunk.audio) for chunk in chunks[:-1])
    assert [chunk.start_sample for chunk in chunks] == [
        0,
        *np.cumsum([len(chunk.audio) for chunk in chunks[:-1]]).tolist(),
    ]
    assert np.allclose(np.concatenate([chunk.audio for chunk in chunks]), whole.audio, atol=1e-5)
    assert [chunk.result is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    result = chunks[-1].result
    assert result is not None
    assert same(result.audio_codes, whole.audio_codes)
    assert np.allclose(result.audio, whole.audio, atol=1e-5)
    assert (result.pieces, result.seed, result.finish_reason) == (whole.pieces, whole.seed, whole.finish_reason)
    assert result.usage["completion_tokens"] == whole.usage["completion_tokens"]


# --- cancellation ---


def test_a_request_cancelled_before_it_starts_is_not_spoken(engine: HiggsAudioEngine) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(GenerationCancelled):
        speak(engine, request(), {}, cancel=cancel)
    with pytest.raises(GenerationCancelled):
        next(stream_speech(engine, request(), {}, cancel=cancel))
    wait_until(lambda: is_idle(engine))


def test_cancelling_in_mid_speech_frees_the_slot(engine: HiggsAudioEngine) -> None:
    cancel = CancelToken()
    reported: list[Progress] = []

    def stop(progress: Progress) -> None:
        reported.append(progress)
        cancel.cancel()

    with pytest.raises(GenerationCancelled):
        speak(engine, endless(), {}, cancel=cancel, on_progress=stop)
    assert len(reported) <= 2
    wait_until(lambda: is_idle(engine))


def test_a_progress_callback_that_fails_frees_the_slot(engine: HiggsAudioEngine) -> None:
    def fail(_: Progress) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        speak(engine, endless(), {}, on_progress=fail)
    wait_until(lambda: is_idle(engine))


def test_a_stream_that_is_closed_frees_the_slot(engine: HiggsAudioEngine) -> None:
    chunks = stream_speech(engine, endless(), {}, cancel=CancelToken())
    first = next(chunks)
    assert isinstance(first, SpeechChunk)
    chunks.close()  # type: ignore[attr-defined]
    wait_until(lambda: is_idle(engine))


def test_a_stream_cancelled_from_another_thread_stops(engine: HiggsAudioEngine) -> None:
    cancel = CancelToken()
    chunks = stream_speech(engine, endless(), {}, cancel=cancel)
    next(chunks)
    threading.Thread(target=cancel.cancel).start()
    with pytest.raises(GenerationCancelled):
        for _ in chunks:
            pass
    wait_until(lambda: is_idle(engine))


@pytest.mark.parametrize("streamed", [False, True])
def test_cancelling_reaches_a_request_that_still_waits_for_a_slot(engine: HiggsAudioEngine, streamed: bool) -> None:
    """The thread that waits has nothing to read then; it must not sleep until a slot is free."""
    until = CancelToken()

    def occupy() -> None:
        with pytest.raises(GenerationCancelled):
            speak(engine, endless(), {}, cancel=until)

    occupants = [threading.Thread(target=occupy) for _ in range(engine.max_batch_size)]
    for occupant in occupants:
        occupant.start()
    wait_until(lambda: engine.stats()["active"] == engine.max_batch_size)
    cancel = CancelToken()
    ended = threading.Event()

    def wait_in_line() -> None:
        work = stream_speech if streamed else speak
        with pytest.raises(GenerationCancelled):
            list(work(engine, endless(), {}, cancel=cancel))  # type: ignore[call-overload]
        ended.set()

    waiting = threading.Thread(target=wait_in_line)
    waiting.start()
    wait_until(lambda: engine.stats()["waiting"] > 0)
    cancel.cancel()
    assert ended.wait(PATIENCE)
    until.cancel()
    for thread in (*occupants, waiting):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    wait_until(lambda: is_idle(engine))


def test_no_thread_stays_behind(engine: HiggsAudioEngine) -> None:
    before = threading.active_count()
    list(stream_speech(engine, request(), {}, cancel=CancelToken()))
    wait_until(lambda: threading.active_count() <= before)
