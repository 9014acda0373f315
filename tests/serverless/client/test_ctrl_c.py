"""Ctrl-C at the client, in a process of its own, as the signal goes to the whole process."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.batches import client_process, finished
from tests.helpers.client_answers import STREAM, WAV, lines
from tests.helpers.loopback import Connection, Server
from tests.helpers.patience import wait_until

SILENT = b"silent"
PHASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "sending": (["--endpoint", "e"], {"run": SILENT}),
    "waiting": (["--endpoint", "e"], {"run": {"id": "j"}, "status": {"status": "IN_PROGRESS"}, "cancel": {}}),
    "asking": (["--endpoint", "e"], {"run": {"id": "j"}, "status": SILENT, "cancel": {}}),
    "streaming": (["--url"], {"generate": SILENT}),
    "downloading": (
        ["--endpoint", "e"],
        {
            "run": {"id": "j"},
            "status": {"status": "COMPLETED", "output": {"audio_url": "HERE/x/bucket"}},
            "bucket": SILENT,
        },
    ),
}


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_cleanly_in_each_phase(tmp_path: Path, phase: str) -> None:
    arguments, answers = PHASES[phase]
    last = list(answers)[1] if "cancel" in answers else list(answers)[-1]

    def script(connection: Connection) -> None:
        kind = connection.path.split("/")[2 if arguments[0] == "--endpoint" or "bucket" in connection.path else 1]
        if answers[kind] is SILENT:
            if kind == "generate":
                connection.send(STREAM + lines({"index": 0, "audio_base64": base64.b64encode(WAV).decode()}))
            connection.sock.recv(1)
            return
        connection.answer(json.dumps(answers[kind]).replace("HERE", server.url).encode())

    with Server(script) as server:
        where = [*arguments, server.url] if arguments == ["--url"] else [*arguments, "--api", server.url]
        with client_process(*where, "Hello.", "-o", str(tmp_path / "x.wav")) as process:
            wait_until(lambda: any(last in connection.path for connection in server.seen))
            process.send_signal(signal.SIGINT)
            status, out, err = finished(process)
        cancelled = any("/cancel/j" in connection.path for connection in server.seen)
    waits_for = "Waiting for the endpoint to cancel the job; a second Ctrl-C ends at once.\n" if cancelled else ""
    assert (status, out, err) == (130, "", f"{waits_for}Cancelled.\n")
    assert list(tmp_path.iterdir()) == []
    assert cancelled == ("cancel" in answers)


def test_a_second_ctrl_c_ends_at_once_and_leaves_no_file(tmp_path: Path) -> None:
    """While the endpoint does not answer to the cancellation."""

    def script(connection: Connection) -> None:
        kind = connection.path.split("/")[2]
        if kind == "cancel":
            connection.sock.recv(1)
            return
        connection.answer(b'{"id": "j"}' if kind == "run" else b'{"status": "IN_PROGRESS"}')

    with Server(script) as server:
        where = ["--endpoint", "e", "--api", server.url, "-o", str(tmp_path / "x.wav")]
        with client_process(*where, "Hello.") as process:
            wait_until(lambda: any("/status/" in connection.path for connection in server.seen))
            process.send_signal(signal.SIGINT)
            wait_until(lambda: any("/cancel/" in connection.path for connection in server.seen))
            process.send_signal(signal.SIGINT)
            status, _, err = finished(process)
    assert status == 130
    assert "Cancelled" not in err
    assert list(tmp_path.iterdir()) == []
