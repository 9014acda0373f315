"""The request table of the contract: every alias reaches its field, every range holds on both sides."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest

from higgs_core.audio import is_available
from higgs_core.errors import RequestError
from higgs_core.params import DEFAULT_STOP_STRINGS, GenerationParams
from higgs_core.speech.request import SpeechRequest
from higgs_core.speech.work_limits import WorkLimits
from serverless.config.settings import DEFAULT_SYSTEM_PROMPT, Settings
from serverless.payload.parse import OutputOptions, ParsedJob, parse_job
from serverless.payload.request_fields import RequestFields
from tests.helpers.parsing import library, parsed, refusal

# field as sent, value as sent, where it arrives, what arrives
ALIASES: list[tuple[str, Any, str, Any]] = [
    ("script", " Hi. ", "request.script", "Hi."),
    ("prompt", "Hi.", "request.script", "Hi."),
    ("transcript", "Hi.", "request.script", "Hi."),
    ("text", "Hi.", "request.script", "Hi."),
    ("input", "Hi.", "request.script", "Hi."),
    ("script_speaker_tag", "SPEAKER0", "request.script_speaker_tag", "SPEAKER0"),
    ("script_speaker_tag", "[SPEAKER0]", "request.script_speaker_tag", "SPEAKER0"),
    ("script_speaker_tag", "narrator", "request.script_speaker_tag", "narrator"),
    ("system_prompt", " Speak. ", "request.system_prompt", " Speak. "),
    ("system_prompt", "", "request.system_prompt", None),
    ("system_prompt", None, "request.system_prompt", DEFAULT_SYSTEM_PROMPT),
    ("scene_prompt", "A hall.", "request.scene_prompt", "A hall."),
    ("instructions", "A hall.", "request.scene_prompt", "A hall."),
    ("ref_audio_in_system_message", True, "request.ref_audio_in_system_message", True),
    ("normalize", False, "request.normalize", False),
    ("normalize_numbers", "de-AT", "request.normalize_numbers", "de"),
    ("chunk_method", "Word", "request.chunk_method", "word"),
    ("chunk_max_word_num", 30, "request.chunk_max_word_num", 30),
    ("chunk_max_num_turns", "4", "request.chunk_max_num_turns", 4),
    ("generation_chunk_buffer_size", 1, "request.generation_chunk_buffer_size", 1),
    ("generation_chunk_buffer_size", None, "request.generation_chunk_buffer_size", None),
    ("chunk_parallel", "yes", "request.chunk_parallel", True),
    ("preset", " Music ", "request.params.ras_win_len", None),
    ("preset", None, "request.params.ras_win_len", 7),
    ("max_new_tokens", "99", "request.params.max_new_tokens", 99),
    ("temperature", "0.7", "request.params.temperature", 0.7),
    ("temperature", 0, "request.params.temperature", 0.0),
    ("top_p", ".5", "request.params.top_p", 0.5),
    ("top_p", None, "request.params.top_p", None),
    ("top_p", "", "request.params.top_p", None),
    ("top_k", "12", "request.params.top_k", 12),
    ("top_k", 12.0, "request.params.top_k", 12),
    ("top_k", None, "request.params.top_k", None),
    ("top_k", " ", "request.params.top_k", None),
    ("top_k", 0, "request.params.top_k", None),
    ("top_k", "-1", "request.params.top_k", None),
    ("ras_win_len", "9", "request.params.ras_win_len", 9),
    ("ras_win_len", 0, "request.params.ras_win_len", None),
    ("ras_win_len", -5, "request.params.ras_win_len", None),
    ("ras_win_len", None, "request.params.ras_win_len", None),
    ("ras_win_max_num_repeat", "3", "request.params.ras_win_max_num_repeat", 3),
    ("seed", "42", "request.params.seed", 42),
    ("seed", "", "request.params.seed", None),
    ("stop_strings", "end", "request.params.stop_strings", ("end",)),
    ("stop_strings", ["a", "\n"], "request.params.stop_strings", ("a", "\n")),
    ("stop_strings", None, "request.params.stop_strings", DEFAULT_STOP_STRINGS),
    ("stop_strings", [], "request.params.stop_strings", DEFAULT_STOP_STRINGS),
    ("force_audio_gen", "false", "request.params.force_audio_gen", False),
    ("force_audio_gen", None, "request.params.force_audio_gen", True),
    ("max_new_tokens", 300, "request.cap_follows_text", False),
    ("max_new_tokens", None, "request.cap_follows_text", True),
    ("retries", "0", "request.retries", 0),
    ("retries", None, "request.retries", None),
    ("trim", False, "request.trim", False),
    ("prepare_references", "false", "request.prepare_references", False),
    ("chunk_max_word_num", None, "request.chunk_max_word_num", None),
    ("response_format", "MP3", "output.response_format", "mp3"),
    ("response_format", None, "output.response_format", "wav"),
    ("wav_encoding", "float32", "output.wav_encoding", "float32"),
    ("delivery", "S3", "output.delivery", "s3"),
    ("stream", True, "output.stream", True),
    ("speed", "1.5", "output.speed", 1.5),
    ("loudness", "-16", "output.loudness", -16.0),
    ("download_timeout", "5", "output.download_timeout", 5.0),
    ("return_audio_tokens", 1, "output.return_audio_tokens", True),
    ("return_text_tokens", "yes", "output.return_text_tokens", True),
]

# Fields whose arrival other tests show: test_payload_clips, _speakers and _messages.
ELSEWHERE = {
    *("references", "voice", "speakers", "dialogue", "messages"),
    *("reference_audio_urls", "reference_audio_url", "reference_audio"),
    *("reference_audio_base64", "reference_audio_b64", "reference_audio_paths", "reference_audio_path"),
    *("reference_transcripts", "reference_transcript", "reference_speaker_tags", "reference_speaker_tag"),
    *("reference_file_extensions", "reference_file_extension"),
}

BIG = 10**400
# field, the last values allowed, the first ones that are not
RANGES: list[tuple[str, list[Any], list[Any]]] = [
    ("max_new_tokens", [1, 8192], [0, 8193, -1, 1.5, "1.5", BIG]),
    ("temperature", [0, 10, "1e1"], [-0.001, 10.001, BIG, -BIG, "nan", "inf", "1e999", float("nan"), float("inf")]),
    ("top_p", [0.0001, 1], [0, 1.0001, -1, float("nan"), "0.5.5"]),
    ("top_k", [-1, 0, 1, 1_000_000], [-2, 1_000_001, 2.5, BIG]),
    ("ras_win_len", [64, -BIG], [65, BIG, 1.5]),
    ("ras_win_max_num_repeat", [1, 1_000_000], [0, 1_000_001]),
    ("seed", [0, 2**63 - 1, str(2**63 - 1)], [-1, 2**63, BIG, float("inf")]),
    ("chunk_max_word_num", [1, 10_000], [0, 10_001]),
    ("chunk_max_num_turns", [1, 10_000], [0, 10_001]),
    ("generation_chunk_buffer_size", [0, 10_000], [-1, 10_001]),
    ("retries", [0, 3], [-1, 4, 0.5]),
    ("download_timeout", [0.001, 300], [0, -1, 300.1, float("nan")]),
    ("speed", [0.25, 4], [0.249, 4.001]),
    ("stop_strings", [["x"] * 16, "x" * 256], [["x"] * 17, "x" * 257, ["x", ""], "\ud800"]),
    ("script", ["x" * 20_000], ["x" * 20_001, "\ud800"]),
    ("system_prompt", ["x" * 20_000], ["x" * 20_001, "\udfff"]),
    ("scene_prompt", ["x" * 20_000], ["x" * 20_001]),
    ("script_speaker_tag", ["x" * 64], ["x" * 65, "[]", "a]b", "a\nb"]),
    ("voice", ["v" * 128], ["v" * 129, "a\nb", "\ud800"]),
    ("response_format", ["wav", "flac", "mp3", "opus", "pcm"], ["ogg", "wav2", "mp-3"]),
    ("wav_encoding", ["pcm_16", "float32"], ["pcm_24"]),
    ("delivery", ["auto", "inline", "s3"], ["ftp"]),
    ("chunk_method", ["auto", "none", "word", "sentence", "speaker"], ["page"]),
]

OTHERS = [field for field in RequestFields.fields if field.name not in ("messages", "stop_strings")]
NUMBERS = [row[0] for row in RANGES[:13]]
SWITCHES = [
    ("ref_audio_in_system_message", "request.ref_audio_in_system_message"),
    ("normalize", "request.normalize"),
    ("force_audio_gen", "request.params.force_audio_gen"),
    ("trim", "request.trim"),
    ("prepare_references", "request.prepare_references"),
    ("stream", "output.stream"),
    ("return_audio_tokens", "output.return_audio_tokens"),
    ("return_text_tokens", "output.return_text_tokens"),
]


@pytest.mark.parametrize(("field", "value", "arrives", "expected"), ALIASES)
def test_a_field_arrives_where_the_contract_says(field: str, value: Any, arrives: str, expected: Any) -> None:
    is_script = field in RequestFields.script.names
    job = parse_job({field: value} if is_script else {"script": "Hello.", field: value}, Settings())
    arrived = attrgetter(arrives)(job)
    assert arrived == expected
    assert type(arrived) is type(expected)
    assert [warning for warning in job.warnings if "Unknown" in warning] == []


def test_every_name_of_the_table_is_shown_to_arrive() -> None:
    names = {name for field in RequestFields.fields for name in field.names}
    assert names == {row[0] for row in ALIASES} | ELSEWHERE


def test_a_script_alone_gets_every_default() -> None:
    params = GenerationParams(max_new_tokens=2600)
    assert parse_job({"script": "Hello."}, Settings()) == ParsedJob(
        SpeechRequest(
            script="Hello.",
            system_prompt=DEFAULT_SYSTEM_PROMPT,
            params=params,
            limits=WorkLimits(characters=20_000, pieces=512, audio_seconds=7_200),
        ),
        OutputOptions(
            response_format="wav",
            wav_encoding="pcm_16",
            delivery="auto",
            stream=False,
            speed=1.0,
            loudness=None,
            return_audio_tokens=False,
            return_text_tokens=False,
            download_timeout=30.0,
        ),
        warnings=(),
        script_echo="Hello.",
        reference_transcripts=(),
    )


def test_what_a_request_leaves_open_comes_from_the_settings() -> None:
    settings = Settings(
        system_prompt="Ours.",
        max_new_tokens=5,
        temperature=0.1,
        top_p=None,
        top_k=3,
        ras_win_len=None,
        ras_win_max_num_repeat=9,
        response_format="flac",
        download_timeout=1.5,
    )
    job = parsed(settings=settings)
    params = job.request.params
    assert (params.max_new_tokens, params.temperature, params.top_p, params.top_k) == (5, 0.1, None, 3)
    assert (params.ras_win_len, params.ras_win_max_num_repeat) == (None, 9)
    assert (job.output.response_format, job.output.download_timeout) == ("flac", 1.5)
    assert job.request.system_prompt == "Ours."
    assert not job.request.system_prompt_is_default


def test_the_default_prompt_may_be_replaced_only_when_nobody_wrote_one() -> None:
    assert parsed().request.system_prompt_is_default
    assert not parsed(system_prompt=DEFAULT_SYSTEM_PROMPT).request.system_prompt_is_default
    assert not parsed(system_prompt="").request.system_prompt_is_default


def test_the_default_length_follows_a_small_context() -> None:
    settings = Settings(max_context=300)
    assert parsed(settings=settings).request.params.max_new_tokens == 300
    error = refusal({"script": "x", "max_new_tokens": 301}, settings)
    assert error.message == "max_new_tokens is 301; allowed is a whole number, 1 to 300."


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, allowed, _ in RANGES for value in allowed])
def test_the_last_value_of_a_range_is_allowed(field: str, value: Any) -> None:
    parsed(voices=library("v" * 128), **{field: value})


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, _, refused in RANGES for value in refused])
def test_the_first_value_past_a_range_is_an_error_that_names_field_and_range(field: str, value: Any) -> None:
    error = refusal({"script": "Hello.", field: value})
    assert error.field == field
    assert error.message.startswith(f"{field} is ")
    assert "; allowed is " in error.message
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64):
        assert f" is {value!r};" in error.message


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", [True, "ten", [1], {"a": 1}, "1,5", "0x10", "1_000", "٣", "1" * 200])
def test_what_is_no_number_is_refused(field: str, value: Any) -> None:
    assert refusal({"script": "Hello.", field: value}).field == field


@pytest.mark.parametrize("field", OTHERS, ids=lambda field: field.name)
@pytest.mark.parametrize("value", [[{"a": [1]}], {"a": {"b": 1}}, [[["x"]]]])
def test_a_wrong_container_is_one_clear_error(field: Any, value: Any) -> None:
    assert refusal({"script": "Hello.", field.name: value}).message.startswith(field.name)


@pytest.mark.parametrize(("field", "arrives"), SWITCHES)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, True) for value in (True, "true", "True", " TRUE ", "1", 1, "yes")),
        *((value, False) for value in (False, "false", "False", "0", 0, "no", "NO")),
    ],
)
def test_a_switch_reads_its_words(field: str, arrives: str, value: Any, expected: bool) -> None:
    assert attrgetter(arrives)(parsed(**{field: value})) is expected


@pytest.mark.parametrize(("field", "_"), SWITCHES)
@pytest.mark.parametrize("value", ["maybe", 2, 0.5, [], {}, "truee"])
def test_a_switch_refuses_anything_else(field: str, _: str, value: Any) -> None:
    assert refusal({"script": "Hello.", field: value}).message.endswith("allowed is true or false.")


@pytest.mark.parametrize("blank", ["", "  \n\t", None])
def test_a_blank_alias_falls_to_the_next(blank: Any) -> None:
    job = parse_job({"script": blank, "prompt": blank, "transcript": "Third.", "text": "Fourth."}, Settings())
    assert job.request.script == "Third."
    assert job.warnings == ("text was ignored because transcript is given.",)


@pytest.mark.parametrize(
    "job_input", [{}, None, {"script": ""}, {"script": " \u3000\n", "messages": []}, {"text": None}]
)
def test_nothing_to_speak_keeps_the_old_sentence(job_input: Any) -> None:
    error = refusal(job_input)
    assert error.message == "Request must include a 'script'/'prompt' or pre-built 'messages'."
    assert error.field == "script"


def test_a_misspelt_script_is_the_hint_of_the_missing_one() -> None:
    hint = refusal({"scrpt": "Hello."}).hint
    assert hint == "Unknown field 'scrpt' was ignored; did you mean 'script'?"


@pytest.mark.parametrize("job_input", ["Hello.", ["Hello."], 5, True, 1.5])
def test_an_input_that_is_no_object_is_refused(job_input: Any) -> None:
    error = refusal(job_input)
    assert error.field == "input"
    assert "allowed is an object" in error.message


def test_an_unknown_field_is_named_and_changes_nothing() -> None:
    job = parsed(temprature=0.9, zzz=1)
    assert job.request == parsed().request
    assert job.warnings == (
        "Unknown field 'temprature' was ignored; did you mean 'temperature'?",
        "Unknown field 'zzz' was ignored.",
    )


def test_unknown_fields_are_named_short_and_only_so_many() -> None:
    job = parse_job({"script": "Hello.", "x" * 5000: 1, **{f"q{i}": 1 for i in range(5000)}}, Settings())
    assert len(job.warnings) == 101
    assert job.warnings[-1] == "4901 more parts of the request had no effect."
    assert max(map(len, job.warnings)) < 200


def test_stop_strings_of_a_wrong_type_keep_the_old_sentence() -> None:
    for value in (5, {"a": 1}, ["a", 5], [None], True):
        error = refusal({"script": "Hello.", "stop_strings": value})
        assert error.message == "stop_strings must be a string or a sequence of strings."
        assert error.field == "stop_strings"


def test_the_error_names_the_alias_that_was_sent() -> None:
    assert refusal({"prompt": 5}).message == "prompt is 5; allowed is a text of at most 20000 characters."
    assert refusal({"script": "x", "instructions": []}).field == "instructions"


@pytest.mark.parametrize(
    "value", ["https://user:pw@host/secret?k=v", "/etc/passwd", "C:\\secret", "a sentence that somebody really said"]
)
def test_an_error_never_repeats_an_address_a_path_or_a_sentence(value: str) -> None:
    error = refusal({"script": "Hello.", "temperature": value})
    assert value[:12] not in error.message
    assert f"a text of {len(value)} characters" in error.message


def test_aac_is_offered_only_where_it_can_be_encoded() -> None:
    if is_available("aac"):
        assert parsed(response_format="aac").output.response_format == "aac"
    else:
        assert "pcm." in refusal({"script": "x", "response_format": "aac"}).message


def test_aac_without_ffmpeg_is_refused_before_anything_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    error = refusal({"script": "x", "response_format": "aac"})
    assert error.message == "response_format is 'aac'; allowed is wav, flac, mp3, opus or pcm."


def test_an_encoding_of_wav_is_pointed_out_where_there_is_no_wav() -> None:
    assert parsed(wav_encoding="float32").warnings == ()
    warnings = parsed(wav_encoding="float32", response_format="mp3").warnings
    assert warnings == ("wav_encoding was ignored because response_format is not wav.",)


def test_the_script_is_echoed_as_it_is_spoken() -> None:
    assert parsed(script="  Hello there.\n").script_echo == "Hello there."
    assert parsed(messages=[{"role": "user", "content": "Hi."}]).script_echo is None


def test_warnings_and_transcripts_are_plain_json() -> None:
    job = parsed(**{"\ud800": 1, "references": [{"url": "https://a/b", "text": "Words."}, {}]})
    assert json.loads(json.dumps([job.warnings, job.reference_transcripts]))[1] == ["Words."]


def test_a_parsed_job_is_data() -> None:
    job = {"script": "Hello.", "references": {"url": "https://a/b"}, "dialogue": None}
    before = json.dumps(job)
    assert parse_job(job, Settings()) == parse_job(job, Settings())
    assert json.dumps(job) == before
    assert hash(parse_job(job, Settings()).request)


def test_the_contract_is_read_without_torch() -> None:
    code = "import sys, serverless.payload.parse, serverless.config.s3; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


Make = Callable[[str], dict[str, Any]]
FLOODS: list[Make] = [
    lambda text: {"script": text},
    lambda text: {"script": text, "speakers": {"Ann": {"description": "calm"}}},
    lambda text: {"dialogue": [{"speaker": "Ann", "text": text}]},
    lambda text: {"script": "x", "temperature": text},
    lambda text: {"script": "x", text: 1},
]


@pytest.mark.parametrize("make", FLOODS)
@pytest.mark.parametrize("unit", ["[", "]", "[SPEAKER", "[a", "1", "e", " ", "\u0130", "[SPEAKER0] a\n"])
def test_a_flood_of_one_character_is_read_at_once(make: Make, unit: str) -> None:
    text = (unit * 900_000)[:900_000]  # anything but linear would hold this test for minutes
    with contextlib.suppress(RequestError):
        parse_job(make(text), Settings(max_script_characters=1_000_000))


@pytest.mark.parametrize(
    ("sent", "language"),
    [(True, "en"), (False, None), ("true", "en"), ("", None), (None, None), ("EN", "en"), ("fr", "fr")],
)
def test_the_language_of_numbers(sent: object, language: str | None) -> None:
    job = parse_job({"script": "Hello.", "normalize_numbers": sent}, Settings())
    assert job.request.normalize_numbers == language


@pytest.mark.parametrize("sent", ["xx", "klingon", 7, ["de"], "d" * 1000])
def test_numbers_in_an_unknown_language_are_refused_with_the_list(sent: object) -> None:
    with pytest.raises(
        RequestError, match=r"^normalize_numbers is .*; allowed is true \(English\), false, or"
    ) as refused:
        parse_job({"script": "Hello.", "normalize_numbers": sent}, Settings())
    assert "en, de, fr, es" in refused.value.message
    assert refused.value.field == "normalize_numbers"
