"""/ping, keys, headers, bounds, and what hostile callers get."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient

from higgs_core import HiggsAudioEngine
from higgs_core.errors import ModelLoadError
from serverless.config.settings import Settings
from serverless.http_server import create_app
from serverless.service.boot import boot_engine
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.patience import PATIENCE, wait_until

KEY = "correct horse battery staple"
JSON = {"Content-Type": "application/json"}


# -- /ping ------------------------------------------------------------------------------------------------------------


def test_ping_and_ready_say_loading_then_ready() -> None:
    go_on = threading.Event()

    def boot(settings: Settings) -> HiggsAudioEngine:
        assert go_on.wait(PATIENCE)
        return boot_engine(settings)

    settings = Settings(model_id="tiny", device="cpu")
    with serving_http(settings, SpeechService(settings, boot=boot), ready=False) as running:
        assert requests.get(f"{running.url}/ping", timeout=PATIENCE).status_code == 204
        assert requests.get(f"{running.url}/ready", timeout=PATIENCE).status_code == 503
        early = running.generate({"script": "Too early."})
        assert (early.status_code, early.json()["code"]) == (503, "loading")
        assert int(early.headers["Retry-After"]) > 0
        go_on.set()
        wait_until(lambda: running.service.ready)
        assert requests.get(f"{running.url}/ping", timeout=PATIENCE).status_code == 200
        assert requests.get(f"{running.url}/ready", timeout=PATIENCE).status_code == 200

        # the same engine, dead: no more 200, and the app asks to be replaced
        running.service.engine.close()  # type: ignore[union-attr]
        assert requests.get(f"{running.url}/ping", timeout=PATIENCE).status_code == 500
        assert requests.get(f"{running.url}/ready", timeout=PATIENCE).status_code == 503
        assert running.generate({"script": "Too late."}).status_code == 503
        assert running.fatal


def test_ping_gives_the_reason_of_a_load_failure() -> None:
    def boot(settings: Settings) -> HiggsAudioEngine:
        raise ModelLoadError("The checkpoint lacks 3 tensors.", hint="Download it again.")

    settings = Settings(model_id="tiny", device="cpu")
    with serving_http(settings, SpeechService(settings, boot=boot)) as running:
        answer = requests.get(f"{running.url}/ping", timeout=PATIENCE)
        assert (answer.status_code, answer.json()["error"]) == (500, "The checkpoint lacks 3 tensors.")
        job = running.generate({"script": "Hello."})
        assert (job.status_code, job.json()["error"]) == (503, "The checkpoint lacks 3 tensors.")


# -- the key ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(server: Running) -> TestClient:
    """The same service behind a key. The client does not run the app's start, so nothing is loaded again."""
    settings = server.service.settings.model_copy(update={"api_key": Settings(api_key=KEY).api_key})
    return TestClient(create_app(server.service, settings), raise_server_exceptions=False)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/audio/voices", "/metrics"])
@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        (f"Basic {KEY}", 401),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        ("Bearer pässword".encode("latin-1"), 401),
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
    ],
)
def test_only_the_whole_key_opens(locked: TestClient, path: str, header: Any, status: int) -> None:
    answer = locked.get(path, headers={} if header is None else {"Authorization": header})
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert KEY not in answer.text


@pytest.mark.parametrize(("key", "status"), [(KEY, 200), (f"{KEY}x", 401), ("", 401)])
def test_the_key_may_come_beside_that_of_a_proxy(locked: TestClient, key: str, status: int) -> None:
    """In its own header it is the one that counts, whatever the bearer is."""
    for bearer in ("of-the-proxy", KEY):
        answer = locked.get("/v1/models", headers={"Authorization": f"Bearer {bearer}", "X-API-Key": key})
        assert answer.status_code == status


@pytest.mark.parametrize("path", ["/generate", "/v1/audio/speech"])
def test_a_job_without_the_key_is_refused_unread(locked: TestClient, path: str) -> None:
    answer = locked.post(path, content=b"not even JSON", headers=JSON)
    assert answer.status_code == 401
    error = answer.json()
    assert (error["error"]["code"] if path.startswith("/v1") else error["code"]) == "invalid_api_key"


@pytest.mark.parametrize("path", ["/", "/ping", "/ready", "/playground/app.js"])
def test_page_and_ping_are_public(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 200


def test_the_lists_can_be_public_and_nothing_else_with_them(server: Running) -> None:
    opened = {"api_key": Settings(api_key=KEY).api_key, "public_lists": True}
    client = TestClient(create_app(server.service, server.service.settings.model_copy(update=opened)))
    for path in ("/v1/models", "/v1/models/tts-1", "/v1/audio/models", "/v1/audio/voices"):
        assert client.get(path).status_code == 200
    assert client.get("/metrics").status_code == 401
    for path in ("/generate", "/v1/audio/speech", "/v1/audio/speech/batch"):
        assert client.post(path, content=b"{}", headers=JSON).status_code == 401


# -- pages of other origins -------------------------------------------------------------------------------------------

ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-stainless-os"}
APP = "https://app.example"


def with_origins(server: Running, origins: str) -> TestClient:
    read = Settings.from_environment({"HIGGS_AUDIO_CORS_ORIGINS": origins, "HIGGS_AUDIO_API_KEY": KEY})
    changed = {"cors_origins": read.cors_origins, "api_key": read.api_key}
    return TestClient(create_app(server.service, server.service.settings.model_copy(update=changed)))


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("*", APP, "*"),
        (f"http://localhost:3000, {APP}/", APP, APP),
        (f"http://localhost:3000,{APP}", "http://localhost:3000", "http://localhost:3000"),
        (f"http://localhost:3000,{APP}", "http://localhost:3001", None),
        (APP, "https://app.example.evil.example", None),
        ("", APP, None),
    ],
)
def test_only_the_origins_of_the_operator_may_ask(
    server: Running, origins: str, origin: str, allowed: str | None
) -> None:
    client = with_origins(server, origins)
    asked = client.options("/v1/audio/speech", headers={"Origin": origin, **ASKED})
    assert asked.headers.get("Access-Control-Allow-Origin") == allowed
    if allowed is not None:
        assert asked.status_code == 200  # without a key: a browser sends none when it asks
        assert "x-stainless-os" in asked.headers["Access-Control-Allow-Headers"]
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    for key, status in ((KEY, 200), ("wrong", 401)):
        answer = client.get("/v1/models", headers={"Origin": origin, "Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.headers.get("Access-Control-Allow-Origin")) == (status, allowed)
        if allowed is not None:
            assert {"X-Warnings", "X-Request-Id"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_form_may_come_from_an_origin_that_is_allowed(server: Running) -> None:
    settings = server.service.settings.model_copy(update={"cors_origins": (APP,)})
    client = TestClient(create_app(server.service, settings))
    form: dict[str, Any] = {"data": {"name": "x"}, "files": {"audio_sample": b"no clip"}}
    for origin, code in ((APP, "invalid_request"), ("https://other.example", "cross_site")):
        answer = client.post("/v1/audio/voices", headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"}, **form)
        assert answer.json()["code"] == code


# -- headers ----------------------------------------------------------------------------------------------------------


def test_the_page_may_run_only_its_own_scripts_and_no_other_site_may_call(server: Running) -> None:
    answer = requests.get(f"{server.url}/", timeout=PATIENCE, headers={"Origin": "https://elsewhere.example"})
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    asked = requests.options(
        f"{server.url}/generate",
        timeout=PATIENCE,
        headers={"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"},
    )
    assert "Access-Control-Allow-Origin" not in asked.headers


def test_each_answer_has_an_id_of_the_servers_own(server: Running) -> None:
    ids = {
        requests.get(f"{server.url}/ping", timeout=PATIENCE, headers={"X-Request-Id": "mine"}).headers["X-Request-Id"]
        for _ in range(3)
    }
    assert len(ids) == 3
    assert "mine" not in ids


@pytest.mark.parametrize(
    "path", ["/playground/../http_guard.py", "/playground/%2e%2e/settings.py", "/nope", "/v1/nope"]
)
def test_nothing_else_is_served(server: Running, path: str) -> None:
    request = requests.Request("GET", server.url).prepare()
    request.url = f"{server.url}{path}"  # as it stands, dots and all
    with requests.Session() as http:
        answer = http.send(request, timeout=PATIENCE)
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_another_method_is_told_which_one(server: Running) -> None:
    answer = requests.get(f"{server.url}/generate", timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


# -- bodies -----------------------------------------------------------------------------------------------------------


BROKEN = (
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b"\xff\xfe\x00",
    '{"input": {"script": "Xylophone"}}'.encode("utf-16"),
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"input": {"script": "Xylophone", "temperature": NaN}}',
    b'{"input": {"script": "Xylophone", "temperature": -Infinity}}',
    b'{"input": {"script": "Xylophone", "seed": ' + b"9" * 5_000 + b"}}",
)
WRONG = (
    b'{"input": "Xylophone"}',
    b'{"input": null}',
    b'{"script": "Xylophone"}',
    b'{"input": {}}',
    b'{"input": {"script": " "}}',
    b'{"input": {"script": "Xylophone", "temperature": 1e999}}',
    b'{"input": {"script": {"$ne": null}}}',
    b'{"input": {"script": "\\ud800 Xylophone", "max_new_tokens": 0}}',
    b'{"input": {"script": "Xylophone", "references": [{"path": "/etc/passwd"}]}}',
    b'{"input": {"script": "Xylophone", "references": [{"url": "file:///etc/passwd"}]}}',
    b'{"input": {"script": "Xylophone", "references": [{"audio_url": "http://127.0.0.1:1/x.wav"}]}}',
    b'{"input": {"script": "Xylophone", "references": [{"audio_base64": "bm90IGF1ZGlv"}]}}',
    b'{"input": {"script": "Xylophone", "stream": true, "response_format": "../../etc"}}',
)


@pytest.mark.parametrize(
    ("path", "body"), [(path, body) for path in ("/generate", "/v1/audio/speech") for body in BROKEN]
)
def test_what_is_not_json_is_the_callers_fault(server: Running, path: str, body: bytes) -> None:
    assert_refused(server, path, body)


@pytest.mark.parametrize("body", WRONG)
def test_what_is_no_job_is_the_callers_fault(server: Running, body: bytes) -> None:
    assert_refused(server, "/generate", body)


def assert_refused(server: Running, path: str, body: bytes) -> None:
    answer = requests.post(f"{server.url}{path}", data=body, headers=JSON, timeout=PATIENCE)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert isinstance(error["message"] if path.startswith("/v1") else error, str)
    for leak in ("Traceback", "/etc/", "127.0.0.1", "site-packages", "Xylophone"):
        assert leak not in answer.text


def test_half_a_letter_does_not_break_the_answer(server: Running) -> None:
    answer = requests.post(
        f"{server.url}/generate",
        data=b'{"input": {"script": "\\ud83d half a letter \\u0000 and a zero", "max_new_tokens": 20}}',
        headers=JSON,
        timeout=PATIENCE,
    )
    assert answer.status_code in (200, 400)
    assert answer.json()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken_so_that_other_sites_must_ask_first(server: Running, kind: str) -> None:
    answer = requests.post(
        f"{server.url}/generate",
        data=b'{"input": {"script": "Hello."}}',
        headers={"Content-Type": kind},
        timeout=PATIENCE,
    )
    assert answer.status_code == 415


def test_a_body_over_the_limit_is_cut_off_whatever_length_it_states(server: Running) -> None:
    limit = server.service.settings.max_request_bytes
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        raw.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        try:
            while sent < 4 * limit:
                raw.sendall(piece)
                sent += 0x10000
        except OSError:
            pass  # the server has hung up
        answer = read_all(raw)
    assert sent < 4 * limit
    assert answer == b"" or b" 413 " in answer.split(b"\r\n")[0]  # a reset may overtake the answer
    assert requests.get(f"{server.url}/ping", timeout=PATIENCE).status_code == 200


def test_a_body_a_little_over_the_limit_is_told_so(server: Running) -> None:
    limit = server.service.settings.max_request_bytes
    answer = requests.post(f"{server.url}/generate", data=b" " * (limit + 1), headers=JSON, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert str(limit) in answer.json()["error"]


def read_all(raw: socket.socket) -> bytes:
    parts = []
    try:
        while part := raw.recv(65_536):
            parts.append(part)
    except OSError:
        pass
    return b"".join(parts)


def test_headers_without_end_are_refused(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        try:
            raw.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n")
            for index in range(10_000):
                raw.sendall(f"X-{index}: {'y' * 100}\r\n".encode())
        except OSError:
            pass
        answer = read_all(raw)
    assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]
    assert requests.get(f"{server.url}/ping", timeout=PATIENCE).status_code == 200


def test_an_error_in_the_queues_shape_stays_flat(server: Running) -> None:
    answer = server.generate({"script": "Hello.", "top_p": 7})
    assert answer.status_code == 400
    body = json.loads(answer.text)
    assert (body["code"], body["field"]) == ("invalid_request", "top_p")
    assert "7" in body["error"]
