"""Reference clips in every form of the contract: which one wins, what belongs to it, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from higgs_core.errors import RequestError
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.payload.parse import parse_job
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.shipped import shipped_designs, shipped_library
from tests.helpers.parsing import ANNA_AND_BOB, library, parsed, refusal

URL = "https://example.com/a.wav"
OTHER = "https://example.com/b.wav"


def clips(**job_input: Any) -> tuple[ReferenceSource, ...]:
    return parsed(**job_input).request.references


# key of a reference object, field of the source
OBJECT_ALIASES = [
    ("audio_url", "url"),
    ("url", "url"),
    ("audio_base64", "base64"),
    ("base64", "base64"),
    ("raw_audio", "base64"),
    ("path", "path"),
    ("audio_path", "path"),
    ("voice", "voice"),
]
WORD_ALIASES = [
    ("transcript", "transcript"),
    ("text", "transcript"),
    ("prompt", "transcript"),
    ("speaker_tag", "speaker_tag"),
    ("speaker", "speaker_tag"),
    ("file_extension", "file_extension"),
    ("extension", "file_extension"),
]
LIST_ALIASES = [
    ("reference_audio_urls", "url"),
    ("reference_audio_url", "url"),
    ("reference_audio", "url"),
    ("reference_audio_base64", "base64"),
    ("reference_audio_b64", "base64"),
    ("reference_audio_paths", "path"),
    ("reference_audio_path", "path"),
]
LIST_WORD_ALIASES = [
    ("reference_transcripts", "transcript"),
    ("reference_transcript", "transcript"),
    ("reference_speaker_tags", "speaker_tag"),
    ("reference_speaker_tag", "speaker_tag"),
    ("reference_file_extensions", "file_extension"),
    ("reference_file_extension", "file_extension"),
]


@pytest.mark.parametrize(("key", "field"), OBJECT_ALIASES)
@pytest.mark.parametrize("as_list", [True, False])
def test_each_source_of_a_reference_object_arrives(key: str, field: str, as_list: bool) -> None:
    entry = {key: " AAAA "}
    voices = library("AAAA")
    (clip,) = clips(references=[entry] if as_list else entry, voices=voices)
    words, source = ("Words of AAAA.", voices["AAAA"]) if field == "voice" else (None, "AAAA")
    assert clip == ReferenceSource("references[0]", transcript=words, **{field: source})


@pytest.mark.parametrize(("key", "field"), WORD_ALIASES)
def test_the_words_of_a_reference_object_arrive(key: str, field: str) -> None:
    (clip,) = clips(references={"url": URL, key: " word "})
    assert getattr(clip, field) == ("SPEAKER0" if field == "speaker_tag" else "word")


@pytest.mark.parametrize(("key", "field"), LIST_ALIASES)
def test_each_top_level_source_arrives_as_a_text_and_as_a_list(key: str, field: str) -> None:
    assert clips(**{key: "AAAA"}) == (ReferenceSource(f"{key}[0]", **{field: "AAAA"}),)
    assert clips(**{key: ["AAAA", "BBBB"]}) == (
        ReferenceSource(f"{key}[0]", **{field: "AAAA"}),
        ReferenceSource(f"{key}[1]", **{field: "BBBB"}),
    )


@pytest.mark.parametrize(("key", "field"), LIST_WORD_ALIASES)
def test_top_level_words_are_zipped_by_index(key: str, field: str) -> None:
    expected = "SPEAKER0" if field == "speaker_tag" else "first"
    (only,) = clips(reference_audio=URL, **{key: "first"})
    assert getattr(only, field) == expected
    first, second, third = clips(reference_audio=[URL, OTHER, URL], **{key: ["first", None]})
    assert [getattr(clip, field) for clip in (first, second, third)] == [expected, None, None]


def test_sources_have_a_fixed_priority_and_the_others_are_named() -> None:
    everything = {"voice": "anna", "path": "/a", "raw_audio": "AAAA", "url": URL}
    job = parsed(references=[everything])
    assert job.request.references == (ReferenceSource("references[0]", url=URL),)
    assert job.warnings == tuple(
        f"references[0].{name} was ignored because references[0].url is given."
        for name in ("raw_audio", "path", "voice")
    )
    del everything["url"]
    assert clips(references=[everything])[0].base64 == "AAAA"
    del everything["raw_audio"]
    assert clips(references=[everything])[0].path == "/a"


def test_lists_of_different_kinds_share_their_indices() -> None:
    job = parsed(
        reference_audio_urls=[None, URL],
        reference_audio_base64=["AAAA", "BBBB", ""],
        reference_audio_paths=["", None, "", "/p"],
        reference_transcripts=["a", "b", "c", "d"],
        reference_file_extensions=["mp3"],
    )
    assert job.request.references == (
        ReferenceSource("reference_audio_base64[0]", base64="AAAA", transcript="a", file_extension="mp3"),
        ReferenceSource("reference_audio_urls[1]", url=URL, transcript="b"),
        ReferenceSource("reference_audio_paths[3]", path="/p", transcript="d"),
    )
    assert job.warnings == (
        "reference_audio_base64[1] was ignored because reference_audio_urls[1] is given.",
        "The reference_* fields have no clip at index 2; what else stands there was ignored.",
    )
    assert job.reference_transcripts == ("a", "b", "d")


def test_a_blank_list_falls_to_the_next_alias() -> None:
    (clip,) = clips(reference_audio_urls=["", None], reference_audio_url=" ", reference_audio=URL)
    assert clip.url == URL


def test_references_override_the_top_level_fields_and_voice() -> None:
    job = parsed(references=[{"url": URL}], reference_audio=OTHER, reference_transcript="words", voice="anna")
    assert [clip.url for clip in job.request.references] == [URL]
    assert job.warnings == (
        "reference_audio was ignored because references is given.",
        "reference_transcript was ignored because references is given.",
        "voice was ignored because references is given.",
    )


@pytest.mark.parametrize("empty", [None, [], {}, "", [None], [{}], [{"audio_url": "", "transcript": None}]])
def test_empty_references_leave_the_top_level_fields_in_force(empty: Any) -> None:
    job = parsed(references=empty, reference_audio=OTHER)
    assert [clip.url for clip in job.request.references] == [OTHER]
    assert job.warnings == ()


def test_a_blank_entry_among_others_is_left_out_and_named() -> None:
    job = parsed(references=[{}, {"url": URL}, None])
    assert job.request.references == (ReferenceSource("references[1]", url=URL),)
    assert job.warnings == ("references[0] is blank and was left out.", "references[2] is blank and was left out.")


def test_a_reference_without_a_clip_is_an_error_that_names_it() -> None:
    error = refusal({"script": "x", "references": [{"url": URL}, {"transcript": "words", "audio": "AAAA"}]})
    assert error.field == "references[1]"
    assert (
        error.message
        == "references[1] names no clip; give one of audio_url, audio_base64, path, voice and audio_tokens."
    )


def test_words_without_any_clip_are_named() -> None:
    job = parsed(reference_transcript="words", reference_speaker_tag="SPEAKER0")
    assert job.request.references == ()
    assert job.warnings == (
        "reference_transcript was ignored because no clip is given beside it.",
        "reference_speaker_tag was ignored because no clip is given beside it.",
    )


def test_an_unknown_key_of_a_reference_is_named() -> None:
    warnings = parsed(references={"url": URL, "transcipt": "words"}).warnings
    assert warnings == ("Unknown field 'transcipt' of references[0] was ignored; did you mean 'transcript'?",)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"references": [{"url": 5}]}, "references[0].url"),
        ({"references": [{"url": "https://a\nb"}]}, "references[0].url"),
        ({"references": [{"url": "x" * 8193}]}, "references[0].url"),
        ({"references": [{"path": "/a\0b"}]}, "references[0].path"),
        ({"references": [{"path": "/" * 4097}]}, "references[0].path"),
        ({"references": [{"url": URL, "transcript": ["a"]}]}, "references[0].transcript"),
        ({"references": [{"url": URL, "transcript": "x" * 20_001}]}, "references[0].transcript"),
        ({"references": [{"url": URL, "extension": "x" * 17}]}, "references[0].extension"),
        ({"references": [{"url": URL, "speaker": "a]b"}]}, "references[0].speaker"),
        ({"references": ["https://example.com/a.wav"]}, "references[0]"),
        ({"references": "https://example.com/a.wav"}, "references"),
        ({"references": 5}, "references"),
        ({"reference_audio": 5}, "reference_audio"),
        ({"reference_audio": {"url": URL}}, "reference_audio"),
        ({"reference_audio_urls": [URL, 5]}, "reference_audio_urls[1]"),
        ({"reference_audio_b64": [["AAAA"]]}, "reference_audio_b64[0]"),
        ({"reference_audio": URL, "reference_speaker_tags": ["a", "[b]c]"]}, "reference_speaker_tags[1]"),
        ({"voice": 5}, "voice"),
        ({"voice": ["anna"]}, "voice"),
    ],
)
def test_a_wrong_value_inside_a_reference_is_named_in_full(given: dict[str, Any], field: str) -> None:
    error = refusal({"script": "x", **given})
    assert error.field == field
    assert error.message.startswith(f"{field} is ")
    assert "example.com" not in error.message


def test_base64_longer_than_a_clip_can_be_is_refused_unread() -> None:
    settings = Settings(max_reference_bytes=3000)
    encoded_3000 = "A" * 4000
    assert clips(settings=settings, reference_audio_b64=f"data:audio/wav;base64,{encoded_3000}")
    error = refusal({"script": "x", "reference_audio_b64": "A" * 6000}, settings)
    assert error.message == (
        "reference_audio_b64 is a text of 6000 characters; allowed is base64 of a clip of at most 0.003 MB."
    )


@pytest.mark.parametrize("given", [{"reference_audio_b64": "Ä"}, {"references": [{"base64": "\ud800"}]}])
def test_base64_that_is_not_ascii_keeps_the_old_sentence(given: dict[str, Any]) -> None:
    assert refusal({"script": "x", **given}).message == "Invalid base64 audio payload."


@pytest.mark.parametrize("form", ["references", "reference_audio", "mixed"])
def test_sixteen_clips_are_allowed_and_seventeen_are_not(form: str) -> None:
    def job(count: int) -> dict[str, Any]:
        if form == "references":
            return {"script": "x", "references": [{"url": URL}] * count}
        if form == "reference_audio":
            return {"script": "x", "reference_audio": [URL] * count}
        described = {f"SPEAKER{index}": {"url": URL} for index in range(8)}
        return {"script": "x", "speakers": described, "references": [{"url": URL}] * (count - 8)}

    assert len(parse_job(job(16), Settings()).request.reference_sources) == 16
    assert "at most 16" in refusal(job(17)).message


def test_voice_is_a_clip_of_the_library() -> None:
    job = parsed(voice=" anna ")
    assert job.request.references == (
        ReferenceSource("voice", voice=ANNA_AND_BOB["anna"], transcript="Words of anna."),
    )
    assert job.reference_transcripts == (None,)


def test_voice_speaks_as_the_speaker_of_the_script() -> None:
    (clip,) = clips(voice="anna", script_speaker_tag="[SPEAKER1]")
    assert clip.speaker_tag == "SPEAKER1"


@pytest.mark.parametrize("name", ["default", "Default", " DEFAULT "])
def test_the_default_voice_is_the_models_choice(name: str) -> None:
    job = parsed(voice=name)
    assert (job.request.references, job.warnings) == ((), ())
    assert clips(references=[{"voice": name}]) == ()


@pytest.mark.parametrize("name", sorted(shipped_designs()))
def test_a_voice_of_openai_is_one_that_ships(name: str) -> None:
    for spelling in (name, name.capitalize(), name.upper()):
        (clip,) = clips(voice=spelling, voices=shipped_library())
        assert clip.voice is not None
        assert (clip.voice.name, clip.voice.design) == (name, shipped_designs()[name])
        assert clip.transcript == clip.voice.transcript == CALIBRATION_SENTENCE


def test_a_library_voice_of_the_same_name_wins_over_openais() -> None:
    job = parsed(voice="alloy", voices=library("alloy"))
    assert [clip.voice and clip.voice.name for clip in job.request.references] == ["alloy"]
    assert job.warnings == ()


@pytest.mark.parametrize(
    ("job_input", "field"),
    [
        ({"voice": "carla"}, "voice"),
        ({"references": [{"voice": "anna"}, {"voice": "carla"}]}, "references[1]"),
        ({"speakers": {"Ann": {"voice": "carla"}}}, "speakers.Ann"),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio", "voice": "carla"}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_a_name_that_is_not_in_the_library_is_refused_wherever_it_stands(job_input: Any, field: str) -> None:
    error = refusal({"script": "Hello.", **job_input})
    assert error.message == f"{field}: there is no voice carla."
    assert (error.field, error.hint) == (field, "Use default or one of anna, bob.")


def test_the_nearest_spelling_is_named() -> None:
    with pytest.raises(RequestError) as failure:
        parsed(voice="Shimer", voices=shipped_library())
    assert failure.value.message == "voice: there is no voice Shimer."
    assert (failure.value.hint or "").startswith("Did you mean shimmer? Use default or one of alloy, ash, ")


CODES = [[row * 100 + at for at in range(30)] for row in range(8)]


@pytest.mark.parametrize("name", ["audio_tokens", "generated_audio_tokens"])
def test_codes_are_a_clip_in_every_shape(name: str) -> None:
    clip = {name: CODES, "transcript": "Words."}
    in_message = parsed(messages=[{"role": "user", "content": [{"type": "audio", **clip}, "Hello."]}]).request.messages
    assert in_message is not None
    (speaker,) = parsed(speakers={"SPEAKER0": clip}).request.speakers
    (listed,) = clips(references=[clip])
    for source in (listed, speaker.reference, in_message[0].parts[0]):
        assert isinstance(source, ReferenceSource)
        assert source.codes is not None
        assert source.codes.tolist() == CODES
        assert source.transcript == "Words."


@pytest.mark.parametrize(
    ("codes", "field"),
    [
        ([], ""),
        ({}, ""),
        ("12", ""),
        (CODES[:7], ""),
        ([*CODES, CODES[0]], ""),
        ([[]] * 8, "[0]"),
        ([*CODES[:7], CODES[0][:29]], "[7]"),
        ([*CODES[:7], "x" * 30], "[7]"),
        ([[0] * 1501] * 8, "[0]"),
        ([*CODES[:7], [0] * 29 + [1024]], "[7]"),
        ([*CODES[:7], [0] * 29 + [-1]], "[7]"),
        ([*CODES[:7], [0] * 29 + [1.0]], "[7]"),
        ([*CODES[:7], [0] * 29 + [True]], "[7]"),
        ([*CODES[:7], [0] * 29 + [None]], "[7]"),
        ([*CODES[:7], [0] * 29 + [10**400]], "[7]"),
    ],
)
def test_codes_of_another_shape_or_range_are_refused(codes: Any, field: str) -> None:
    error = refusal({"script": "x", "references": [{"audio_tokens": codes}]})
    assert error.field == f"references[0].audio_tokens{field}"
    assert "from 0 to 1023" in error.message


def test_a_name_that_is_ignored_need_not_exist() -> None:
    assert clips(references=[{"voice": "carla", "url": URL}])[0].voice is None
    assert clips(voice="carla", reference_audio=URL)[0].url == URL


def test_the_librarys_transcript_is_filled_in_where_the_client_gave_none() -> None:
    job = parsed(references=[{"voice": "anna"}, {"voice": "anna", "transcript": "Other words."}, {"url": URL}])
    assert [clip.transcript for clip in job.request.references] == ["Words of anna.", "Other words.", None]
    assert job.reference_transcripts == (None, "Other words.", None)
    speakers = parsed(speakers={"A": {"voice": "bob"}, "B": {"description": "deep"}}).request.speakers
    assert [speaker.reference and speaker.reference.transcript for speaker in speakers] == ["Words of bob.", None]
    content = [{"type": "audio", "voice": "bob"}, "Hello."]
    (message,) = parsed(messages=[{"role": "user", "content": content}]).request.messages or ()
    assert [getattr(part, "transcript", None) for part in message.parts] == ["Words of bob.", None]


def test_a_voice_beside_top_level_clips_is_named_as_ignored() -> None:
    job = parsed(reference_audio_path="/a", voice="anna")
    assert [clip.path for clip in job.request.references] == ["/a"]
    assert job.warnings == ("voice was ignored because reference_audio_path is given.",)
