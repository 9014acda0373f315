"""What servers answer to the client, and what it says where it must fail."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from higgs_core.audio import wav_header
from serverless.client import __main__ as client
from tests.helpers.loopback import Connection, Server

WAV = wav_header("pcm_16", 480) + bytes(480)
"""What a server of these tests calls audio."""
AUDIO = {"audio_base64": base64.b64encode(WAV).decode(), "audio_format": "wav", "is_final": True}
"""The same as an item."""
STREAM = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
"""How an answer begins whose body ends with its connection."""


def lines(*items: Any) -> bytes:
    """A stream: an item in each line."""
    return b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in items)


def answered(tmp_path: Path, capsys: pytest.CaptureFixture[str], script: Callable[[Connection], None]) -> str:
    """What the HTTP door's client says of a server, where it must fail."""
    with Server(script) as server:
        status = client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")])
    assert list(tmp_path.iterdir()) == []
    return one_sentence(status, capsys)


def one_sentence(status: int, capsys: pytest.CaptureFixture[str], expected: int = 1) -> str:
    """What the client says when it fails: a line on stderr, nothing else."""
    captured = capsys.readouterr()
    assert status == expected
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.rstrip("\n").isprintable()
    return captured.err
