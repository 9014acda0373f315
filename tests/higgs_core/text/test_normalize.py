"""Boson's text rules, each by an example and all together by properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from higgs_core.text.normalize import ENDINGS, EVENT_TAGS, normalize

TROUBLE = "，。：；？！（）【】《》“”‘’、—…·「」『』()[]°FC \t\n\r.!?,;\"'<>/SE_es laughmusic start0123abcÄ你好🙂"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Hello there", "Hello there."),
        ("Hello there.", "Hello there."),
        ("Really?", "Really?"),
        ("Wait,", "Wait,"),
        ('He said "no"', 'He said "no"'),
        ("你好，世界。", "你好, 世界."),
        ("真的吗？是！好：坏；", "真的吗?是!好:坏;"),
        ("【注】《书》", "[注]<书>."),
        ("「甲」『乙』“丙”‘丁’", '"甲""乙""丙"\'丁\''),
        ("甲、乙—丙…", "甲,乙-丙..."),
        ("（旁白）说", "旁白 说."),
        ("Jean·Paul", "Jean.Paul."),
        ("Call (now) please", "Call now please."),
        ("It is 20°C or 68°F", "It is 20 degrees Celsius or 68 degrees Fahrenheit."),
        ("It turned 90° left", "It turned 90° left."),
        ("Ha [laugh]", "Ha <SE>[Laughter]</SE>"),
        ("【laugh】", "<SE>[Laughter]</SE>"),
        ("[humming start]la la[humming end]", "<SE_s>[Humming]</SE_s>la la<SE_e>[Humming]</SE_e>"),
        ("[music start] la [music end]", "<SE_s>[Music]</SE_s> la <SE_e>[Music]</SE_e>"),
        ("[sing start] la [sing end]", "<SE_s>[Singing]</SE_s> la <SE_e>[Singing]</SE_e>"),
        (
            "[music] [applause] [cheering] [cough]",
            "<SE>[Music]</SE> <SE>[Applause]</SE> <SE>[Cheering]</SE> <SE>[Cough]</SE>",
        ),
        ("[music start]", "<SE_s>[Music]</SE_s>."),
        ("[Laugh] and [whisper]", "[Laugh] and [whisper]."),
        ("  a \t b  \r\n\n\n  c ", "a b\nc."),
        ("[SPEAKER0] Hi.\n\n[SPEAKER1]   Hello.", "[SPEAKER0] Hi.\n[SPEAKER1] Hello."),
        ("It costs $3.50, 20% off, 1,234 items", "It costs $3.50, 20% off, 1,234 items."),
        ("Say <|eot_id|>", "Say <|eot_id|>."),
        ("", ""),
        (" ( ) \n", ""),
    ],
)
def test_each_rule_does_what_bosons_does(written: str, expected: str) -> None:
    assert normalize(written) == expected


def test_every_event_tag_is_translated_where_it_stands() -> None:
    for written, spoken in EVENT_TAGS.items():
        assert normalize(f"a {written} b") == f"a {spoken} b."


@given(st.text() | st.text(alphabet=TROUBLE, max_size=200))
def test_whatever_comes_in_the_result_is_tidy(text: str) -> None:
    spoken = normalize(text)
    assert not set("，。：；？！（）【】《》“”‘’、—…·「」『』()") & set(spoken)
    assert spoken == "" or spoken.endswith(ENDINGS)
    for line in spoken.split("\n"):
        assert line == " ".join(line.split())
        assert line or not spoken


@given(st.lists(st.text(alphabet="abcXYZ0189%$€'-é你", min_size=1), min_size=1))
def test_plain_words_stay_as_they_are(words: list[str]) -> None:
    assert normalize("  ".join(words)).removesuffix(".").split() == words


@pytest.mark.parametrize("flood", ["1", "(", "[", "[music ", "【", "°", "<SE>", " \n", "…", "a"])
def test_a_flood_is_answered(flood: str) -> None:
    """A quadratic rule would take minutes here."""
    spoken = normalize(flood * 400_000)
    assert len(spoken) <= 1_300_000 * len(flood)
