from __future__ import annotations

import pytest

from higgs_core.text.speaker_tags import (
    Turn,
    bracketed,
    carry_tags,
    dialogue_to_script,
    leading_tag,
    speaker_tags,
    with_names,
    with_tag,
)


def test_tags_are_listed_once_and_by_number() -> None:
    assert speaker_tags("[SPEAKER10] a [SPEAKER2] b [SPEAKER10] c") == ("SPEAKER2", "SPEAKER10")
    assert speaker_tags("[speaker0] [SPEAKER] [ SPEAKER1 ] [music]") == ()


@pytest.mark.parametrize(
    ("text", "tag", "expected"),
    [
        ("Hi.", "SPEAKER0", "[SPEAKER0] Hi."),
        ("Hi.", "[SPEAKER0]", "[SPEAKER0] Hi."),
        ("Hi.", " Alice ", "[Alice] Hi."),
        ("Hi.", None, "Hi."),
        ("Hi.", "  ", "Hi."),
        ("[SPEAKER0] Hi.", "SPEAKER0", "[SPEAKER0] Hi."),
        ("[SPEAKER1] Hi.", "SPEAKER0", "[SPEAKER1] Hi."),
        ("[Alice] Hi.", "Alice", "[Alice] Hi."),
        ("[laugh] Hi.", "SPEAKER0", "[SPEAKER0] [laugh] Hi."),
    ],
)
def test_a_tag_is_put_in_front_unless_the_text_has_one(text: str, tag: str | None, expected: str) -> None:
    assert with_tag(text, tag) == expected


def test_brackets_are_added_once() -> None:
    assert bracketed("SPEAKER0") == bracketed("[SPEAKER0]") == "[SPEAKER0]"
    assert leading_tag("  [SPEAKER3] x") == "SPEAKER3"
    assert leading_tag("x [SPEAKER3]") is None


def test_a_dialogue_is_one_line_a_turn() -> None:
    turns = [Turn("SPEAKER0", "Hi there. "), Turn("SPEAKER1", "Hello."), Turn(None, "They part.")]
    assert dialogue_to_script(turns) == "[SPEAKER0] Hi there.\n[SPEAKER1] Hello.\nThey part."


def test_a_piece_cut_inside_a_turn_keeps_its_speaker() -> None:
    pieces = ["[SPEAKER0] One.", "Two.", "Three. [SPEAKER1] Four.", "Five.", "[SPEAKER0] Six."]
    assert carry_tags(pieces) == [
        "[SPEAKER0] One.",
        "[SPEAKER0] Two.",
        "[SPEAKER0] Three. [SPEAKER1] Four.",
        "[SPEAKER1] Five.",
        "[SPEAKER0] Six.",
    ]


def test_the_given_tag_holds_until_the_script_names_another() -> None:
    assert carry_tags(["One.", "Two."], "SPEAKER3") == ["[SPEAKER3] One.", "[SPEAKER3] Two."]
    assert carry_tags(["One.", "Two."]) == ["One.", "Two."]


def test_names_stand_in_place_of_their_tags_alone() -> None:
    text = "[SPEAKER0] Hi [SPEAKER1] ho [SPEAKER01] SPEAKER0 [laugh]"
    assert with_names(text, {"SPEAKER0": "Zoë"}) == "[Zoë] Hi [SPEAKER1] ho [SPEAKER01] SPEAKER0 [laugh]"
    assert with_names(text, {}) == text
