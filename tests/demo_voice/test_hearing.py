"""What the demo voice says is heard: through the queue's handler into a speech recogniser."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from higgs_core.built_in import DEMO
from scripts.demo_voice import held_out
from scripts.demo_voice.judge import Judge
from scripts.demo_voice.scoring import normalised, right_words, word_error_rate
from tests.helpers.audio import audio_of, decoded
from tests.helpers.demo_worker import DemoWorker, Output, demo_worker
from tests.helpers.pitch import median_pitch

RATE = 24_000
MOST_ERRORS = 0.25
"""Errors a word, over sentences that were not trained on."""
HEARD_OF_A_SENTENCE = 0.5
"""The part of a sentence's words that shows that it was not left out."""
SECONDS_A_WORD = (0.15, 0.6)
SECONDS_AROUND = 0.8
"""Silence before and after, and what short sentences take longer."""
LOW_TAG, HIGH_TAG = "SPEAKER1", "SPEAKER0"
BETWEEN_LOW_AND_HIGH = 160
"""Hz."""
TEXTS = held_out.for_ci()


@pytest.fixture(scope="module")
def worker() -> Iterator[DemoWorker]:
    with demo_worker() as running:
        yield running


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge("default")


@pytest.fixture(scope="module")
def domain_judge() -> Judge:
    return Judge("domain")


def job(text: str, **fields: Any) -> Output:
    return {"script": text, "seed": 1, "return_audio_tokens": True, **fields}


@pytest.fixture(scope="module")
def spoken(worker: DemoWorker) -> list[Output]:
    """The sentences for CI, all asked for at once: eight are spoken together."""
    return worker.speak_together([job(text) for text in TEXTS])


def test_held_out_sentences_are_understood(spoken: list[Output], judge: Judge, domain_judge: Judge) -> None:
    heard = [(domain_judge if at < 6 else judge).hear(audio_of(output), RATE) for at, output in enumerate(spoken)]
    assert word_error_rate(zip(TEXTS, heard, strict=True)) <= MOST_ERRORS, list(zip(TEXTS, heard, strict=True))


def test_speech_stops_where_the_text_does(spoken: list[Output]) -> None:
    for text, output in zip(TEXTS, spoken, strict=True):
        words = len(normalised(text))
        shortest, longest = (words * seconds for seconds in SECONDS_A_WORD)
        assert output["finish_reason"] == "stop", text
        assert output["warnings"] == [DEMO.notice], text  # nothing was found wrong with it
        assert shortest <= output["duration_seconds"] <= longest + SECONDS_AROUND, text


@pytest.mark.parametrize("at", [0, 8])
def test_a_seed_gives_the_same_codes_alone_and_among_others(worker: DemoWorker, spoken: list[Output], at: int) -> None:
    alone = worker.speak(**job(TEXTS[at]))
    assert alone["generated_audio_tokens"] == spoken[at]["generated_audio_tokens"]
    assert alone["audio_base64"] == spoken[at]["audio_base64"]


def test_a_stream_is_the_whole(worker: DemoWorker, spoken: list[Output]) -> None:
    """To a step of 16 bits: a part's samples and the whole's are sums in another order."""
    *parts, final = worker.stream(**job(TEXTS[6], response_format="pcm"))
    streamed = decoded(b"".join(base64.b64decode(part["audio_base64"]) for part in parts), "pcm")
    assert len(parts) > 1
    assert final["generated_audio_tokens"] == spoken[6]["generated_audio_tokens"]
    np.testing.assert_allclose(streamed, audio_of(spoken[6]), atol=1 / 32768)


def test_no_sentence_of_a_long_text_is_left_out(worker: DemoWorker, judge: Judge) -> None:
    text = held_out.long_texts()[1]
    output = worker.speak(**job(text))
    assert len(output["chunks"]) > 1
    assert output["warnings"] == [DEMO.notice]
    sentences = [normalised(sentence) for sentence in held_out.sentences_of(text)]
    heard = normalised(" ".join(judge.hear(audio_of(output), RATE)))
    right = iter(right_words([word for sentence in sentences for word in sentence], heard))
    for sentence in sentences:
        assert sum(next(right) for _ in sentence) >= HEARD_OF_A_SENTENCE * len(sentence), (sentence, heard)


def test_speech_is_still_understood_after_another_way_through_the_codec(
    worker: DemoWorker, spoken: list[Output], domain_judge: Judge
) -> None:
    codec = worker.engine._codec
    assert codec is not None
    codes = [codec.encode(audio_of(output)).result() for output in spoken[:4]]
    heard = [domain_judge.hear(codec.decode(clip.numpy()).result(), RATE) for clip in codes]
    assert word_error_rate(zip(TEXTS[:4], heard, strict=True)) <= MOST_ERRORS, heard


def test_trimming_takes_no_word(worker: DemoWorker, spoken: list[Output], domain_judge: Judge) -> None:
    untrimmed = worker.speak(**job(TEXTS[1], trim=False))
    assert spoken[1]["duration_seconds"] <= untrimmed["duration_seconds"]
    assert domain_judge.hear(audio_of(spoken[1]), RATE) == domain_judge.hear(audio_of(untrimmed), RATE)


def test_faster_speech_is_understood(worker: DemoWorker, spoken: list[Output], domain_judge: Judge) -> None:
    faster = [worker.speak(**job(text, speed=1.25)) for text in TEXTS[:3]]
    for output, usual in zip(faster, spoken, strict=False):
        assert output["duration_seconds"] == pytest.approx(usual["duration_seconds"] / 1.25, rel=0.05)
    heard = [domain_judge.hear(audio_of(output), RATE) for output in faster]
    assert word_error_rate(zip(TEXTS[:3], heard, strict=True)) <= MOST_ERRORS, heard


@pytest.mark.parametrize(
    "text",
    ["42", "A", "1,000,000% (really?!) #1...", "Xyzzq wrtlbrmpft.", "日本語です。", "[laugh] WOW — no! 😀", "é" * 40],
)
def test_nothing_that_is_written_keeps_it_from_stopping(worker: DemoWorker, text: str) -> None:
    output = worker.speak(**job(text))
    assert output["finish_reason"] == "stop"
    assert 0 < output["duration_seconds"] < 12


@pytest.fixture(scope="module")
def two_voices(worker: DemoWorker) -> list[Output]:
    """The same sentence by the low and the high voice, which a speaker's tag asks for."""
    return worker.speak_together([job(f"[{tag}] {TEXTS[0]}") for tag in (LOW_TAG, HIGH_TAG)])


def test_a_speakers_tag_chooses_the_voice(two_voices: list[Output]) -> None:
    low, high = (median_pitch(audio_of(output)) for output in two_voices)
    assert low < BETWEEN_LOW_AND_HIGH < high


def test_speakers_of_one_script_have_their_voices(worker: DemoWorker, judge: Judge) -> None:
    """Two turns in one piece: nothing of the second is left out, and it is spoken by the other voice."""
    script = f"[{HIGH_TAG}] {TEXTS[6]}\n[{LOW_TAG}] {TEXTS[7]}"
    output = worker.speak(**job(script))
    audio = audio_of(output)
    third = len(audio) // 3
    first, last = median_pitch(audio[:third]), median_pitch(audio[-third:])
    assert last < BETWEEN_LOW_AND_HIGH < first
    heard = judge.hear(audio, RATE)
    assert word_error_rate([(f"{TEXTS[6]} {TEXTS[7]}", heard)]) <= 2 * MOST_ERRORS, heard


def test_a_reference_clip_chooses_the_voice(worker: DemoWorker, two_voices: list[Output]) -> None:
    clips = [{"audio_base64": output["audio_base64"], "transcript": TEXTS[0]} for output in two_voices]
    cloned = worker.speak_together([job(TEXTS[7], references=[clip]) for clip in clips])
    low, high = (median_pitch(audio_of(output)) for output in cloned)
    assert low < BETWEEN_LOW_AND_HIGH < high
