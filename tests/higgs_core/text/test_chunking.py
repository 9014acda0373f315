"""Pieces of long text. Whatever the method: nothing lost, nothing moved, nothing too long that could be cut."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.errors import RequestError
from higgs_core.text.chunking import ChunkMethod, count_words, cut
from higgs_core.text.normalize import normalize
from higgs_core.text.speech_length import timed_words

METHODS: tuple[ChunkMethod, ...] = ("auto", "none", "word", "sentence", "speaker")

WORDS = st.one_of(
    st.sampled_from(["Hello", "world.", "Dr.", "really?", '"Yes!"', "no,", "-", "3.14", "U.S.", "(so)", "...", "«é»"]),
    st.sampled_from(["[SPEAKER0]", "[SPEAKER1]Hi", "<SE>[Laughter]</SE>", "สวัสดีครับ"]),
    st.sampled_from(["你好.", "我们去吧,", "「走」", "カタカナ。", "in(你", "「", "好吗？OK", "。", "３"]),
    st.sampled_from(
        ["كيف حالك؟", "नमस्ते।", "क्ष" * 40, "한국어.", "เที่ยวน้ำตก", "e\u0301", "👩\u200d💻", "\u200b", "\u00a0"]
    ),
    st.sampled_from(
        ["« Oui »", "„Ja.“", "»Ja«", "«", "¿Qué?", "No. 5", "am 3.", "etc.", "x" * 300, "Ⅳ", "\u202eabc\u202c"]
    ),
)
LINES = WORDS | st.just("\n")
SCRIPTS = st.text(max_size=120) | st.lists(LINES, max_size=60).map(" ".join) | st.lists(LINES, max_size=30).map("".join)


def without_space(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=300)
@given(SCRIPTS, st.sampled_from(METHODS), st.integers(1, 30), st.integers(1, 4))
def test_no_character_is_lost_or_moved(script: str, method: ChunkMethod, max_words: int, max_turns: int) -> None:
    pieces = cut(script, method, max_words, max_turns)
    assert without_space("".join(pieces)) == without_space(script)
    assert len(pieces) == 1 or all(piece and piece == piece.strip() for piece in pieces)


@settings(max_examples=200)
@given(st.lists(st.from_regex(r"\A[a-zé0-9']{1,12}[.,!?;:]?\Z"), min_size=1, max_size=80), st.sampled_from(METHODS))
def test_no_word_is_cut_in_two_and_no_piece_is_too_long(words: list[str], method: ChunkMethod) -> None:
    pieces = cut(" ".join(words), method, 7)
    assert [word for piece in pieces for word in piece.split()] == words
    assert method == "none" or max(count_words(piece) for piece in pieces) <= 7


@given(SCRIPTS, st.sampled_from(["auto", "none", "word", "sentence"]))
def test_a_short_script_is_one_piece_verbatim(script: str, method: ChunkMethod) -> None:
    assert cut(script, method, 500) == [script]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_whole_sentences_make_the_fewest_and_then_the_most_even_pieces(lengths: list[int]) -> None:
    pieces = cut(" ".join(["w " * (length - 1) + "end." for length in lengths]), "sentence", 6)
    splits = [
        [sum(lengths[a:b]) for a, b in pairwise((0, *inner, len(lengths)))]
        for count in range(len(lengths))
        for inner in combinations(range(1, len(lengths)), count)
    ]
    assert min((len(split), max(split)) for split in splits if max(split) <= 6) == (
        len(pieces),
        max(len(piece.split()) for piece in pieces),
    )


LONG_RUNS = st.lists(
    st.sampled_from(["สวัสดี", "ครับ", "ក្រុង", "7", "a", "<SE>[Laughter]</SE>", "é", "👩\u200d🚀", "。", "好"]),
    min_size=1,
    max_size=120,
).map("".join)


@settings(max_examples=150)
@given(LONG_RUNS, st.integers(10, 30))
def test_a_run_that_is_too_long_by_itself_is_cut_between_characters(script: str, most: int) -> None:
    pieces = cut(script, "auto", most, measure=timed_words, inside_words=True)
    assert "".join(pieces) == script
    assert max(map(timed_words, pieces)) <= most
    for piece in pieces[1:]:
        assert not unicodedata.category(piece[0]).startswith("M")
        assert piece[0] != "\u200d"
    assert all(piece.count("<SE>") == piece.count("</SE>") for piece in pieces)


@pytest.mark.parametrize("character", ["7", "ส", "<SE>[Cough]</SE>"])
def test_a_run_of_any_length_is_cut_in_nearly_linear_time(character: str) -> None:
    """How long is not asserted: in quadratic time this would not end."""
    pieces = cut(character * (400_000 // len(character)), "auto", 100, measure=timed_words, inside_words=True)
    assert max(map(timed_words, pieces)) <= 100


def test_sentences_share_the_words_evenly() -> None:
    script = " ".join(["One two three four five."] * 21)  # 105 words
    pieces = cut(script, "auto", 100)
    assert [len(piece.split()) for piece in pieces] == [55, 50]
    assert all(piece.endswith("five.") for piece in pieces)


def test_words_fill_each_piece() -> None:
    pieces = cut(" ".join(map(str, range(25))), "word", 10)
    assert [len(piece.split()) for piece in pieces] == [10, 10, 5]


def test_a_sentence_that_is_too_long_is_cut_at_commas_then_between_words() -> None:
    script = "one two three four, five six seven, eight nine ten eleven twelve thirteen fourteen fifteen. End here."
    assert cut(script, "sentence", 7) == [
        "one two three four, five six seven,",
        "eight nine ten eleven",
        "twelve thirteen fourteen fifteen. End here.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "I met Dr. Smith and Mrs. Jones there.",
        "She lives in the U.S. Army base nearby.",
        "J. R. R. Tolkien wrote many long books.",
        "Pi is 3.14159 and e is 2.718 roughly.",
        "It costs approx. five dollars per single piece.",
        "See example.com for all of the details.",
    ],
)
def test_a_full_stop_inside_a_sentence_is_no_cut(sentence: str) -> None:
    assert cut(f"{sentence} {sentence}", "sentence", 8) == [sentence, sentence]


def test_quotes_and_brackets_stay_with_their_sentence() -> None:
    assert cut('He said "Stop!" She did (at once.) They left.', "sentence", 4) == [
        'He said "Stop!"',
        "She did (at once.)",
        "They left.",
    ]


def test_a_line_end_is_a_place_to_cut() -> None:
    assert cut("a b c\nd e f\ng h i", "sentence", 4) == ["a b c", "d e f", "g h i"]


def test_loose_punctuation_never_opens_a_piece() -> None:
    assert cut("one two - three four ... five six !", "word", 2) == ["one two -", "three four ...", "five six !"]


def test_chinese_is_counted_by_character_and_cut_after_its_sentences() -> None:
    sentence = normalize("今天天气很好，我们一起去公园散步吧。")  # 16 characters, 8 words
    assert count_words(sentence) == 8
    pieces = cut(sentence * 30, "auto", 100)
    assert len(pieces) == 3
    assert all(piece.endswith("吧.") and count_words(piece) <= 100 for piece in pieces)


def test_chinese_without_punctuation_is_cut_between_characters() -> None:
    pieces = cut("天" * 1000, "auto", 100)
    assert [len(piece) for piece in pieces] == [200] * 5


def test_words_inside_chinese_are_not_cut() -> None:
    pieces = cut("我在Google工作" * 20, "word", 3)
    assert all("Google" in piece or "oogl" not in piece for piece in pieces)
    assert "".join(pieces) == "我在Google工作" * 20


def test_a_chinese_closing_mark_stays_with_its_character() -> None:
    assert not any(piece[0] in ",.」》!" for piece in cut("你好,世界.「再见」!《书》" * 9, "word", 1))


def test_thai_is_counted_by_character_and_cut_at_spaces() -> None:
    phrase = "สวัสดีครับวันนี้อากาศดี"
    assert 4 < count_words(phrase) < 8
    assert set(cut(" ".join([phrase] * 10), "auto", 6)) == {phrase}


DIALOGUE = "[SPEAKER0] Good morning. How are you?\n[SPEAKER1] Fine, thanks.\n[SPEAKER0] Good. [SPEAKER1] And you?"


def test_turns_are_cut_at_their_tags() -> None:
    assert cut(DIALOGUE, "speaker") == [
        "[SPEAKER0] Good morning. How are you?",
        "[SPEAKER1] Fine, thanks.",
        "[SPEAKER0] Good.",
        "[SPEAKER1] And you?",
    ]


def test_several_turns_share_a_piece_when_asked() -> None:
    assert cut(DIALOGUE, "speaker", max_turns=3) == [
        "[SPEAKER0] Good morning. How are you?\n[SPEAKER1] Fine, thanks.\n[SPEAKER0] Good.",
        "[SPEAKER1] And you?",
    ]


def test_words_before_the_first_tag_are_a_turn() -> None:
    assert cut("Once.\n[SPEAKER0] Hi.", "speaker") == ["Once.", "[SPEAKER0] Hi."]


def test_a_short_dialogue_is_one_piece_unless_turns_are_asked_for() -> None:
    assert cut(DIALOGUE, "auto") == [DIALOGUE]


def test_a_long_dialogue_is_cut_between_turns_only() -> None:
    script = "\n".join(f"[SPEAKER{at % 2}] This is turn {at}. It has two sentences." for at in range(40))  # 320 words
    pieces = cut(script, "auto", 100)
    assert len(pieces) == 4
    assert all(piece.startswith("[SPEAKER") and piece.endswith("sentences.") for piece in pieces)


def test_a_turn_that_is_too_long_is_cut_at_its_sentences() -> None:
    turn = "[SPEAKER1] " + " ".join(["Here are four words."] * 10)
    pieces = cut(f"[SPEAKER0] Go on.\n{turn}", "speaker", 20)
    assert pieces[0] == "[SPEAKER0] Go on."
    assert [len(re.findall("Here", piece)) for piece in pieces] == [0, 5, 5]


@given(st.lists(st.sampled_from(["[SPEAKER0]", "[SPEAKER1]", "word"]), min_size=2, max_size=40), st.integers(1, 5))
def test_a_tag_is_never_parted_from_its_words(tokens: list[str], max_words: int) -> None:
    pieces = cut(" ".join([*tokens, "end"]), "word", max_words)
    assert not any(piece.endswith("]") for piece in pieces)


@pytest.mark.parametrize("flood", ["1", "(", "a.", "[SPEAKER0]", "[SPEAKER", "好「", '"', ". ", "「", "a, "])
def test_a_flood_is_answered(flood: str) -> None:
    """A quadratic rule would take minutes here."""
    script = flood * 50_000
    assert without_space("".join(cut(script, "auto", 100))) == without_space(script)


@pytest.mark.parametrize(("field", "bounds"), [("chunk_max_word_num", (0, 1)), ("chunk_max_num_turns", (10, 0))])
def test_a_bound_below_one_is_refused_by_name(field: str, bounds: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=f"{field} is 0") as caught:
        cut("Hello.", "word", *bounds)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("script", "pieces"),
    [
        ("Look here. It is in No. 5 there.", ["Look here.", "It is in No. 5 there."]),
        ("Sieh her. Er kam am 3. Oktober an.", ["Sieh her.", "Er kam am 3. Oktober an."]),
        ("Le voilà. Voici donc aussi Mme. Durand ici.", ["Le voilà.", "Voici donc aussi Mme. Durand ici."]),
        ("Il est déjà là. « Bonjour, mes amis ! »", ["Il est déjà là.", "« Bonjour, mes amis ! »"]),
        ("我们去吃饭吧好不好？OK我来了好吗？", ["我们去吃饭吧好不好？", "OK我来了好吗？"]),
        ("नमस्ते आप॥ मैं ठीक हूँ अभी भी आज॥", ["नमस्ते आप॥", "मैं ठीक हूँ अभी भी आज॥"]),
        ("ሰላም ለሁላችሁ። እንዴት ነህ ዛሬ ጠዋት እዚህ ደህና።", ["ሰላም ለሁላችሁ።", "እንዴት ነህ ዛሬ ጠዋት እዚህ ደህና።"]),
    ],
)
def test_sentences_end_where_their_script_ends_them(script: str, pieces: list[str]) -> None:
    assert cut(script, "sentence", 6) == pieces


def test_a_long_run_of_thai_is_cut_between_syllables() -> None:
    script = "เราไปเที่ยวน้ำตกและทะเลแล้วใช่ไหมโอ้ไม่ๆ" * 8
    for most in range(1, 6):
        pieces = cut(script, "word", most, inside_words=True)
        assert "".join(pieces) == script
        assert len(pieces) > 5
        assert not any(piece[0] in "ะาำๆ" or piece[-1] in "เแโใไ" for piece in pieces)
