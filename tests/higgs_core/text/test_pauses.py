"""Pause tags: what is one, how long it is, and what stands around it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from higgs_core.errors import RequestError
from higgs_core.text.markup import INSTRUCTION_END, INSTRUCTION_START
from higgs_core.text.pauses import MAX_PAUSES_SECONDS, Passage, has_pause, split_at_pauses

INSTRUCTION = f"{INSTRUCTION_START}Hum [pause 1s] here.{INSTRUCTION_END}"


@pytest.mark.parametrize(
    ("tag", "seconds"),
    [
        ("[pause]", 0.5),
        ("[ pause ]", 0.5),
        ("[pause 1.5s]", 1.5),
        ("[PAUSE 500ms]", 0.5),
        ("[Pause: 2]", 2.0),
        ("[pause:2 s]", 2.0),
        ("[pause=1,25]", 1.25),
        ("[pause .5 sec]", 0.5),
        ("[pause 3 seconds]", 3.0),
        ("[pause 250 Milliseconds]", 0.25),
        ("【pause：1s】", 1.0),
        ("[pause 10s]", 10.0),
        ("[pause 0.001]", 0.001),
    ],
)
def test_a_pause_has_its_duration(tag: str, seconds: float) -> None:
    assert has_pause(f"One {tag} two")
    script = split_at_pauses(f"One {tag} two")
    assert script.passages == (Passage("One"), Passage("two", seconds))
    assert script.pause_at_end == 0
    assert script.unread == ()


@pytest.mark.parametrize(
    "text", ["[pauses]", "[a pause]", "[pause-ish]", "[paus 1s]", "pause 1s", "(pause 1s)", "[laugh]"]
)
def test_what_is_no_pause_stays(text: str) -> None:
    assert split_at_pauses(f"One {text} two").passages == (Passage(f"One {text} two"),)
    assert not has_pause(text)


def test_words_behind_pause_stay_text_and_are_told() -> None:
    script = split_at_pauses("Press [pause button] or [Pause the film] [pause button].")
    assert script.passages == (Passage("Press [pause button] or [Pause the film] [pause button]."),)
    assert script.unread == ("[pause button]", "[Pause the film]")


@pytest.mark.parametrize(
    "duration", ["0", "0s", "10.1", "11s", "10001ms", "999999999", "-1", "+1", "1e3", "1.5x", "1:30", "1 2"]
)
def test_a_duration_that_is_none_or_too_long_is_refused_by_its_value(duration: str) -> None:
    with pytest.raises(RequestError) as refused:
        split_at_pauses(f"One [pause {duration}] two")
    assert refused.value.field == "script"
    assert f"[pause {duration}]" in refused.value.message


def test_an_odd_value_is_not_repeated() -> None:
    with pytest.raises(RequestError, match="script has a pause, which is no duration"):
        split_at_pauses("One [pause 1/0<secret>] two")


def test_all_pauses_together_are_bounded() -> None:
    most = int(MAX_PAUSES_SECONDS // 10)
    assert split_at_pauses("a [pause 10s]" * most).pause_seconds == MAX_PAUSES_SECONDS
    with pytest.raises(RequestError, match=r"pauses of 300\.5 s together; allowed are at most 300 s"):
        split_at_pauses("a [pause 10s]" * most + "[pause]")


@pytest.mark.parametrize(
    ("script", "passages", "at_end"),
    [
        ("[pause 1] One. [pause 2][pause 3] Two. [pause 4]", [("One.", 1), ("Two.", 5)], 4),
        ("[SPEAKER0] Hi.\n[SPEAKER1] [pause 1] Ho.", [("[SPEAKER0] Hi.", 0), ("[SPEAKER1] Ho.", 1)], 0),
        ("[SPEAKER0] [pause 1]\n[SPEAKER1] Ho.", [("[SPEAKER1] Ho.", 1)], 0),
        ("[SPEAKER0] [pause 1] Hi [SPEAKER1]", [("[SPEAKER0] Hi", 1)], 0),
        ("One [pause 1]. Two [pause 2], three", [("One.", 0), ("Two,", 1), ("three", 2)], 0),
        ("One [pause 1] . [pause 2] - [pause 3] two", [("One.", 0), ("two", 6)], 0),
        ("[laugh] [pause 1] <SE>[Cough]</SE>", [("[laugh]", 0), ("<SE>[Cough]</SE>", 1)], 0),
        (f"{INSTRUCTION} [pause 2] go", [(f"{INSTRUCTION} go", 2)], 0),
        (f"Go {INSTRUCTION} on", [(f"Go {INSTRUCTION} on", 0)], 0),
        ("一[pause 1]。二", [("一", 0), ("。二", 1)], 0),
        ("[pause 1] ...", [], 1),
    ],
)
def test_what_stands_around_a_pause(script: str, passages: list[tuple[str, float]], at_end: float) -> None:
    found = split_at_pauses(script)
    assert [(passage.text, passage.pause_before) for passage in found.passages] == passages
    assert found.pause_at_end == at_end


PARTS = ["[pause]", "[pause 2s]", "[SPEAKER0]", "[SPEAKER1]", "word", "Other", "laugh", ".", ",", "\n", " ", "[laugh]"]


@given(st.lists(st.sampled_from(PARTS), max_size=20))
def test_no_word_and_no_pause_is_lost_and_none_is_made(parts: list[str]) -> None:
    script = " ".join(parts)
    found = split_at_pauses(script)
    words = [word for passage in found.passages for word in re.findall(r"[A-Za-z]{4,}", passage.text)]
    spoken = re.findall(r"[A-Za-z]{4,}", re.sub(r"\[pause.*?\]", "", script))
    assert [word for word in words if word != "SPEAKER"] == [word for word in spoken if word != "SPEAKER"]
    if any(part.startswith("[pause") for part in parts):
        assert not any(has_pause(passage.text) for passage in found.passages)
        expected = sum({"[pause]": 0.5, "[pause 2s]": 2.0}.get(part, 0.0) for part in parts)
        assert found.pause_seconds == pytest.approx(expected)
    else:
        assert found.passages == (Passage(script),)
