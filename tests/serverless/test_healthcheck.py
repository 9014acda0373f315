"""What the image's HEALTHCHECK says of a container."""

from __future__ import annotations

import pytest

from serverless import healthcheck
from tests.helpers.http_stub import Request, answering


def checked_against(monkeypatch: pytest.MonkeyPatch, answer: int) -> int:
    asked: list[Request] = []

    def ping(request: Request) -> tuple[int, bytes]:
        asked.append(request)
        return answer, b""

    with answering(ping) as address:
        monkeypatch.setenv("HIGGS_AUDIO_MODE", "http")
        monkeypatch.setenv("HIGGS_AUDIO_HOST", "127.0.0.1")
        monkeypatch.setenv("PORT_HEALTH", address.rpartition(":")[2])
        result = healthcheck.main()
    assert [(request.method, request.path) for request in asked] == [("GET", "/ready")]
    return result


@pytest.mark.parametrize(("answer", "result"), [(200, 0), (204, 1), (503, 1), (404, 1)])
def test_a_server_is_healthy_when_it_serves(monkeypatch: pytest.MonkeyPatch, answer: int, result: int) -> None:
    assert checked_against(monkeypatch, answer) == result


def test_a_server_that_is_not_there_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(lambda _: (200, b"")) as address:
        port = address.rpartition(":")[2]
    monkeypatch.setenv("HIGGS_AUDIO_MODE", "http")
    monkeypatch.setenv("HIGGS_AUDIO_HOST", "127.0.0.1")
    monkeypatch.setenv("PORT", port)
    assert healthcheck.main() == 1


def test_a_queue_worker_is_healthy_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGGS_AUDIO_MODE", "queue")
    assert healthcheck.main() == 0


def test_a_wrong_setting_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGGS_AUDIO_MODE", "telephone")
    assert healthcheck.main() == 1
