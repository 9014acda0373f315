"""Stop strings end generation at the first token that completes one, however the text was cut into tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.params import DEFAULT_STOP_STRINGS
from higgs_core.prompt.stop_strings import ends_text
from higgs_core.prompt.tokenizer import HiggsTokenizer
from tests.golden import CASES

TOKENIZER = HiggsTokenizer.from_folder(str(CASES[0].folder))  # a token is a byte, or a control token
CONTROL = TOKENIZER.control


def stopped_at(ids: list[int], stop_strings: tuple[str, ...]) -> int | None:
    """How many tokens had been written when generation stopped, as the runtime asks after each of them."""
    return next((n for n in range(1, len(ids) + 1) if ends_text(ids[:n], stop_strings, TOKENIZER)), None)


def encoded(text: str) -> list[int]:
    return TOKENIZER.encode(text)


def test_the_default_stop_strings_are_control_tokens_written_by_the_model() -> None:
    words = encoded("Hello.")
    assert stopped_at([*words, CONTROL.end_of_turn, *words], DEFAULT_STOP_STRINGS) == len(words) + 1
    assert (
        stopped_at([*words, CONTROL.audio_out_bos, CONTROL.audio_out, CONTROL.audio_eos], DEFAULT_STOP_STRINGS) is None
    )


def test_a_control_token_spelled_in_plain_tokens_stops_too() -> None:
    ids = encoded("a<|eot_id|>b")
    assert stopped_at(ids, DEFAULT_STOP_STRINGS) == len("a<|eot_id|>")


@pytest.mark.parametrize("stop", ["STOP", "\n\n", "é", "日本", "🙂", "x"])
def test_a_stop_string_over_several_tokens_stops_at_its_last_byte(stop: str) -> None:
    before = encoded("some words before, ")
    ids = [*before, *encoded(stop), *encoded(" and after")]
    assert stopped_at(ids, ("never seen", stop)) == len(before) + len(stop.encode())


def test_the_beginning_of_a_stop_string_does_not_stop() -> None:
    assert stopped_at(encoded("<|eot_id|> without its end: <|eot_id|"), ("<|eot_id|>!",)) is None
    assert stopped_at(encoded("STO P"), ("STOP",)) is None


def test_no_stop_strings_never_stop() -> None:
    assert stopped_at([CONTROL.end_of_turn] * 5, ()) is None


def test_a_stop_string_is_seen_behind_any_amount_of_text() -> None:
    """Only the tail is looked at, which must still be long enough for characters of four bytes."""
    stop = "🙂" * 20
    for before in (0, 1, 79, 80, 81, 500):
        ids = [*encoded("b" * before), *encoded(stop)]
        assert ends_text(ids, (stop,), TOKENIZER)
        assert not ends_text(ids[:-1], (stop,), TOKENIZER)


def test_a_stop_string_may_join_words_and_a_control_token() -> None:
    ids = [*encoded("Bye"), CONTROL.audio_eos]
    assert stopped_at(ids, ("ye<|audio_eos|>",)) == len(ids)


@given(
    ids=st.lists(st.sampled_from([*encoded("ab é🙂<|>"), CONTROL.end_of_turn, CONTROL.audio_eos]), max_size=60),
    stops=st.lists(st.text("ab é🙂<|>", min_size=1, max_size=3), min_size=1, max_size=3),
)
@settings(max_examples=150)
def test_stopping_comes_where_the_whole_text_first_holds_a_stop_string(ids: list[int], stops: list[str]) -> None:
    whole = next(
        (n for n in range(1, len(ids) + 1) if any(stop in TOKENIZER.decode(ids[:n]) for stop in stops)),
        None,
    )
    assert stopped_at(ids, tuple(stops)) == whole
