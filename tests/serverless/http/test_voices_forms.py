"""Hostile forms, and forms in which something is too much."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import requests

from serverless.http import forms
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.raw_http import connected, read_all
from tests.helpers.voice_routes import DATA, ROUTE, get, refused, upload

BOUNDARY = b"limit"
FORM = {"Content-Type": "multipart/form-data; boundary=limit"}


def part(head: bytes, data: bytes = b"x") -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def text(name: str, data: bytes = b"x") -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name.encode() + b'"', data)


END = b"--" + BOUNDARY + b"--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no form at all", id="no form"),
        pytest.param(text("name"), id="cut off"),
        pytest.param(text("name")[:-9], id="cut off in a part"),
        pytest.param(END, id="no parts"),
        pytest.param(text("name") * 2 + END, id="twice"),
        pytest.param(b"".join(text(f"f{at}") for at in range(10_000)) + END, id="10 000 parts"),
        pytest.param(part(b"Content-Disposition: form-data") + END, id="no name"),
        pytest.param(part(b'Content-Disposition: attachment; name="name"') + END, id="no form-data"),
        pytest.param(part(b"Content-Type: text/plain") + END, id="no disposition"),
        pytest.param(part(b'X: y\r\nContent-Disposition: form-data; name="\xff\xfe"') + END, id="name is no text"),
        pytest.param(text("name", b"\xff\xfe\x00") + END, id="text is no text"),
        pytest.param(part(b'Content-Disposition: form-data; name="name"; filename="x"') + END, id="text as a file"),
        pytest.param(part(b"A: " + b"x" * 100_000) + END, id="huge header"),
        pytest.param(part(b"\r\n".join(b"A%d: x" % at for at in range(1_000))) + END, id="many headers"),
        pytest.param(b"\r\n--limit" * 100_000, id="boundaries alone"),
    ],
)
def test_what_is_no_form_is_the_callers_fault(worker: Running, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = requests.post(f"{worker.url}{ROUTE}", data=body, headers=FORM, timeout=PATIENCE)
    refused(answer, 400)
    assert "multipart" not in " ".join(record.name for record in caplog.records)


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'x' * 71}", '; boundary="'])
def test_a_form_without_a_sound_boundary_is_refused(worker: Running, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    answer = requests.post(f"{worker.url}{ROUTE}", data=text("name") + END, headers=headers, timeout=PATIENCE)
    refused(answer, 400)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "audio/wav"])
def test_another_type_of_body_is_refused(worker: Running, kind: str) -> None:
    answer = requests.post(f"{worker.url}{ROUTE}", data=DATA, headers={"Content-Type": kind}, timeout=PATIENCE)
    assert "neither a form nor JSON" in refused(answer, 415)


def test_a_file_or_a_text_over_its_limit_is_refused(worker: Running) -> None:
    assert "audio_sample has more than 10 MB." in refused(upload(worker, bytes(forms.MAX_FILE_BYTES + 1)), 413)
    assert "over the limit" in refused(upload(worker, bytes(forms.MAX_FORM_BYTES)), 413)
    assert refused(upload(worker, ref_text="x" * 40_000), 413).startswith("ref_text has more than")


def test_a_form_without_an_end_is_cut_off(worker: Running) -> None:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\nTransfer-Encoding: chunked"
    with connected(worker.url) as raw:
        raw.sendall(head.encode() + b"\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        sent = 0
        try:
            while sent < 6 * forms.MAX_FORM_BYTES:
                raw.sendall(piece)
                sent += 0x10000
        except OSError:
            pass  # the server has hung up
        answer = read_all(raw)
    assert sent < 6 * forms.MAX_FORM_BYTES
    assert answer == b"" or b" 413 " in answer.split(b"\r\n")[0]
    wait_until(lambda: worker.app.state.bodies.budget.total == 0)


def test_parts_of_unknown_fields_are_ignored_and_counted(worker: Running) -> None:
    body = upload(worker, colour="blue", size="4").json()
    assert body["warnings"] == ["2 parts of the form were ignored, as no field has their name."]


def test_a_name_of_a_file_is_never_used_as_one(worker: Running, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.parent.iterdir()}
    assert upload(worker, filename="../../evil.wav").status_code == 200
    assert {path.name for path in tmp_path.parent.iterdir()} == before
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert "evil" not in get(worker).text
