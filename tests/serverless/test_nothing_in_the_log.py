"""No word of a client reaches the log, through whichever door and in whichever field or key it comes."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.errors import NoAudioError
from serverless.config.log import PlainFormatter, PlatformFormatter
from serverless.payload.field_names import loggable
from tests.helpers.fake_platform import FakePlatform
from tests.helpers.marked_payloads import MARK, marked_payloads, marked_sources, marked_speakers
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.processes import ModuleProcess, WorkerProcess
from tests.helpers.service import answer, serving

SPEAKS = {"max_new_tokens": 12, "seed": 1, "retries": 0}


def jobs() -> list[dict[str, Any]]:
    """A few of every kind, for a process of its own; the first is spoken."""
    found: list[dict[str, Any]] = [{"scene_prompt": MARK, MARK: MARK}]
    found += [{"references": [source]} for source in marked_sources()]
    found += [*marked_speakers()][:11]
    found += [{name: MARK} for name in ("top_p", "stop_strings", "delivery")]
    found += [{"chunk_method": "word", "chunk_max_word_num": 1, "script": f"{MARK} " * 600}, {"dialogue": [MARK]}]
    return [{"script": f"Say {MARK}.", **job, **SPEAKS} for job in found]


class Lines(logging.Handler):
    """Every line in both forms, from DEBUG on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [PlainFormatter().format(record), PlatformFormatter().format(record)]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root, handler = logging.getLogger(), Lines()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def test_no_field_and_no_key_is_written_down(tiny_engine: HiggsAudioEngine, lines: Lines) -> None:
    """All of them, in one process; what is right about a payload is not spoken."""

    def not_spoken() -> None:
        raise NoAudioError("Model did not return audio tokens.")

    async def ask_all() -> int:
        payloads = list(marked_payloads())
        for payload in payloads:
            await answer(service, payload)
        return len(payloads)

    with serving(tiny_engine, not_spoken) as service:
        asked = asyncio.run(ask_all())
    assert len([line for line in lines.lines if "job " in line]) >= 2 * asked
    assert [line for line in lines.lines if MARK.lower() in line.lower()] == []


def test_the_queues_worker_writes_none_of_them(tmp_path: Path) -> None:
    with FakePlatform() as platform, WorkerProcess(platform, tmp_path / "log", HIGGS_AUDIO_LOG_LEVEL="DEBUG") as worker:
        worker.ensure_ready()
        records = [platform.submit(job) for job in jobs()]
        records += [platform.submit(job) for job in (None, MARK, [MARK], 5)]
        records.append(platform.submit({"script": MARK, **SPEAKS}, s3Config={MARK: MARK, "bucketName": MARK}))
        records.append(platform.submit({"script": MARK, **SPEAKS}, webhook=MARK, policy={MARK: MARK}, **{MARK: MARK}))
        platform.wait(records)
        assert "audio_base64" in records[0].result["output"]
        assert worker.log.count("job ") >= len(records)
        assert MARK.lower() not in worker.log.lower()


def test_the_http_server_writes_none_of_them(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    around = {"PORT": str(port), "HIGGS_AUDIO_HOST": "127.0.0.1", "HIGGS_AUDIO_LOG_LEVEL": "DEBUG"}
    with ModuleProcess("serverless.http_server", tmp_path / "log", **around) as server:

        def ready() -> bool:
            server.assert_runs()
            try:
                return asked(port, "GET", "/ping") == 200
            except OSError:
                return False

        wait_until(ready)
        for job in jobs():
            assert asked(port, "POST", f"/generate?{MARK}={MARK}", {"input": job}) in (200, 400, 500)
            assert asked(port, "POST", "/v1/audio/speech", {"input": MARK, **job}) in (200, 400, 500)
        assert asked(port, "POST", f"/v1/audio/speech/{MARK}", {MARK: MARK}) == 404
        assert asked(port, "GET", f"/v1/models/{MARK}") == 404
        assert asked(port, MARK, f"/{MARK}") in (404, 405)
        assert asked(port, "POST", "/generate", MARK) == 400
        for raw in (
            f"{MARK}\r\n\r\n",
            f"GET /{MARK}\r\n{MARK}\r\n\r\n",
            f"POST / HTTP/1.1\r\nContent-Length: {MARK}\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(raw.encode())
                while connection.recv(65_536):
                    pass
        assert server.log.count("job ") >= len(jobs())
        assert MARK.lower() not in server.log.lower()


def asked(port: int, method: str, path: str, body: Any = None) -> int:
    """The status of one request, which has the mark in its headers too."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json", "X-Request-Id": MARK, "User-Agent": MARK, "Authorization": MARK}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("top_p", "top_p"),
        ("references[0]", "references[0]"),
        ("messages[3].content[0]", "messages[3].content[0]"),
        ("s3Config.endpointUrl", "s3Config.endpointUrl"),
        ("speakers", "speakers"),
        (f"speakers.{MARK}", "speakers.*"),
        (f"speakers.{MARK}.voice", "speakers.*.voice"),
        (f"speakers.{MARK}.{MARK}", "speakers.*"),
        (f"speakers.a.{MARK}.audio_url", "speakers.*.audio_url"),
        ("speakers.voice", "speakers.*"),
        ("two words", None),
        (None, None),
    ],
)
def test_a_field_is_written_without_the_key_that_a_client_chose(field: str | None, written: str | None) -> None:
    assert loggable(field) == written
