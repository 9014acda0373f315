"""How long a text may take: words of any script, numbers, abbreviations and sounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from higgs_core.text.speech_length import SpeechLength, speech_length, spoken_words, timed_words, words_that_fit

INSTRUCTION = "<|generation_instruction_start|>\nSay it twice.\n<|generation_instruction_end|>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("Hello there, you two.", 4),
        ("Don't — it's o'clock…", 3),
        ("internationalisation", 2.5),
        ("你好世界", 2),
        ("你好 world", 2),
        ("東京タワー", 2.5),
        ("สวัสดีครับผม", 3),
        ("안녕하세요 반갑습니다", 10 / 3),
        ("नमस्ते दुनिया", 2),
        ("7", 1.5),
        ("2026", 6),
        ("1,234,567", 10.5),
        ("$45.99", 7),
        ("50 %", 4),
        ("NASA", 2),
        ("I am", 2),
        ("R&D", 3),
        ("[SPEAKER0] Hello.", 1),
        (f"{INSTRUCTION}\nHello.", 1),
        ("Ha <SE>[Laughter]</SE> ha", 2),
        ("... !? --", 0),
    ],
)
def test_everything_is_counted_by_what_it_takes_to_say(text: str, words: float) -> None:
    assert spoken_words(text) == pytest.approx(words)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("Hello.", SpeechLength(2, 100)),
        ("word " * 100, SpeechLength(250, 2575)),
        ("Population: 8,000,000,000.", SpeechLength(5, 482)),
        ("$45.99 & NASA", SpeechLength(5, 325)),
        ("...", SpeechLength(0, 100)),
        ("Ha. <SE>[Laughter]</SE>", SpeechLength(2, 200)),
        ("<SE_s>[Music]</SE_s> La la. <SE_e>[Music]</SE_e>", SpeechLength(5, 375)),
        ("", None),
        (" \n", None),
        (INSTRUCTION, None),
        (f"{INSTRUCTION} Hello.", SpeechLength(2, 100)),
    ],
)
def test_the_bounds_leave_room_and_know_when_nothing_is_told(text: str, length: SpeechLength | None) -> None:
    assert speech_length(text) == length


def test_sounds_take_their_share_of_a_piece() -> None:
    assert timed_words("Ha. <SE>[Laughter]</SE>") == 1 + 4
    assert timed_words("<SE>[Applause]</SE>") == 10


@pytest.mark.parametrize(
    ("columns", "words"), [(1, 10), (325, 10), (349, 10), (350, 11), (1024, 37), (2574, 99), (2575, 100), (8192, 100)]
)
def test_a_piece_holds_the_words_that_the_slowest_voice_speaks_in_its_steps(columns: int, words: int) -> None:
    assert words_that_fit(columns, at_least=10) == words
    length = speech_length("word " * words)
    assert length is not None
    assert columns < 325 or length.most <= columns


@pytest.mark.parametrize(
    ("columns", "at_most", "words"), [(8192, 25, 25), (700, 25, 25), (675, 25, 24), (1, 25, 10), (1, 3, 3)]
)
def test_a_checkpoints_own_most_wins_over_every_other_bound(columns: int, at_most: int, words: int) -> None:
    assert words_that_fit(columns, at_least=10, at_most=at_most) == words


@given(st.text(max_size=300))
def test_any_text_has_bounds_in_order(text: str) -> None:
    length = speech_length(text)
    assert length is None or 0 <= length.least < length.most


@given(st.text(max_size=100), st.text(max_size=100))
def test_more_text_never_takes_less(first: str, second: str) -> None:
    assert spoken_words(f"{first}\n{second}") >= max(spoken_words(first), spoken_words(second)) - 1e-9 or "<" in first
