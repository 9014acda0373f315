"""Pre-built messages: every shape of content, clips among it, and what stands beside them."""

from __future__ import annotations

from typing import Any

import pytest

from higgs_core.prompt.chatml import TextContent
from higgs_core.speech.request import ReferenceSource, RequestMessage
from serverless.config.settings import Settings
from tests.helpers.parsing import ANNA_AND_BOB, parsed, refusal

URL = "https://example.com/a.wav"
USER = [{"role": "user", "content": "Hi."}]


def messages(value: Any) -> tuple[RequestMessage, ...]:
    return parsed(messages=value).request.messages or ()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (" Hi. ", (TextContent(" Hi. "),)),
        ("", (TextContent(""),)),
        (None, (TextContent(""),)),
        ({"type": "text", "text": "Hi."}, (TextContent("Hi."),)),
        ({"text": ""}, (TextContent(""),)),
        ([], ()),
        (["Hi. ", {"type": "text", "text": "Ho."}], (TextContent("Hi. "), TextContent("Ho."))),
        ({"type": "audio", "url": URL}, (ReferenceSource("messages[0].content", url=URL),)),
        (
            ["Hi.", {"type": "audio", "raw_audio": "AAAA", "extension": "mp3"}],
            (TextContent("Hi."), ReferenceSource("messages[0].content[1]", base64="AAAA", file_extension="mp3")),
        ),
        ([{"type": "audio", "path": "/a"}], (ReferenceSource("messages[0].content[0]", path="/a"),)),
        (
            [{"type": "audio", "voice": "anna"}],
            (ReferenceSource("messages[0].content[0]", voice=ANNA_AND_BOB["anna"], transcript="Words of anna."),),
        ),
    ],
)
def test_content_of_every_shape_is_read(content: Any, parts: tuple[Any, ...]) -> None:
    assert messages([{"role": "user", "content": content}]) == (RequestMessage("user", parts),)


def test_roles_are_kept_in_order_and_content_may_be_left_out() -> None:
    sent = [{"role": role} for role in ("system", "user", "assistant", "User")]
    assert [message.role for message in messages(sent)] == ["system", "user", "assistant", "user"]


def test_messages_replace_the_fields_that_build_turns_and_each_is_named() -> None:
    job = parsed(
        messages=USER,
        system_prompt="Ours.",
        instructions="A hall.",
        script_speaker_tag="SPEAKER0",
        speakers={"SPEAKER0": {"voice": "anna"}},
        ref_audio_in_system_message=True,
        normalize=False,
        chunk_method="word",
        chunk_max_word_num=5,
        chunk_max_num_turns=5,
        generation_chunk_buffer_size=5,
    )
    request = job.request
    assert request.messages == (RequestMessage("user", (TextContent("Hi."),)),)
    assert (request.script, request.system_prompt, request.scene_prompt, request.speakers) == (None, None, None, ())
    assert sorted(job.warnings) == sorted(
        f"{name} was ignored because messages is given."
        for name in (
            *("system_prompt", "instructions", "script_speaker_tag", "speakers", "ref_audio_in_system_message"),
            *("normalize", "chunk_method", "chunk_max_word_num", "chunk_max_num_turns", "generation_chunk_buffer_size"),
        )
    )


def test_a_script_beside_messages_is_one_more_user_turn() -> None:
    job = parsed(messages=USER, script=" Ho. ", script_speaker_tag="SPEAKER1")
    assert job.request.messages == (
        RequestMessage("user", (TextContent("Hi."),)),
        RequestMessage("user", (TextContent("[SPEAKER1] Ho."),)),
    )
    assert job.request.script is None
    assert job.script_echo == "Ho."
    assert job.warnings == ("script was added to messages as the last user turn, as it is and in one piece.",)


def test_a_dialogue_beside_messages_is_one_more_user_turn() -> None:
    job = parsed(messages=USER, dialogue=[{"speaker": "Ann", "text": "Ho."}])
    assert (job.request.messages or ())[1].parts == (TextContent("[SPEAKER0] Ho."),)
    assert job.warnings == ("dialogue was added to messages as the last user turn, as it is and in one piece.",)


def test_references_and_sampling_stay_in_force_beside_messages() -> None:
    job = parsed(messages=USER, reference_audio=URL, reference_transcript="Words.", temperature=0.5)
    assert [clip.url for clip in job.request.references] == [URL]
    assert job.reference_transcripts == ("Words.",)
    assert job.request.params.temperature == 0.5
    assert job.warnings == ()


@pytest.mark.parametrize("value", ["Hi.", {"role": "user"}, 5, True, ["Hi."], [None], [USER]])
def test_what_is_no_list_of_messages_keeps_the_old_sentence(value: Any) -> None:
    assert refusal({"messages": value}).message == "'messages' must be an array of message objects."


@pytest.mark.parametrize("index", [0, 1])
def test_a_message_without_a_role_keeps_the_old_sentence(index: int) -> None:
    error = refusal({"messages": [*USER * index, {"content": "Hi."}]})
    assert error.message == f"Message at index {index} is missing 'role'."
    assert error.field == f"messages[{index}].role"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "bot", "content": "Hi."}, "messages[0].role"),
        ({"role": None, "content": "Hi."}, "messages[0].role"),
        ({"role": 5, "content": "Hi."}, "messages[0].role"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": True}, "messages[0].content"),
        ({"role": "user", "content": "\ud800"}, "messages[0].content"),
        ({"role": "user", "content": [5]}, "messages[0].content[0]"),
        ({"role": "user", "content": [["Hi."]]}, "messages[0].content[0]"),
        ({"role": "user", "content": {}}, "messages[0].content.text"),
        ({"role": "user", "content": {"type": "text", "text": 5}}, "messages[0].content.text"),
        ({"role": "user", "content": {"type": "text", "text": None}}, "messages[0].content.text"),
        ({"role": "user", "content": [{"type": "input_audio", "data": "AAAA"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": ["text"], "text": "a"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "audio"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "audio", "url": 5}]}, "messages[0].content[0].url"),
        ({"role": "user", "content": [{"type": "audio", "voice": "default"}]}, "messages[0].content[0].voice"),
    ],
)
def test_a_wrong_message_is_named_in_full(message: dict[str, Any], field: str) -> None:
    assert refusal({"messages": [message]}).field == field


def test_unknown_keys_inside_are_named() -> None:
    job = parsed(messages=[{"role": "user", "name": "Ann", "content": [{"type": "text", "text": "Hi.", "bold": True}]}])
    assert job.warnings == (
        "Unknown field 'name' of messages[0] was ignored.",
        "Unknown field 'bold' of messages[0].content[0] was ignored.",
    )


def test_messages_are_bounded_in_characters_and_parts() -> None:
    settings = Settings(max_script_characters=10, max_message_parts=3)
    ten = [{"role": "user", "content": "x" * 5}, {"role": "user", "content": ["x" * 5]}]
    parsed(messages=ten, settings=settings)
    for too_much in (
        [*ten, {"role": "user", "content": "x"}],
        [{"role": "user"}] * 4,
        [{"role": "user", "content": []}] * 4,
        [{"role": "user", "content": [""] * 4}],
    ):
        assert "allowed is at most" in refusal({"messages": too_much}, settings).message


def test_a_pause_in_messages_stays_text_and_is_pointed_out() -> None:
    messages = [{"role": "user", "content": "One [Pause: 2] two."}]
    job = parsed(messages=messages)
    assert job.warnings == ("A pause tag in messages is read as text; send script or dialogue to have pauses.",)
    assert job.request.messages is not None
    assert job.request.messages[0].parts == (TextContent("One [Pause: 2] two."),)
    assert len(parsed(messages=[{"role": "user", "content": "Hi."}], script="And [pause] so.").warnings) == 2
    assert parsed(messages=[{"role": "user", "content": "The [pause button]."}]).warnings == ()
