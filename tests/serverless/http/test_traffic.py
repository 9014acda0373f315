"""Clients that hang up, many clients at once, and what the metrics say about them."""

from __future__ import annotations

import base64
import gc
import json
import os
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from serverless.config.settings import Settings
from tests.helpers.http_server import Running, hang_up, serving_http
from tests.helpers.patience import PATIENCE, wait_until

LONG = {"script": "word " * 2_000, "max_new_tokens": 8_000, "chunk_method": "word", "seed": 5}
CLIENTS = 32


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"input": {**LONG, "stream": True}}),
        ("/v1/audio/speech", {"input": LONG["script"], "response_format": "pcm"}),
        ("/v1/audio/speech", {"input": LONG["script"], "response_format": "pcm", "stream_format": "sse"}),
    ],
)
def test_hanging_up_in_mid_stream_frees_the_slot(server: Running, path: str, body: dict[str, object]) -> None:
    with requests.post(f"{server.url}{path}", json=body, stream=True, timeout=PATIENCE) as answer:
        pieces = answer.iter_content(1_000)  # dropping it would hang up
        assert next(pieces)
        assert server.service.stats()["in_flight"] == 1
    wait_until(server.idle)


def test_hanging_up_before_the_answer_frees_the_slot(server: Running) -> None:
    hang_up(server, LONG)
    wait_until(server.idle)


def test_hanging_up_while_every_slot_is_taken_leaves_the_others_alone(server: Running) -> None:
    slots = server.service.max_concurrency
    streams = [
        requests.post(f"{server.url}/generate", json={"input": {**LONG, "stream": True}}, stream=True, timeout=PATIENCE)
        for _ in range(slots)
    ]
    try:
        hang_up(server, {**LONG, "stream": True})
        wait_until(lambda: server.service.stats()["in_flight"] == slots)
    finally:
        for stream in streams:
            stream.close()
    wait_until(server.idle)


def test_32_clients_are_served_without_an_error_in_flat_memory(server: Running) -> None:
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        script = f"Client number {number} says a few words."
        answer = server.generate({"script": script, "max_new_tokens": 24, "seed": number, "stream": number % 2 == 0})
        items = [json.loads(line) for line in answer.text.splitlines()]
        sound = b"".join(base64.b64decode(item.get("audio_base64", "")) for item in items)
        with lock:
            statuses[answer.status_code] += 1
            if items[-1].get("prompt") != script or len(sound) < 1_000:
                wrong.append(script)

    def crowd() -> int:
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(client, range(CLIENTS)))
        wait_until(server.idle)
        gc.collect()
        return resident_bytes()

    crowd()  # fills caches, pools and arenas
    before = crowd()
    after = max(crowd(), crowd())
    assert statuses == {200: 4 * CLIENTS}
    assert wrong == []
    assert after - before < 30e6


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def metric(server: Running, name: str) -> float:
    text = requests.get(f"{server.url}/metrics", timeout=PATIENCE).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_the_metrics_count_what_happened(server: Running) -> None:
    served = 'higgs_requests_total{route="/generate",status="200"}'
    refused = 'higgs_requests_total{route="/v1/audio/speech",status="400"}'
    names = (
        served,
        refused,
        'higgs_errors_total{code="invalid_request"}',
        "higgs_audio_seconds_total",
        "higgs_time_to_first_audio_seconds_count",
        "higgs_request_seconds_count",
        "higgs_real_time_factor_count",
        'higgs_jobs_total{outcome="finished"}',
        'higgs_jobs_total{outcome="failed"}',
        'higgs_tokens_total{kind="completion"}',
    )
    before = {name: metric(server, name) for name in names}
    worked = metric(server, "higgs_work_seconds_total")
    results = [server.generate({"script": "Count me.", "max_new_tokens": 30, "seed": n}).json() for n in range(2)]
    streamed = server.generate({"script": "Count me.", "max_new_tokens": 30, "stream": True})
    results.append(json.loads(streamed.text.splitlines()[-1]))
    requests.post(f"{server.url}/v1/audio/speech", json={"input": "Hello.", "temperature": -1}, timeout=PATIENCE)
    grown = {name: metric(server, name) - before[name] for name in names}
    seconds = sum(result["duration_seconds"] for result in results)
    tokens = sum(result["usage"]["completion_tokens"] for result in results)
    assert list(grown.values()) == [3, 1, 1, pytest.approx(seconds), 1, 3, 3, 3, 1, tokens]
    total, *waited = (sum(each["timings"][name] for each in results) for name in ("total", "queue", "reference"))
    assert metric(server, "higgs_work_seconds_total") - worked == pytest.approx(total - sum(waited), abs=1e-3)
    assert metric(server, "higgs_ready") == 1
    assert metric(server, "higgs_slots") == server.service.max_concurrency
    assert metric(server, "higgs_slots_active") == 0
    assert metric(server, "higgs_queue_depth") == 0


def test_waiting_for_a_voice_is_no_work(serve: Any) -> None:
    """However many jobs wait while one is made."""
    server = serve()
    job = {"script": "Count me.", "voice": "alloy", "max_new_tokens": 30}
    timings = server.generate(job).json()["timings"]
    before = timings["queue"] + timings["voice"] + timings["reference"]
    assert timings["voice"] > 0
    assert metric(server, "higgs_work_seconds_total") == pytest.approx(timings["total"] - before, abs=1e-3)


def test_a_client_that_left_is_counted_as_cancelled(server: Running) -> None:
    names = ('higgs_errors_total{code="cancelled"}', 'higgs_jobs_total{outcome="cancelled"}')
    before = [metric(server, name) for name in names]
    hang_up(server, LONG)
    wait_until(lambda: [metric(server, name) for name in names] == [count + 1 for count in before])


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/audio/speech/batch"])
def test_an_answer_that_its_client_did_not_take_is_no_success(server: Running, path: str) -> None:
    served, left = (f'higgs_requests_total{{route="{path}",status="{status}"}}' for status in (200, 499))
    before = metric(server, served), metric(server, left)
    body = {"input": LONG["script"], "response_format": "pcm"}
    with requests.post(f"{server.url}{path}", json={**body, "items": [body]}, stream=True, timeout=PATIENCE) as answer:
        pieces = answer.iter_content(None)
        assert next(pieces)
    wait_until(lambda: metric(server, left) == before[1] + 1)
    assert metric(server, served) == before[0]


def test_a_server_that_did_nothing_yet_has_no_ratio(serve: Any) -> None:
    text = requests.get(f"{serve().url}/metrics", timeout=PATIENCE).text
    assert not [line for line in text.splitlines() if "nan" in line.lower()]
    for name in ("higgs_work_seconds_total", "higgs_audio_seconds_total", "higgs_real_time_factor_count"):
        assert f"{name} 0.0" in text


def test_one_too_many_is_told_to_come_back() -> None:
    settings = Settings(model_id="tiny", device="cpu", max_concurrency=1, max_queued_requests=0)
    with serving_http(settings) as small:
        job = {"input": {**LONG, "stream": True}}
        with requests.post(f"{small.url}/generate", json=job, stream=True, timeout=PATIENCE) as held:
            assert held.status_code == 200
            refused = small.generate({"script": "One too many."})
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert int(refused.headers["Retry-After"]) > 0
        wait_until(small.idle)
        assert small.generate({"script": "Now it fits.", "max_new_tokens": 20}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"input": {**LONG, "stream": True}}),
        ("/v1/audio/speech", {"input": LONG["script"], "response_format": "pcm"}),
        ("/v1/audio/speech", {"input": LONG["script"], "response_format": "pcm", "stream_format": "sse"}),
    ],
)
def test_an_engine_that_dies_in_mid_stream_is_no_whole_file(path: str, body: dict[str, object]) -> None:
    with serving_http(Settings(model_id="tiny", device="cpu")) as doomed:
        with requests.post(f"{doomed.url}{path}", json=body, stream=True, timeout=PATIENCE) as answer:
            assert answer.status_code == 200
            pieces = answer.iter_content(None)
            next(pieces)
            doomed.service.engine.close()  # type: ignore[union-attr]
            if answer.headers["Content-Type"] == "audio/pcm":
                with pytest.raises(requests.exceptions.ChunkedEncodingError):
                    list(pieces)
            else:
                last = b"".join(pieces).strip().splitlines()[-1].removeprefix(b"data: ")
                assert "error" in json.loads(last)
            broken = f'higgs_requests_total{{route="{path}",status="500"}}'
            if answer.headers["Content-Type"] == "audio/pcm":
                wait_until(lambda: metric(doomed, broken) == 1)
        wait_until(lambda: bool(doomed.fatal))
        assert requests.get(f"{doomed.url}/ping", timeout=PATIENCE).status_code == 500
