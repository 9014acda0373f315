"""Dialogue and speakers: whatever people are called, the model hears SPEAKER0, SPEAKER1, …"""

from __future__ import annotations

from typing import Any

import pytest

from higgs_core.speech.request import ReferenceSource, Speaker
from tests.helpers.parsing import library, parsed, refusal

URL = "https://example.com/a.wav"


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"speaker": speaker, "text": text} for speaker, text in pairs]


def test_a_dialogue_becomes_a_tagged_script() -> None:
    job = parsed(dialogue=turns(("SPEAKER0", " Hi. "), ("[SPEAKER1]", "Ho."), ("speaker0", "Bye.")))
    assert job.request.script == "[SPEAKER0] Hi.\n[SPEAKER1] Ho.\n[SPEAKER0] Bye."
    assert job.script_echo == job.request.script
    assert job.request.speaker_names == {}
    assert job.request.script_speaker_tag is None
    assert job.warnings == ()


def test_names_become_tags_in_order_of_appearance() -> None:
    job = parsed(dialogue=turns(("Zoe", "One."), ("Ann", "Two."), ("ZOE", "Three.")))
    assert job.request.script == "[SPEAKER0] One.\n[SPEAKER1] Two.\n[SPEAKER0] Three."


@pytest.mark.parametrize(
    "shape",
    [
        {
            "script": "[alice] Hi.\nBOB: Ho. [SPEAKER0] So.",
            "speakers": {"Alice": {"voice": "anna"}, "Bob": {"voice": "bob"}},
        },
        {"dialogue": turns(("Alice", "Hi."), ("Bob", "Ho. [SPEAKER0] So."))},
        {
            "messages": [{"role": "user", "content": "[SPEAKER1] What?"}],
            "dialogue": turns(("Alice", "Hi."), ("Bob", "Ho. [SPEAKER0] So.")),
        },
    ],
)
def test_the_script_that_comes_back_has_the_names_that_the_client_wrote(shape: dict[str, Any]) -> None:
    job = parsed(**shape)
    assert job.script_echo == "[Alice] Hi.\n[Bob] Ho. [SPEAKER0] So."
    assert job.request.speaker_names == {"SPEAKER1": "Alice", "SPEAKER2": "Bob"}


def test_messages_alone_have_the_tags_that_the_client_wrote() -> None:
    speakers = {"Alice": {"voice": "anna"}}
    assert (
        parsed(messages=[{"role": "user", "content": "[SPEAKER0] Hi."}], speakers=speakers).request.speaker_names == {}
    )


def test_a_name_never_takes_the_tag_of_the_script() -> None:
    job = parsed(script="Hi. [Ann] Ho.", script_speaker_tag="speaker0", speakers={"Ann": {"voice": "anna"}})
    assert (job.request.script_speaker_tag, job.request.script) == ("SPEAKER0", "Hi. [SPEAKER1] Ho.")


def test_what_is_said_of_the_script_later_uses_the_clients_words_for_it_and_for_its_speakers() -> None:
    job = parsed(dialogue=turns(("Zoe", "One."), ("SPEAKER3", "Two."), ("ZOE", "Three.")), text="Ignored.")
    assert (job.request.script_field, job.request.speaker_names) == ("dialogue", {"SPEAKER0": "Zoe"})
    assert parsed(prompt="Hi.").request.script_field == "prompt"


def test_a_name_never_takes_a_tag_that_is_in_use() -> None:
    job = parsed(
        dialogue=turns(("Ann", "One."), ("SPEAKER0", "Two."), ("Bob", "Three.")),
        references=[{"url": URL, "speaker": "SPEAKER2"}],
    )
    assert job.request.script == "[SPEAKER1] One.\n[SPEAKER0] Two.\n[SPEAKER3] Three."


def test_speakers_and_references_follow_the_names_of_the_dialogue() -> None:
    job = parsed(
        dialogue=turns(("Ann", "One."), ("Bob", "Two."), ("Cleo", "Three.")),
        speakers={"[Bob]": {"description": "deep, slow"}, "ann": {"url": URL, "text": "Words."}},
        references=[{"url": URL, "speaker": "cleo"}],
    )
    assert job.request.speakers == (
        Speaker("SPEAKER1", description="deep, slow"),
        Speaker("SPEAKER0", ReferenceSource("speakers.ann", url=URL, transcript="Words.", speaker_tag="SPEAKER0")),
    )
    assert [clip.speaker_tag for clip in job.request.references] == ["SPEAKER2"]
    assert job.warnings == ()


def test_names_in_a_tagged_script_follow_speakers() -> None:
    job = parsed(
        script="[Ann] Hi [laugh] [SPEAKER0] you [ ann ] again",
        speakers={"Ann": {"voice": "anna"}},
    )
    assert job.request.script == "[SPEAKER1] Hi [laugh] [SPEAKER0] you [SPEAKER1] again"
    assert [speaker.tag for speaker in job.request.speakers] == ["SPEAKER1"]


def test_a_clips_speaker_is_a_name_for_the_script_too() -> None:
    references = [{"url": URL, "speaker": "Alice"}, {"url": URL, "speaker_tag": "[bob]"}]
    job = parsed(script="[Bob] Hi.\nALICE: You there? [ alice ]: Ho.", references=references)
    assert job.request.script == "[SPEAKER1] Hi.\n[SPEAKER0] You there? [SPEAKER0] Ho."
    assert [clip.speaker_tag for clip in job.request.references] == ["SPEAKER0", "SPEAKER1"]
    assert job.warnings == ()


def test_the_tag_of_the_script_may_be_a_clips_speaker_or_stand_alone() -> None:
    job = parsed(script="Hi.", script_speaker_tag="narrator", references=[{"url": URL, "speaker_tag": "Narrator"}])
    assert job.request.script_speaker_tag == job.request.references[0].speaker_tag == "SPEAKER0"
    job = parsed(script="Hi.", script_speaker_tag="narrator", voice="anna")
    assert job.request.script_speaker_tag == job.request.references[0].speaker_tag == "SPEAKER0"
    assert parsed(script="Hi.", script_speaker_tag="narrator").request.script_speaker_tag == "narrator"


def test_a_turn_of_a_dialogue_may_hand_over_to_another_speaker() -> None:
    job = parsed(dialogue=turns(("Ann", "One. [BOB] Two."), ("Bob", "Three. [laugh]"), ("Ann", "[SPEAKER7] Four.")))
    assert job.request.script == "[SPEAKER0] One. [SPEAKER1] Two.\n[SPEAKER1] Three. [laugh]\n[SPEAKER7] Four."


@pytest.mark.parametrize(
    ("script", "read"),
    [
        ("Ann: Hi.", "[SPEAKER0] Hi."),
        ("  ann : Hi.\nANN：Ho.", "[SPEAKER0] Hi.\n[SPEAKER0]Ho."),
        ("I told Ann: go. Then: stop.", "I told Ann: go. Then: stop."),
        ("Then Ann: go.\nNote: Ann left.", "Then Ann: go.\nNote: Ann left."),
        ("[Ann]: Hi [Ann:] [Annabel]", "[SPEAKER0] Hi [Ann:] [Annabel]"),
        ("[pause 1s] [laugh] [Ann]", "[pause 1s] [laugh] [SPEAKER0]"),
    ],
)
def test_a_name_is_read_in_brackets_and_before_a_colon_at_a_lines_start(script: str, read: str) -> None:
    assert parsed(script=script, speakers={"Ann": {"voice": "anna"}}).request.script == read


def test_a_misspelt_speaker_is_pointed_out_once_and_read_as_text() -> None:
    job = parsed(
        script="[Alise] Hi. [Alice] Ho. [alise] [laugh] [pause] [applaus] [SPEAKER1] [Alise]",
        speakers={"Alice": {"voice": "anna"}},
    )
    assert job.request.script == "[Alise] Hi. [SPEAKER0] Ho. [alise] [laugh] [pause] [applaus] [SPEAKER1] [Alise]"
    assert job.warnings == (
        "[Alise] is no speaker here and is read as text; did you mean [Alice]?",
        "[alise] is no speaker here and is read as text; did you mean [Alice]?",
    )
    assert parsed(script="[Alise] Hi.").warnings == ()


def test_many_misspelt_speakers_are_looked_at_in_part() -> None:
    script = " ".join(f"[Alice{'x' * (at % 3)}{at}]" for at in range(900))
    job = parsed(script=script, speakers={"Alice": {"voice": "anna"}})
    assert len(job.warnings) <= 9


def test_the_tag_of_the_script_follows_speakers() -> None:
    job = parsed(script="Hi.", script_speaker_tag="Ann", speakers={"Ann": {"description": "calm"}})
    assert job.request.script_speaker_tag == "SPEAKER0"
    assert job.warnings == ()


@pytest.mark.parametrize("voice", [{"voice": "anna"}, {"description": "male, calm"}])
def test_the_only_speaker_speaks_an_untagged_script_without_a_tag(voice: dict[str, str]) -> None:
    """As in Boson's example of a voice profile: the scene names the speaker, the turn does not."""
    job = parsed(script="Hi.", speakers={"SPEAKER4": voice})
    assert job.request.script_speaker_tag is None
    assert [speaker.tag for speaker in job.request.speakers] == ["SPEAKER4"]
    assert job.warnings == ()


def test_of_several_speakers_an_untagged_script_leaves_everyone_without_a_turn() -> None:
    job = parsed(script="Hi.", speakers={"SPEAKER0": {"description": "a"}, "SPEAKER1": {"description": "b"}})
    assert [warning.split()[0] for warning in job.warnings] == ["speakers.SPEAKER0", "speakers.SPEAKER1"]


def test_a_speaker_without_a_turn_is_pointed_out() -> None:
    job = parsed(script="[SPEAKER0] Hi.", speakers={"SPEAKER0": {"voice": "anna"}, "SPEAKER1": {"voice": "bob"}})
    assert job.warnings == ("speakers.SPEAKER1 has nothing to say: no turn of the script is theirs.",)


@pytest.mark.parametrize(
    ("key", "field"),
    [
        *(("audio_url", "url"), ("url", "url"), ("audio_base64", "base64"), ("base64", "base64")),
        *(("raw_audio", "base64"), ("path", "path"), ("audio_path", "path"), ("voice", "voice")),
    ],
)
def test_every_reference_key_describes_a_speaker(key: str, field: str) -> None:
    described = {"SPEAKER0": {key: "AAAA", "transcript": "Words.", "extension": "mp3"}}
    voices = library("AAAA")
    (speaker,) = parsed(speakers=described, voices=voices).request.speakers
    assert speaker == Speaker(
        "SPEAKER0",
        ReferenceSource(
            "speakers.SPEAKER0",
            transcript="Words.",
            speaker_tag="SPEAKER0",
            file_extension="mp3",
            **{field: voices["AAAA"] if field == "voice" else "AAAA"},
        ),
    )


def test_a_clip_wins_over_a_description_and_the_models_choice_does_not() -> None:
    job = parsed(speakers={"SPEAKER0": {"voice": "anna", "description": "calm"}})
    assert job.request.speakers[0].description is None
    assert job.warnings == ("speakers.SPEAKER0.description was ignored because a clip is given.",)
    job = parsed(speakers={"SPEAKER0": {"voice": "default", "description": "calm"}})
    assert job.request.speakers == (Speaker("SPEAKER0", description="calm"),)


def test_a_speaker_whose_voice_the_model_chooses_says_nothing() -> None:
    job = parsed(script="[SPEAKER0] Hi.", speakers={"SPEAKER0": {"voice": "default"}})
    assert (job.request.speakers, job.warnings) == ((), ())


def test_voice_is_ignored_beside_speakers() -> None:
    job = parsed(voice="anna", speakers={"SPEAKER0": {"voice": "bob"}})
    assert job.request.references == ()
    assert job.warnings == ("voice was ignored because speakers is given.",)


def test_a_dialogue_wins_over_a_script_and_its_tag() -> None:
    job = parsed(prompt="Never said.", script_speaker_tag="SPEAKER5", dialogue=turns(("SPEAKER0", "Said.")))
    assert job.request.script == "[SPEAKER0] Said."
    assert job.request.script_speaker_tag is None
    assert job.warnings == (
        "prompt was ignored because dialogue is given.",
        "script_speaker_tag was ignored because dialogue is given.",
    )


@pytest.mark.parametrize("empty", [None, [], ""])
def test_an_empty_dialogue_leaves_the_script_in_force(empty: Any) -> None:
    assert parsed(script="Hi.", dialogue=empty).request.script == "Hi."


def test_unknown_keys_inside_are_named() -> None:
    job = parsed(
        dialogue=[{"speaker": "SPEAKER0", "text": "Hi.", "emotion": "sad"}],
        speakers={"SPEAKER0": {"voice": "anna", "speaker_tag": "x"}},
    )
    assert job.warnings == (
        "Unknown field 'emotion' of dialogue[0] was ignored.",
        "Unknown field 'speaker_tag' of speakers.SPEAKER0 was ignored.",
    )


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"dialogue": "Hi."}, "dialogue"),
        ({"dialogue": {"speaker": "a", "text": "b"}}, "dialogue"),
        ({"dialogue": ["Hi."]}, "dialogue[0]"),
        ({"dialogue": [{"text": "Hi."}]}, "dialogue[0].speaker"),
        ({"dialogue": [{"speaker": "", "text": "Hi."}]}, "dialogue[0].speaker"),
        ({"dialogue": [{"speaker": "a]", "text": "Hi."}]}, "dialogue[0].speaker"),
        ({"dialogue": [{"speaker": "a"}]}, "dialogue[0].text"),
        ({"dialogue": [*turns(("a", "b")), {"speaker": "a", "text": " "}]}, "dialogue[1].text"),
        ({"dialogue": [{"speaker": "a", "text": 5}]}, "dialogue[0].text"),
        ({"dialogue": turns(*((f"name{index}", "x") for index in range(101)))}, "dialogue"),
        ({"dialogue": turns(*[("a", "x" * 100)] * 200)}, "dialogue"),
        ({"speakers": []}, None),
        ({"speakers": ["a"]}, "speakers"),
        ({"speakers": "anna"}, "speakers"),
        ({"speakers": {"SPEAKER0": "anna"}}, "speakers.SPEAKER0"),
        ({"speakers": {"SPEAKER0": {}}}, "speakers.SPEAKER0"),
        ({"speakers": {"SPEAKER0": {"transcript": "words"}}}, "speakers.SPEAKER0"),
        ({"speakers": {"SPEAKER0": {"description": 5}}}, "speakers.SPEAKER0.description"),
        ({"speakers": {"a]b": {"voice": "x"}}}, "speakers"),
        ({"speakers": {"": {"voice": "x"}}}, "speakers"),
        ({"speakers": {"x" * 65: {"voice": "x"}}}, "speakers"),
        ({"speakers": {"Ann": {"voice": "x"}, "[ANN]": {"voice": "y"}}}, "speakers"),
        ({"speakers": {f"SPEAKER{index}": {"voice": "x"} for index in range(17)}}, "speakers"),
    ],
)
def test_a_wrong_turn_or_speaker_is_named(given: dict[str, Any], field: str | None) -> None:
    if field is None:
        assert parsed(**given).request.speakers == ()
    else:
        assert refusal({"script": "x", **given}).field == field


def test_a_hundred_names_and_sixteen_speakers_are_allowed() -> None:
    assert "[SPEAKER99]" in (parsed(dialogue=turns(*((f"n{i}", "x") for i in range(100)))).request.script or "")
    speakers = {f"SPEAKER{index}": {"description": "calm"} for index in range(16)}
    assert len(parsed(speakers=speakers).request.speakers) == 16
