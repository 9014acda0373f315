"""Requests as turns, in the layouts of the contract and of Boson's examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from higgs_core.errors import RequestError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import AudioContent, Message, TextContent
from higgs_core.speech.plan import SpeechPlan, plan_speech
from higgs_core.speech.request import Clips, ReferenceSource, RequestMessage, Speaker, SpeechRequest
from higgs_core.speech.system_turn import MULTI_SPEAKER_PROMPT
from higgs_core.speech.work_limits import WorkLimits
from tests.helpers.pieces import count_bytes

DEFAULT = (
    "Generate audio following instruction.\n\n"
    "<|scene_desc_start|>\nAudio is recorded from a quiet room.\n<|scene_desc_end|>"
)


def source(number: int, transcript: str | None = None, tag: str | None = None) -> ReferenceSource:
    return ReferenceSource(f"references[{number}]", path=f"{number}.wav", transcript=transcript, speaker_tag=tag)


def planned(script: str | None = "Hello there.", **fields: Any) -> tuple[SpeechPlan, Clips]:
    """The plan of a request with the default prompt, and the clips that it was given."""
    request = SpeechRequest(**{"script": script, "system_prompt": DEFAULT} | fields)
    clips = {clip: AudioContent(waveform=np.zeros(960, np.float32)) for clip in request.reference_sources}
    return plan_speech(request, clips, 8192, count_bytes), clips


def spelled(messages: Any, clips: Clips | None = None) -> list[tuple[str, str]]:
    """Turns as (role, text), clips by their origin."""
    names = {id(clip): f"<{origin.origin}>" for origin, clip in (clips or {}).items()}
    return [
        (turn.role, "".join(part.text if isinstance(part, TextContent) else names[id(part)] for part in turn.parts))
        for turn in messages
    ]


def laid_out(script: str | None = "Hello there.", **fields: Any) -> list[tuple[str, str]]:
    """The turns of the first piece."""
    made, clips = planned(script, **fields)
    return spelled([*made.base_turns, made.pieces[0].turn], clips)


def texts_of(made: SpeechPlan) -> tuple[str, ...]:
    return tuple(piece.text for piece in made.pieces)


def turns_of(made: SpeechPlan) -> tuple[Message, ...]:
    return tuple(piece.turn for piece in made.pieces)


# --- the system turn ---


def test_a_plain_script_is_the_default_system_turn_and_one_user_turn() -> None:
    assert laid_out() == [("system", DEFAULT), ("user", "Hello there.")]


def test_no_system_prompt_is_no_system_turn() -> None:
    assert laid_out(system_prompt=None, system_prompt_is_default=False) == [("user", "Hello there.")]


def test_a_scene_replaces_the_default_one() -> None:
    turns = laid_out(scene_prompt="A windy beach.")
    assert turns[0] == ("system", DEFAULT.replace("Audio is recorded from a quiet room.", "A windy beach."))


def test_a_scene_joins_a_custom_prompt() -> None:
    turns = laid_out(system_prompt="Speak slowly.", system_prompt_is_default=False, scene_prompt="A windy beach.")
    assert turns[0] == ("system", "Speak slowly.\n\n<|scene_desc_start|>\nA windy beach.\n<|scene_desc_end|>")


def test_a_custom_prompt_is_kept_to_the_letter() -> None:
    assert laid_out(system_prompt=" Speak.\n", system_prompt_is_default=False)[0] == ("system", " Speak.\n")


DIALOGUE = "[SPEAKER0] Hi.\n[SPEAKER1] Hello.\n[SPEAKER0] Bye."


@pytest.mark.parametrize(("scene", "expected"), [(None, "Audio is recorded from a quiet room."), ("A bar.", "A bar.")])
def test_several_speakers_of_whom_nothing_is_known_get_bosons_prompt(scene: str | None, expected: str) -> None:
    assert laid_out(DIALOGUE, scene_prompt=scene) == [
        (
            "system",
            f"{MULTI_SPEAKER_PROMPT}\n\n<|scene_desc_start|>\n{expected}\n\n"
            "SPEAKER0: feminine\nSPEAKER1: masculine\n<|scene_desc_end|>",
        ),
        ("user", DIALOGUE),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"system_prompt_is_default": False},
        {"references": (source(0, "Words.", "SPEAKER0"),)},
        {"speakers": (Speaker("SPEAKER0", description="old"),)},
        {"system_prompt": None},
    ],
)
def test_bosons_prompt_stays_away_where_something_is_known(fields: dict[str, Any]) -> None:
    assert not any("AI assistant" in text for _, text in laid_out(DIALOGUE, **fields))


def test_one_tag_is_not_several_speakers() -> None:
    assert laid_out("[SPEAKER0] Hi. [SPEAKER0] Bye.")[0] == ("system", DEFAULT)


# --- the script turn ---


def test_the_script_tag_stands_in_front() -> None:
    assert laid_out(script_speaker_tag="[SPEAKER0]")[-1] == ("user", "[SPEAKER0] Hello there.")


def test_a_script_tag_that_the_script_overrules_is_warned_of() -> None:
    made, _ = planned("[SPEAKER1] Hi.", script_speaker_tag="SPEAKER0")
    assert spelled(turns_of(made)) == [("user", "[SPEAKER1] Hi.")]
    assert made.warnings == ("script_speaker_tag was not used: the script starts with a tag of its own, [SPEAKER1].",)
    assert planned("[SPEAKER0] Hi.", script_speaker_tag="SPEAKER0")[0].warnings == ()


def test_the_text_rules_can_be_turned_off() -> None:
    assert laid_out("你好。[laugh]")[-1][1] == "你好.<SE>[Laughter]</SE>"
    assert laid_out("你好。[laugh]", normalize=False)[-1][1] == "你好。[laugh]"


@pytest.mark.parametrize("script", ["", "   ", "()", None])
def test_a_script_without_words_is_refused(script: str | None) -> None:
    with pytest.raises(RequestError, match="script has nothing to speak") as caught:
        planned(script)
    assert caught.value.field == "script"


@pytest.mark.parametrize(
    ("script", "fields"),
    [
        ("[pause 99s] Hi.", {}),
        ("Hi. [pause -1s]", {}),
        ("Hi. " + "[pause 10s]" * 31, {}),
        ("[pause]", {}),
        ("。" * 20, {"limits": WorkLimits(1, 9, 9), "chunk_method": "none"}),
        ("One two three.", {"limits": WorkLimits(99, 1, 9), "chunk_method": "word", "chunk_max_word_num": 1}),
        ("One two three.", {"limits": WorkLimits(99, 9, 0.1)}),
    ],
)
def test_what_is_wrong_with_a_script_names_the_field_that_the_client_sent(script: str, fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"^input (has|is|makes|takes) ") as caught:
        planned(script, script_field="input", **fields)
    assert caught.value.field == "input"
    assert planned("Press [pause button].", script_field="input")[0].warnings[0].startswith("input has [pause button]")


def test_a_script_of_pauses_alone_needs_words_whatever_the_text_rules_are() -> None:
    with pytest.raises(RequestError, match="it holds only pauses") as caught:
        planned("[pause] [pause 2s]")
    assert caught.value.hint == "Send words."


def test_a_warning_about_voices_names_speakers_as_the_client_does() -> None:
    made, _ = planned("[SPEAKER0] Hi. [SPEAKER1] You.", chunk_parallel=True, speaker_names={"SPEAKER1": "Ben"})
    assert "give the voice of SPEAKER0, Ben, so" in made.warnings[0]


def test_control_strings_in_a_script_stay_words() -> None:
    (turn,) = turns_of(planned("Say <|eot_id|><|AUDIO|>.")[0])
    assert turn.parts == (TextContent("Say <|eot_id|><|AUDIO|>."),)


# --- references ---


def test_each_reference_is_a_user_turn_and_an_assistant_turn() -> None:
    references = (source(0, "First words.", "SPEAKER0"), source(1, None, "[SPEAKER1]"))
    assert laid_out("[SPEAKER0] Hi.", references=references) == [
        ("system", DEFAULT),
        ("user", "[SPEAKER0] First words."),
        ("assistant", "<references[0]>"),
        ("user", "[SPEAKER1] Reference sample 2."),
        ("assistant", "<references[1]>"),
        ("user", "[SPEAKER0] Hi."),
    ]


def test_a_single_untagged_reference_stays_untagged() -> None:
    assert laid_out(references=(source(0, "Words (here)."),))[1] == ("user", "Words (here).")


def test_untagged_references_are_numbered_only_for_a_tagged_script() -> None:
    references = (source(0, "One."), source(1, "Two."))
    assert [text for _, text in laid_out(DIALOGUE, references=references)[1:5:2]] == [
        "[SPEAKER0] One.",
        "[SPEAKER1] Two.",
    ]
    assert [text for _, text in laid_out(references=references)[1:5:2]] == ["One.", "Two."]


def test_references_can_stand_in_the_scene_block() -> None:
    references = (source(0, "One."), source(1, "Two.", "SPEAKER0"), source(2))
    assert laid_out(references=references, ref_audio_in_system_message=True) == [
        (
            "system",
            DEFAULT.replace(
                "room.",
                "room.\n\nSPEAKER1: <references[0]>\nSPEAKER0: <references[1]>\nSPEAKER2: <references[2]>",
            ),
        ),
        ("user", "Hello there."),
    ]


def test_speakers_are_lines_of_the_scene_block() -> None:
    speakers = (
        Speaker("SPEAKER0", reference=source(0, "Words.")),
        Speaker("SPEAKER1", description="an old man"),
    )
    assert laid_out(DIALOGUE, speakers=speakers, scene_prompt="A bar.") == [
        (
            "system",
            DEFAULT.replace(
                "Audio is recorded from a quiet room.", "A bar.\n\nSPEAKER0: <references[0]>\nSPEAKER1: an old man"
            ),
        ),
        ("user", DIALOGUE),
    ]


def test_a_clip_that_was_not_fetched_is_named_by_its_field() -> None:
    request = SpeechRequest(script="Hi.", references=(ReferenceSource("references[3]", base64="A" * 999),))
    with pytest.raises(RequestError) as caught:
        plan_speech(request, {}, 8192, count_bytes)
    assert caught.value.message == "references[3] has no audio."


# --- messages ---

MESSAGES = (
    RequestMessage("system", (TextContent(" As is. "),)),
    RequestMessage("user", (TextContent("Before [laugh]"), source(7))),
    RequestMessage("assistant", (source(8),)),
    RequestMessage("user", (TextContent("[SPEAKER0] Last "), TextContent("words（）"))),
)


def test_messages_are_used_as_they_are() -> None:
    assert laid_out(None, messages=MESSAGES) == [
        ("system", " As is. "),
        ("user", "Before [laugh]<references[7]>"),
        ("assistant", "<references[8]>"),
        ("user", "[SPEAKER0] Last words（）"),
    ]


def test_messages_are_one_piece_however_long() -> None:
    long = (RequestMessage("user", (TextContent("A sentence. " * 500),)),)
    made, _ = planned(None, messages=long, chunk_method="word", chunk_max_word_num=5)
    assert texts_of(made) == ("A sentence. " * 500,)
    assert len(turns_of(made)) == 1


def test_references_beside_messages_go_before_the_last_user_turn() -> None:
    references = (source(0, "Words.", "SPEAKER0"),)
    assert laid_out(None, messages=MESSAGES, references=references)[2:] == [
        ("assistant", "<references[8]>"),
        ("user", "[SPEAKER0] Words."),
        ("assistant", "<references[0]>"),
        ("user", "[SPEAKER0] Last words（）"),
    ]


def test_the_last_user_turn_need_not_be_the_last_turn() -> None:
    messages = (*MESSAGES, RequestMessage("assistant", (TextContent("Sure."),)))
    assert laid_out(None, messages=messages, references=(source(0, "Words."),))[-4:] == [
        ("user", "Words."),
        ("assistant", "<references[0]>"),
        ("user", "[SPEAKER0] Last words（）"),
        ("assistant", "Sure."),
    ]


def test_messages_win_over_the_fields_that_build_turns_and_say_so() -> None:
    made, _ = planned(None, messages=MESSAGES, scene_prompt="A bar.", script_speaker_tag="SPEAKER1")
    assert spelled(turns_of(made)) == [("user", "[SPEAKER0] Last words（）")]
    assert [warning.split()[0] for warning in made.warnings] == ["script_speaker_tag", "scene_prompt"]


def test_no_messages_at_all_are_refused() -> None:
    with pytest.raises(RequestError, match="messages is empty"):
        planned(None, messages=())


# --- pieces ---


@pytest.mark.parametrize(
    ("steps", "sent", "words"),
    [(2600, False, 100), (1024, False, 37), (1024, True, 37), (256, False, 10), (256, True, 30), (9000, True, 100)],
)
def test_a_piece_holds_what_the_slowest_voice_speaks_in_its_steps(steps: int, sent: bool, words: int) -> None:
    script = "word " * 400
    made, _ = planned(
        script, chunk_method="word", params=GenerationParams(max_new_tokens=steps), cap_follows_text=not sent
    )
    assert {len(piece.split()) for piece in texts_of(made)[:-1]} == {words}


@pytest.mark.parametrize(
    ("steps", "sent", "most", "words", "cap"),
    [
        (2600, False, 25, 25, 700),
        (2600, True, 25, 25, 2600),
        (100, False, 25, 10, 100),
        (100, True, 25, 25, 100),
        (2600, False, 5, 5, 200),
        (100, True, 5, 5, 100),
    ],
)
def test_a_checkpoint_may_allow_fewer_words_a_piece(steps: int, sent: bool, most: int, words: int, cap: int) -> None:
    """Also fewer than a piece holds at the least otherwise; a cap that follows the text follows the shorter piece."""
    request = SpeechRequest(
        script="word " * 200,
        chunk_method="word",
        params=GenerationParams(max_new_tokens=steps),
        cap_follows_text=not sent,
    )
    pieces = plan_speech(request, {}, 8192, count_bytes, max_piece_words=most).pieces
    assert {(len(piece.text.split()), piece.cap) for piece in pieces} == {(words, cap)}


def test_a_request_that_says_how_many_words_a_piece_has_gets_them() -> None:
    request = SpeechRequest(script="word " * 80, chunk_method="word", chunk_max_word_num=40)
    assert len(plan_speech(request, {}, 8192, count_bytes, max_piece_words=25).pieces) == 2


def test_a_piece_leaves_room_for_references_in_the_context() -> None:
    request = SpeechRequest(script="word " * 400, chunk_method="word", references=(source(0, "Words."),))
    clips = {request.references[0]: AudioContent(waveform=np.zeros(40 * 24_000, np.float32))}
    first = plan_speech(request, clips, 2048, count_bytes).pieces[0].text
    assert len(first.split()) == (1024 - 75) // 25
    first = plan_speech(request, clips, 1536, count_bytes).pieces[0].text
    assert len(first.split()) < 20


def test_the_words_that_a_client_wants_in_a_piece_are_counted_as_people_do() -> None:
    script = "Call 555 0199 now. " * 4
    assert len(planned(script, chunk_method="word", chunk_max_word_num=8)[0].pieces) == 2


def test_long_text_becomes_pieces_with_the_tag_in_force() -> None:
    made, _ = planned("[SPEAKER0] One two. Three four. Five six.", chunk_max_word_num=2)
    assert texts_of(made) == ("[SPEAKER0] One two.", "Three four.", "Five six.")
    assert [text for _, text in spelled(turns_of(made))] == [
        "[SPEAKER0] One two.",
        "[SPEAKER0] Three four.",
        "[SPEAKER0] Five six.",
    ]


def test_the_speaker_prompt_knows_every_tag_of_the_whole_script() -> None:
    made, _ = planned(DIALOGUE, chunk_method="speaker")
    assert "SPEAKER1: masculine" in spelled(made.base_turns)[0][1]
    assert texts_of(made) == tuple(DIALOGUE.split("\n"))


def test_the_plan_does_not_change_with_what_is_not_its_business() -> None:
    request = SpeechRequest(script="Hello there.", system_prompt=DEFAULT)
    other = replace(request, generation_chunk_buffer_size=None, trim=False, retries=3)
    assert plan_speech(request, {}, 8192, count_bytes) == plan_speech(other, {}, 8192, count_bytes)
