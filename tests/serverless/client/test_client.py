"""python -m serverless.client, against the real HTTP server and a queue's API on loopback."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.audio import wav_header
from serverless.client import __main__ as client
from serverless.client import transports
from serverless.client.output import wav_sizes
from serverless.client.terminal import progress_text
from tests.helpers.http_server import Running
from tests.helpers.http_stub import Request, answering

KEY = "rp_secret"


class QueueApi:
    """RunPod's side of a queue endpoint: answers in turn, one list per path; the last one again and again."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str, Any]] = []
        self.keys: set[str | None] = set()

    def running(self) -> AbstractContextManager[str]:
        """The address of a server with this API, while the block lasts."""
        return answering(self._answer)

    def _answer(self, request: Request) -> tuple[int, bytes]:
        self.seen.append((request.method, request.path, json.loads(request.body) if request.body else None))
        self.keys.add(request.headers.get("Authorization"))
        answers = self.answers[request.path.split("/")[2]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        status, data = answer if isinstance(answer, tuple) else (200, answer)
        return status, data if isinstance(data, bytes) else json.dumps(data).encode()


def wav(samples: int = 240) -> bytes:
    return wav_header("pcm_16", 2 * samples) + bytes(2 * samples)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "POLL_SECONDS", (0.01,))
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.delenv("HIGGS_AUDIO_API_KEY", raising=False)


def run(*arguments: str | Path) -> int:
    return client.main([str(argument) for argument in arguments])


# -- the HTTP server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "options"), [("wav", ()), ("wav", ("--set", "wav_encoding=float32")), ("flac", ()), ("opus", ())]
)
def test_the_http_door_saves_a_whole_file(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, options: tuple[str, ...]
) -> None:
    output = tmp_path / f"speech.{suffix}"
    common = ("--seed", "4", "--set", "max_new_tokens=40", "--scene", "A quiet room.", *options)
    assert run("--url", server.url, "Hello there.", "-o", output, *common) == 0
    audio, rate = soundfile.read(output)
    info = soundfile.info(output)
    assert (rate, info.frames) == (24_000, len(audio))
    assert np.abs(audio).max() > 0
    said = capsys.readouterr().out
    assert f"{len(audio) / 24_000:.2f} s of audio" in said
    assert "seed 4" in said
    assert "random weights" in said
    assert list(tmp_path.iterdir()) == [output]


def test_a_reference_and_a_job_file_reach_the_server(server: Running, tmp_path: Path) -> None:
    clip = tmp_path / "me.wav"
    soundfile.write(clip, 0.2 * np.sin(np.arange(24_000) / 20), 24_000)
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"input": {"script": "From the file.", "max_new_tokens": 30, "seed": 1}}))
    plain, cloned = tmp_path / "plain.wav", tmp_path / "cloned.wav"
    assert run("--url", server.url, "--job", job, "-o", plain) == 0
    assert run("--url", server.url, "--job", job, "-o", cloned, "--reference", clip, "--transcript", "A tone.") == 0
    assert plain.read_bytes() != cloned.read_bytes()


def test_a_server_that_is_still_loading_is_asked_again(tmp_path: Path) -> None:
    item = {"is_final": True, "audio_format": "wav", "audio_base64": encoded(wav())}
    api = QueueApi(generate=[(503, {"error": "loading"}), (503, {"error": "busy"}), (200, item)])
    with api.running() as base:
        assert run("--url", f"{base}/prefix", "Hello.", "-o", tmp_path / "x.wav") == 0
    assert [path for _, path, _ in api.seen] == ["/prefix/generate"] * 3
    assert (tmp_path / "x.wav").read_bytes() == wav()


def test_a_refused_job_says_why_and_leaves_nothing(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--url", server.url, "Hello.", "-o", tmp_path / "x.wav", "--set", "temperature=50") == 2
    assert "temperature" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_runpods_key_does_not_go_to_other_servers(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = client._parser().parse_args
    environment = {"RUNPOD_API_KEY": KEY, "HIGGS_AUDIO_API_KEY": "own"}
    for url, key in (
        (server.url, "own"),
        ("https://abc.api.runpod.ai", KEY),
        ("https://abc.api.runpod.ai.example.org", "own"),
        ("https://evilrunpod.ai", "own"),
    ):
        transport = client.open_transport(parse(["--url", url, "x"]), environment)
        assert isinstance(transport, transports.HttpTransport)
        assert transport.key == key


# -- the queue --------------------------------------------------------------------------------------------------------


def test_the_queue_is_polled_until_the_job_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = {"audio_base64": encoded(wav()), "audio_format": "wav", "duration_seconds": 0.01, "seed": 9}
    api = QueueApi(
        run=[{"id": "j1", "status": "IN_QUEUE"}],
        status=[
            {"status": "IN_QUEUE"},
            (502, b"bad gateway"),
            {"status": "IN_PROGRESS", "output": {"share": 0.5, "audio_seconds": 1.0}},
            {"status": "COMPLETED", "output": result},
        ],
    )
    output = tmp_path / "out.wav"
    with api.running() as base:
        assert run("--endpoint", "e1", "--api", base, "Hello.", "-o", output) == 0
    assert output.read_bytes() == wav()
    assert api.seen[0] == ("POST", "/e1/run", {"input": {"script": "Hello.", "response_format": "wav"}})
    assert {path for _, path, _ in api.seen[1:]} == {"/e1/status/j1"}
    assert api.keys == {f"Bearer {KEY}"}
    assert "seed 9" in capsys.readouterr().out


def test_a_stream_is_joined_in_its_order_and_gets_its_length(tmp_path: Path) -> None:
    whole = wav_header("pcm_16", None) + bytes(range(200))
    items = [{"audio_base64": encoded(whole[i : i + 50]), "audio_format": "wav"} for i in range(0, len(whole), 50)]
    last = {"is_final": True, "audio_format": "wav", "duration_seconds": 0.004}
    api = QueueApi(
        run=[{"id": "j2"}],
        stream=[
            {"status": "IN_QUEUE", "stream": []},
            {"status": "IN_PROGRESS", "stream": [{"output": item} for item in items[:3]]},
            {"status": "IN_PROGRESS", "stream": []},
            {"status": "COMPLETED", "stream": [{"output": item} for item in [*items[3:], last]]},
        ],
    )
    output = tmp_path / "out.wav"
    with api.running() as base:
        assert run("--endpoint", "e1", "--api", base, "--mode", "stream", "Hello.", "-o", output) == 0
    assert api.seen[0][2]["input"]["stream"] is True
    assert output.read_bytes()[44:] == bytes(range(200))
    assert soundfile.info(io.BytesIO(output.read_bytes())).frames == 100
    assert int.from_bytes(output.read_bytes()[4:8], "little") == output.stat().st_size - 8


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"status": "FAILED", "error": "script is empty."}, "script is empty."),
        ({"status": "TIMED_OUT"}, "TIMED_OUT"),
        ({"status": "CANCELLED"}, "CANCELLED"),
        ({"status": "COMPLETED", "output": {"error": "no voice", "hint": "Use belinda."}}, "no voice Use belinda."),
        ({"status": "COMPLETED", "output": {}}, "no audio"),
        ({"status": "COMPLETED", "output": []}, "no audio"),
    ],
)
def test_a_job_without_audio_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: dict[str, Any], words: str
) -> None:
    api = QueueApi(run=[{"id": "j3"}], status=[status])
    with api.running() as base:
        assert run("--endpoint", "e1", "--api", base, "Hello.", "-o", tmp_path / "x.wav") == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert [path for _, path, _ in api.seen] == ["/e1/run", "/e1/status/j3"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, b""), "status 401"),
        ((404, {"error": "endpoint not found"}), "endpoint not found"),
        ((200, b"<html>"), "not a JSON object"),
        ((200, {}), "did not accept"),
    ],
)
def test_an_endpoint_that_takes_no_job_is_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: tuple[int, Any], words: str
) -> None:
    with QueueApi(run=[answer]).running() as base:
        assert run("--endpoint", "e1", "--api", base, "Hello.", "-o", tmp_path / "x.wav") == 1
    assert words in capsys.readouterr().err


def test_a_job_that_nobody_waits_for_is_cancelled_on_the_endpoint() -> None:
    api = QueueApi(run=[{"id": "j4"}], status=[{"status": "IN_PROGRESS"}], cancel=[{"status": "CANCELLED"}])

    async def interrupted(base: str) -> None:
        items = transports.QueueTransport(f"{base}/e1", KEY).send({"input": {"script": "Hello."}})
        assert (await anext(items))["state"] == "IN_PROGRESS"
        await items.aclose()

    with api.running() as base:
        asyncio.run(interrupted(base))
    assert api.seen[-1][:2] == ("POST", "/e1/cancel/j4")


def test_a_result_in_a_bucket_is_downloaded_without_the_key(tmp_path: Path) -> None:
    bucket = QueueApi(results=[wav()])
    with bucket.running() as storage:
        url = f"{storage}/b/results/x.wav?signature=1"
        result = {"audio_url": url, "audio_format": "wav", "expires_at": "2030-01-01T00:00:00Z"}
        api = QueueApi(run=[{"id": "j5"}], status=[{"status": "COMPLETED", "output": result}])
        with api.running() as base:
            assert run("--endpoint", "e1", "--api", base, "Hello.", "-o", tmp_path / "x.wav") == 0
    assert (tmp_path / "x.wav").read_bytes() == wav()
    assert bucket.keys == {None}


# -- small things -----------------------------------------------------------------------------------------------------


def test_without_a_key_the_queue_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY")
    assert run("--endpoint", "e1", "Hello.") == 2
    assert "RUNPOD_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--endpoint", "a", "--url", "http://b", "x")])
def test_one_endpoint_has_to_be_named(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        run(*arguments)


@pytest.mark.parametrize(
    ("options", "wanted", "output"),
    [
        (("-o", "a.ogg"), "opus", "a.ogg"),
        (("-o", "a.OPUS", "--format", "opus"), "opus", "a.OPUS"),
        (("-o", "a.aac"), "aac", "a.aac"),
        (("--format", "flac"), "flac", "speech.flac"),
        (("--set", "response_format=mp3"), "mp3", "speech.mp3"),
        ((), None, "speech.wav"),
    ],
)
def test_the_suffix_decides_the_format(options: tuple[str, ...], wanted: str | None, output: str) -> None:
    parsed = client._parser().parse_args(["--url", "x", "Hi", *options])
    job = client.build_job(parsed)
    assert job["input"].get("response_format") == wanted
    assert str(client.output_of(parsed, job)) == output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "a.mp4"), "a.mp4 has the suffix '.mp4'; allowed is .wav, .flac, .mp3, .opus, .ogg, .pcm or .aac."),
        (("-o", "a", "--format", "mp3"), "a has no suffix; allowed is .wav,"),
        (("-o", "a.ogg", "--format", "pcm"), "opus by its suffix and --format is pcm; give a name with .pcm."),
        (("-o", "a.wav", "--set", "response_format=opus"), "response_format is opus; give a name with .opus or .ogg."),
        (("--format", "flac", "--set", "response_format=mp3"), "--format is flac and response_format is mp3;"),
    ],
)
def test_a_suffix_that_says_something_else_is_one_sentence(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert run("--url", "http://127.0.0.1:9", "Hi", *options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"input": {"script": "Hi.",}}', "job.json:1:28: this is not JSON"),
        (
            '{"input":\n {"script": "Hi.",\n  "temperature": 50}}',
            "job.json:3:3: temperature is 50; allowed is",
        ),
        (
            '{"input": {"references": [{"url": "u"}, {"text": 5}], "text": "a"}}',
            "job.json:1:42: references[1].text is",
        ),
        ('{"script": "Hi."}', "job.json:1:1: this is not an object with 'input'"),
        ('{"input": {"temperature": NaN}}', "job.json:1:27: this is not JSON: NaN"),
        ('{"input": {"voice": "a"}}', "job.json:1:2: There is nothing to speak"),
        ('{"input": \udcff}', "job.json:1:11: the file is not UTF-8 text."),
    ],
)
def test_what_is_wrong_in_a_job_file_is_named_with_its_place_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    job = tmp_path / "job.json"
    job.write_text(text, errors="surrogateescape")
    with QueueApi().running() as base:
        assert run("--url", base, "--job", job) == 2
    assert words in capsys.readouterr().err


def test_a_misspelt_field_is_shown_once_with_the_nearest_name(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--url", server.url, "Hi.", "-o", tmp_path / "x.wav", "--set", "temprature=1", "--set", "seed=1") == 0
    told = capsys.readouterr()
    sentence = "warning: Unknown field 'temprature' was ignored; did you mean 'temperature'?"
    assert told.err.splitlines() == [sentence]
    assert "temprature" not in told.out


def test_fields_are_json_where_they_can_be() -> None:
    options = client._parser().parse_args(["--url", "x", "Hi", "--set", "top_k=5", "--set", "voice=belinda"])
    assert client.build_job(options)["input"] | {"top_k": 5, "voice": "belinda"} == client.build_job(options)["input"]


def test_a_header_that_knows_its_length_is_left_alone() -> None:
    assert wav_sizes(wav()[:128], len(wav())) == []
    assert wav_sizes(b"OggS" + bytes(100), 500) == []


@pytest.mark.parametrize(
    ("item", "received", "text"),
    [
        ({"state": "IN_QUEUE"}, 0, "waiting in the queue, 3 s"),
        ({"state": "IN_PROGRESS", "progress": {}}, 0, "working, 3 s"),
        (
            {"progress": {"share": 0.25, "audio_seconds": 1.5}},
            0,
            "[######..................]  25 %, 1.5 s of audio, 3 s",
        ),
        ({"index": 1}, 48_000, "48 kB received, 3 s"),
    ],
)
def test_the_progress_line_says_what_is_known(item: dict[str, Any], received: int, text: str) -> None:
    assert progress_text(item, received, 3.2) == text
