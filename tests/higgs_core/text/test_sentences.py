"""Sentences of a text that is still being written, whatever pieces it comes in."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.text import sentences
from higgs_core.text.markup import INSTRUCTION_END, INSTRUCTION_START
from higgs_core.text.sentences import MARKUP_CHARACTERS, MAX_CHARACTERS, SentenceCutter
from higgs_core.text.speaker_tags import TAG
from higgs_core.text.speech_length import spoken_words

PARTS = st.sampled_from(
    [
        *("Hello ", "world. ", "It is late", ", ", "; ", ": ", "... ", "… ", "? ", "! ", ".", '"', "”", ") ", "(", "—"),
        *("Dr. ", "e.g. ", "etc. ", "3.14 ", "1,000 ", "U.S. ", "1. ", "2) ", "\n", "\n\n", " ", "  "),
        *("and then we go ", "I saw 2 of them"),
        *(
            "[laugh]",
            "[SPEAKER0] ",
            "[SPEAKER1]",
            "[pause 1.5s]",
            "【pause】",
            "[pau",
            "[",
            "]",
            "[not a tag. ",
            "<SE>[Laughter]</SE>",
            "<",
        ),
        *("<SE>", "</SE>", f"{INSTRUCTION_START}Be loud. Now{INSTRUCTION_END}", INSTRUCTION_START, "a < b "),
        *("【pause】", "[pau", "你好", "。", "！", "，", "「走吧。」", "今天天气很好", "é"),
        *("e\u0301", "👩\u200d💻", "\ud83d", "\ude00", "x" * 150),
        *("كيف حالك؟ ", "नमस्ते। ", "क्ष" * 60, "เที่ยวน้ำตก" * 20, "ሰላም። ", "am 3. ", "No. 5 ", "« Oui » ", "\u00a0"),
    ]
)
TEXTS = st.lists(PARTS, max_size=60).map("".join) | st.text(max_size=200)


def cut(*pieces: str) -> list[str]:
    cutter = SentenceCutter()
    return [sentence for piece in pieces for sentence in cutter.feed(piece)] + cutter.flush()


def paired(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@settings(max_examples=600)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=40))
def test_any_division_gives_the_same_sentences(text: str, places: list[int]) -> None:
    edges = [0, *sorted(place for place in places if place < len(text)), len(text)]
    whole = cut(text)
    assert cut(*(text[a:b] for a, b in pairwise(edges))) == whole
    assert cut(*text) == whole


@pytest.mark.parametrize("markup", ["[laugh]", "[pause 1.5s]", "[SPEAKER0]", "<SE>[Laughter]</SE>", "x[pause 1ms]."])
@pytest.mark.parametrize("end", ["", "\u0301", "\u0301" * 20 + "a", " Words."])
def test_so_much_markup_that_it_is_cut_gives_the_same_sentences_however_it_comes(markup: str, end: str) -> None:
    """Markup may be longer than it counts, so that the place of the cut is the last that is known."""
    for count in range(18, 46):
        text = markup * count + end
        assert cut(*text) == cut(text)


@settings(max_examples=300)
@given(TEXTS)
def test_no_word_is_lost_or_moved(text: str) -> None:
    def letters(of: str) -> str:
        """But for tags, which the end of a text may lose."""
        words = re.sub(rf"{TAG.pattern}|\[pause 1\.5s\]", "", of)
        return "".join(character for character in words if character.isalnum())

    assert letters("".join(cut(text))) == letters(paired(text))


@settings(max_examples=300)
@given(TEXTS)
def test_no_tag_is_divided(text: str) -> None:
    markup = re.compile(rf"{TAG.pattern}|\[laugh\]|\[pause 1\.5s\]|<SE>\[Laughter\]</SE>")
    found = [match[0] for sentence in cut(text) for match in markup.finditer(sentence)]
    sent = [match[0] for match in markup.finditer(paired(text))]
    rest = sent[len(found) :]
    assert found == sent[: len(found)]
    assert all(tag.startswith("[SPEAKER") for tag in rest), "the end of a text without words"


@settings(max_examples=200)
@given(TEXTS)
def test_a_sentence_has_something_to_speak_and_a_bound(text: str) -> None:
    for sentence in cut(text):
        assert sentence == sentence.strip()
        assert any(character.isalnum() for character in sentence)
        assert len(sentence) < 1500


SENTENCES = [
    ("It is late now. We should go.", ["It is late now.", "We should go."]),
    ("Wir sahen „Dr. Müller“ und «M. Dupont». Er kam.", ["Wir sahen „Dr. Müller“ und «M. Dupont».", "Er kam."]),
    ("Dr. Smith met Mr. J. K. Jones at noon. They ate.", ["Dr. Smith met Mr. J. K. Jones at noon.", "They ate."]),
    ("It costs 3.14 dollars or so. Is that much?", ["It costs 3.14 dollars or so.", "Is that much?"]),
    ('"Will you come now?" he asked her. "Not yet today."', ['"Will you come now?" he asked her.', '"Not yet today."']),
    ("Well, I… do not know it. Really… Nobody knows.", ["Well, I… do not know it.", "Really… Nobody knows."]),
    ("I do not know... Perhaps he does.", ["I do not know...", "Perhaps he does."]),
    ("we use cats, dogs, etc. in this house. good.", ["we use cats, dogs,", "etc. in this house.", "good."]),
    ("this is all lower. and so is this one.", ["this is all lower.", "and so is this one."]),
    (
        "今天天气很好。我们去公园吧！「真的可以吗？」他问。",
        ["今天天气很好。", "我们去公园吧！", "「真的可以吗？」他问。"],
    ),
    ("He laughed. [laugh] That was it. Then he left us.", ["He laughed. [laugh] That was it.", "Then he left us."]),
    ("[SPEAKER0] Shall we? [SPEAKER1] After you.", ["[SPEAKER0] Shall we?", "[SPEAKER1] After you."]),
    ("Wait here now. [pause 1.5s] Now we go on.", ["Wait here now. [pause 1.5s]", "Now we go on."]),
    ("Wait here now. [pause 1.5s]", ["Wait here now. [pause 1.5s]"]),
    ("Wait here now. … [pause 1s]【pause】 [pause 1", ["Wait here now. … [pause 1s]【pause】", "[pause 1"]),
    ("Wait here now. [pause button]", ["Wait here now.", "[pause button]"]),
    ("Wait for me here, [pause] then we go.", ["Wait for me here, [pause]", "then we go."]),
    ("[pause 1.5s]", ["[pause 1.5s]"]),
    ("Here is my list:\n1. Eggs and milk\n2. Bread and butter\n", None),
    ("These lines are wrapped\nin the middle. So it goes.", ["These lines are wrapped\nin the middle.", "So it goes."]),
    ("The first paragraph here\n\nand a second one", ["The first paragraph here", "and a second one"]),
    ("Sure! I can do that for you.", ["Sure! I can do that for you."]),
    ("Yes. [laugh]", ["Yes. [laugh]"]),
    ("[laugh]", ["[laugh]"]),
    ("... \n\n !", []),
]


@pytest.mark.parametrize(("text", "expected"), SENTENCES, ids=[text[:20] for text, _ in SENTENCES])
def test_where_sentences_end(text: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = ["Here is my list:", "1. Eggs and milk", "2. Bread and butter"]
    assert cut(text) == expected


def test_a_sentence_comes_with_the_character_after_its_end() -> None:
    cutter = SentenceCutter()
    assert cutter.feed("It is late now.") == []
    assert cutter.feed(" ") == []
    assert cutter.feed("W") == ["It is late now."]


def test_chinese_comes_with_the_next_character_too() -> None:
    cutter = SentenceCutter()
    assert cutter.feed("今天天气很好。") == []
    assert cutter.feed("我") == ["今天天气很好。"]


def test_the_first_clause_comes_early_and_later_ones_are_longer() -> None:
    clause = "one two three four five, "
    words = [spoken_words(sentence) for sentence in cut(clause * 12 + "the end is here.")]
    assert words[:4] == [5, 10, 15, 15]
    assert cut("one two three, four five six.") == ["one two three, four five six."]


def test_after_a_flush_the_next_utterance_begins_as_early() -> None:
    cutter = SentenceCutter()
    first = [*cutter.feed("one two three four five, six seven, "), *cutter.flush()]
    assert [*cutter.feed("one two three four five, six seven, "), *cutter.flush()] == first
    assert first == ["one two three four five,", "six seven,"]


@pytest.mark.parametrize("text", ["word " * 400, "x" * 3000, "[laugh]" * 400, "你好" * 1000, "a, " + "b" * 5000])
def test_what_has_no_end_is_cut_by_its_length(text: str) -> None:
    cutter = SentenceCutter()
    given = cutter.feed(text)
    assert sum(map(len, given)) > len(text) // 2
    assert max(len(sentence) for sentence in given) <= MAX_CHARACTERS + MARKUP_CHARACTERS
    assert "".join("".join([*given, *cutter.flush()]).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "flood", ["[", "<", " ", "\n", ".", '"', "[a", "<SE>", INSTRUCTION_START, "\u0301", "\ud83d", "[pause]"]
)
def test_a_flood_is_kept_no_longer_than_its_bound(flood: str) -> None:
    cutter = SentenceCutter()
    for _ in range(3000):
        cutter.feed(flood)
        assert len(cutter._text) < 1500


def test_words_wait_for_the_end_of_a_tag_and_no_longer() -> None:
    cutter = SentenceCutter()
    assert cutter.feed("It is late now. [lau") == ["It is late now."]
    assert cutter.feed("gh") == []
    assert cutter.feed("] Now we go on. T") == ["[laugh] Now we go on."]


def test_a_sentence_waits_for_the_end_of_a_pause_behind_it_and_no_longer() -> None:
    cutter = SentenceCutter()
    assert cutter.feed("It is late now. [pau") == []
    assert cutter.feed("se 1.5s] ") == []
    assert cutter.feed("N") == ["It is late now. [pause 1.5s]"]
    assert cutter.feed("ow we go on. [pauses") == ["Now we go on."]


def test_a_cleared_text_is_forgotten() -> None:
    cutter = SentenceCutter()
    cutter.feed("It is late")
    cutter.clear()
    assert cutter.flush() == []


def test_the_work_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters whose words are counted, at two lengths of a text that comes one by one."""
    counted = 0
    real = spoken_words

    def counting(text: str) -> float:
        nonlocal counted
        counted += len(text)
        return real(text)

    monkeypatch.setattr(sentences, "spoken_words", counting)
    work = []
    for length in (4000, 8000):
        counted = 0
        cut(*("ab, c" * (length // 5)))
        work.append(counted)
    assert work[1] <= 2.1 * work[0]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Sie kam schon am 3. Oktober an. Das war spät.", ["Sie kam schon am 3. Oktober an.", "Das war spät."]),
        ("It lasts 5 min. and no more. So be it.", ["It lasts 5 min. and no more.", "So be it."]),
        ("Voilà la pauvre Mme. Durand. Elle est là.", ["Voilà la pauvre Mme. Durand.", "Elle est là."]),
        ("Ինչպես եք դուք։ Լավ եմ այսօր։", ["Ինչպես եք դուք։", "Լավ եմ այսօր։"]),
        ("मैं ठीक हूँ॥ आप कैसे हैं॥", ["मैं ठीक हूँ॥", "आप कैसे हैं॥"]),
    ],
)
def test_marks_of_other_scripts_end_sentences_and_shortened_words_do_not(text: str, sentences: list[str]) -> None:
    assert cut(text) == sentences


def test_a_forced_cut_leaves_syllables_whole() -> None:
    text = "เที่ยวน้ำตกและทะเล" * 60
    spoken = cut(text)
    assert "".join(spoken) == text
    assert len(spoken) > 2
    assert not any(sentence[0] in "ะาำ" or sentence[-1] in "เแโใไ" for sentence in spoken)
