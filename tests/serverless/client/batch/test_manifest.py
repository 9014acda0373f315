"""Manifests: shapes of lines, names of files, and errors with line and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serverless.client.batch.manifest import BatchJob, read_manifest
from serverless.client.batch.names import is_file_name, safe, slug
from serverless.client.errors import ClientError


def read(folder: Path, *lines: Any, audio_format: str | None = None, **defaults: Any) -> list[BatchJob]:
    file = folder / "m.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return read_manifest(file, defaults, audio_format, lambda warning: None)


def refusal(folder: Path, *lines: Any) -> list[str]:
    with pytest.raises(ClientError) as caught:
        read(folder, *lines)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_every_shape_of_a_line_is_a_job(tmp_path: Path) -> None:
    jobs = read(
        tmp_path,
        '"Hello there."',
        "",
        {"script": "Hello there.", "seed": 7},
        {"input": {"script": "Hello."}, "id": "greeting"},
        {"input": {"text": "Hello."}, "file": "Grüße 1.flac"},
        {"input": "An alias of the script."},
    )
    assert [job.body["input"].get("script") for job in jobs[:3]] == ["Hello there.", "Hello there.", "Hello."]
    assert jobs[0].file.startswith("hello-there-")
    assert [job.file for job in jobs[2:4]] == ["greeting.wav", "Grüße 1.flac"]
    assert jobs[3].body["input"]["response_format"] == "flac"
    assert len({job.key for job in jobs}) == len({job.file for job in jobs}) == 5


def test_options_speak_for_lines_that_say_nothing_themselves(tmp_path: Path) -> None:
    first, second = read(
        tmp_path, '"A."', {"script": "B.", "voice": "ash", "response_format": "opus"}, audio_format="mp3", voice="alloy"
    )
    assert first.body["input"] == {"script": "A.", "voice": "alloy", "response_format": "mp3"}
    assert second.body["input"] == {"script": "B.", "voice": "ash", "response_format": "opus"}
    assert (Path(first.file).suffix, Path(second.file).suffix) == (".mp3", ".opus")


def test_a_changed_line_is_another_job_and_a_line_that_moved_is_not(tmp_path: Path) -> None:
    before = read(tmp_path, '"One."', '"Two."', '"Two."')
    after = read(tmp_path, '"New."', '"One."', {"script": "Two.", "seed": 1}, '"Two."', '"Two."')
    kept = {job.key for job in before} & {job.key for job in after}
    assert kept == {job.key for job in before}
    assert {job.file for job in before} <= {job.file for job in after}


def test_errors_are_named_with_line_and_column_all_at_once(tmp_path: Path) -> None:
    assert refusal(
        tmp_path,
        '"Good."',
        '{"script": "x",}',
        {"script": "x", "temperature": 50},
        "",
        {"input": {"script": "x", "references": [{"url": "u"}, {"text": 4}]}, "id": "a"},
        {"input": {"script": "x"}, "name": "a"},
        {"input": {"script": "x"}, "file": "../a.wav"},
        {"input": {"script": "x"}, "file": "a.mp4"},
        {"input": {"script": "x", "response_format": "mp3"}, "file": "a.wav"},
        {"input": {"voice": "alloy"}},
        "5",
        {"input": {"script": "x"}, "id": "same"},
        {"input": {"script": "y"}, "id": "Same"},
        {"input": {"script": "x"}, "id": {}},
    ) == [
        "m.jsonl:2:16: this is not JSON: Expecting property name enclosed in double quotes.",
        "m.jsonl:3:17: temperature is 50; allowed is 0 to 10.",
        "m.jsonl:5:57: references[1].text is 4; allowed is a text of at most 1000000 characters.",
        "m.jsonl:6:28: 'name' is no key beside input; allowed is id, file or s3Config.",
        "m.jsonl:7:28: file is not the name of a file such as 'hello.wav', without folders or odd signs.",
        "m.jsonl:8:28: a.mp4 has the suffix '.mp4'; allowed is .wav, .flac, .mp3, .opus, .ogg, .pcm or .aac.",
        "m.jsonl:9:54: a.wav is to be wav by its suffix and input.response_format is mp3; give a name with .mp3.",
        "m.jsonl:10:2: There is nothing to speak: 'script' is missing or empty.",
        'm.jsonl:11:1: a line is a text in quotes, an input such as {"script": "Hello."}, or {"input": {...}}.',
        "m.jsonl:13:28: the file 'Same.wav' is that of line 12 already.",
        "m.jsonl:14:28: id is not a text or a number that can name a file.",
    ]


def test_a_misspelt_field_is_a_warning_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('"A."\n{"script": "B.", "temprature": 1}\n')
    warnings: list[str] = []
    read_manifest(file, {}, None, warnings.append)
    assert warnings == [f"{file}:2: warning: Unknown field 'temprature' was ignored; did you mean 'temperature'?"]


@pytest.mark.parametrize("lines", [(), ("",), ("", "  ")])
def test_a_manifest_without_jobs_is_refused(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert refusal(tmp_path, *lines) == ["m.jsonl has no job; give one in each line."]


def test_ids_that_are_no_names_of_files_become_safe_and_stay_apart(tmp_path: Path) -> None:
    jobs = read(tmp_path, *({"input": {"script": "x"}, "id": name} for name in ("a/b", "a:b", "../..//x", "con", 7)))
    names = [job.file for job in jobs]
    assert len(set(names)) == 5
    assert all(is_file_name(name) for name in names)
    assert names[4] == "7.wav"
    assert names[0].startswith("a-b-")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", ".hidden", "nul.wav", "a\n.wav", "x" * 121, "a:b", "a. "]
)
def test_a_name_that_is_unsafe_somewhere_is_none(name: str) -> None:
    assert not is_file_name(name)


def test_words_of_a_text_make_a_name() -> None:
    assert slug("  Hello, there! It's a FINE day; " * 5) == "hello-there-it-s-a-fine-day-hello-there"
    assert slug("Straße № 7") == "strasse-no-7"
    assert slug("你好，世界") == "你好-世界"
    assert slug("?!…") == ""
    assert safe("...") == ""
