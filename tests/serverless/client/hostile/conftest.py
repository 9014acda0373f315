"""Small limits and short waits for tests of servers that mean harm."""

from __future__ import annotations

import pytest

from serverless.client import link, output, transports


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "POLL_SECONDS", (0.01,))
    monkeypatch.setattr(link, "WAIT_SECONDS", (0.01,) * 5)
    monkeypatch.setattr(link, "MAX_ANSWER_BYTES", 300_000)
    monkeypatch.setattr(link, "MAX_STREAM_BYTES", 1_000_000)
    monkeypatch.setattr(link, "MAX_LINES", 10_000)
    monkeypatch.setattr(output, "MAX_FILE_BYTES", 100_000)
    monkeypatch.setenv("RUNPOD_API_KEY", "rp_secret")
