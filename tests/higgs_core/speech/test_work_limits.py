"""What a script asks for is added up before anything is generated, and refused with its numbers if it is too much."""

from __future__ import annotations

from typing import Any

import pytest

from higgs_core.errors import RequestError
from higgs_core.params import GenerationParams
from higgs_core.speech.plan import SpeechPlan, check_text, plan_speech
from higgs_core.speech.request import RequestMessage, SpeechRequest
from higgs_core.speech.work_limits import WorkLimits
from higgs_core.text.normalize import EVENT_TAGS, normalize
from tests.helpers.pieces import count_bytes

LIMITS = WorkLimits(characters=20_000, pieces=512, audio_seconds=7_200)


def request_of(script: str, limits: WorkLimits | None = LIMITS, **fields: Any) -> SpeechRequest:
    return SpeechRequest(script=script, limits=limits, **fields)


def planned(request: SpeechRequest) -> SpeechPlan:
    return plan_speech(request, {}, 8192, count_bytes)


def refused(request: SpeechRequest) -> RequestError:
    """The error of the plan, which is also that of the look at the text alone."""
    with pytest.raises(RequestError) as alone:
        check_text(request, 8192)
    with pytest.raises(RequestError) as caught:
        planned(request)
    assert caught.value.message == alone.value.message
    assert caught.value.field == "script"
    assert caught.value.hint
    return caught.value


def test_a_piece_for_every_word_is_too_many_pieces() -> None:
    error = refused(request_of("a " * 10_000, chunk_method="word", chunk_max_word_num=1))
    assert error.message == "script makes 10000 pieces; allowed is at most 512."
    assert "chunk_max_word_num" in (error.hint or "")


def test_a_piece_for_every_turn_is_too_many_pieces() -> None:
    script = "\n".join(f"[SPEAKER{at % 2}] Hi." for at in range(513))
    assert refused(request_of(script, chunk_method="speaker")).message.startswith("script makes 513 pieces")


def test_as_many_pieces_as_allowed_are_planned() -> None:
    words = "word " * 512
    assert len(planned(request_of(words, chunk_method="word", chunk_max_word_num=1)).pieces) == 512


@pytest.mark.parametrize("unit", ["°F", "°C", "…", "，", *EVENT_TAGS])
def test_text_that_the_rules_make_much_longer_is_measured_again(unit: str) -> None:
    """Each rule that writes more than it reads, over and over."""
    script = unit * (LIMITS.characters // len(unit))
    long = len(normalize(script))
    if long > LIMITS.characters * 1.25 + 16:
        error = refused(request_of(script))
        assert f"{len(script)} characters long and {long} after normalize; allowed is at most 25016" in error.message
        assert "normalize: false" in (error.hint or "")
    else:
        assert unit in {"[humming end]", "[humming start]"}  # which become hardly any longer


def test_ordinary_text_at_the_limit_is_taken_whatever_its_punctuation() -> None:
    chinese = "今天天气很好，我们去公园。" * (20_000 // 13)
    assert len(normalize(chinese)) > LIMITS.characters
    assert planned(request_of(chinese)).pieces
    assert planned(request_of("a" * 20_000)).pieces  # gets a full stop


def test_the_rules_are_not_applied_where_they_are_off() -> None:
    limits = WorkLimits(20_000, 512, 86_400)
    assert planned(request_of("°F" * 5_000, limits, normalize=False)).pieces


def test_speech_of_hours_is_refused_by_its_length() -> None:
    error = refused(request_of("1" * 20_000, params=GenerationParams(max_new_tokens=2600)))
    assert error.message == "script takes about 12000 s to speak; allowed is at most 7200 s."


def test_steps_that_the_client_bounds_make_no_hours() -> None:
    """The caps of the pieces count where they are below what the words would take."""
    few = GenerationParams(max_new_tokens=100)
    request = request_of("1" * 14_000, params=few, cap_follows_text=False, chunk_max_word_num=90)
    assert planned(request).pieces


def test_sounds_count_as_speech() -> None:
    limits = WorkLimits(20_000, 512, 60)
    assert refused(request_of("[music] " * 100, limits)).message.startswith("script takes about 400 s")


def test_a_caller_without_limits_has_none() -> None:
    assert len(planned(request_of("a " * 600, None, chunk_method="word", chunk_max_word_num=1)).pieces) == 600


def test_messages_are_one_piece_and_pass() -> None:
    request = SpeechRequest(messages=(RequestMessage("user", ()),), limits=WorkLimits(1, 1, 1))
    check_text(request, 8192)
    assert len(planned(request).pieces) == 1


def test_numbers_as_words_are_what_is_spoken_and_measured() -> None:
    plan = planned(request_of("[SPEAKER1] At 20 °C it costs $5.", normalize_numbers="en"))
    assert [piece.text for piece in plan.pieces] == ["[SPEAKER1] At twenty degrees Celsius it costs five dollars."]
    assert planned(request_of("5 km")).pieces[0].text == "5 km."
    error = refused(request_of("777777777 " * 2_000, normalize_numbers="en"))
    assert "20000 characters long and " in error.message
    assert "no normalize_numbers" in (error.hint or "")
