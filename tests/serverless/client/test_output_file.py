"""The file that the client leaves behind: complete, and never in the place of something else."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from higgs_core.audio import wav_header
from serverless.client import __main__ as client
from tests.helpers.client_answers import AUDIO, WAV, lines, one_sentence
from tests.helpers.loopback import Connection, Server


def saved(path: Path, meanwhile: Callable[[], object] = lambda: None) -> int:
    """The exit status of a job whose audio is to be at `path`; `meanwhile` happens while it is generated."""

    def script(connection: Connection) -> None:
        meanwhile()
        connection.answer(lines(AUDIO))

    with Server(script) as server:
        return client.main(["--url", server.url, "Hello.", "-o", str(path)])


def test_links_that_wait_for_the_file_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("x.wav", "x.wav.part", ".x.wav.part"):
        (tmp_path / name).symlink_to(precious)
    assert saved(tmp_path / "x.wav") == 0
    assert precious.read_text() == "precious"
    assert (tmp_path / "x.wav").read_bytes() == WAV
    assert not (tmp_path / "x.wav").is_symlink()


def test_a_file_that_was_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_text("old")
    assert saved(tmp_path / "x.wav") == 0
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [WAV]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_that_appears_meanwhile_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str | None
) -> None:
    path = tmp_path / "x.wav"
    if old is not None:
        path.write_text(old)
    assert saved(path, lambda: path.write_text("from someone else")) == 0
    assert path.read_text() == "from someone else"
    assert (tmp_path / "x-1.wav").read_bytes() == WAV
    assert "x-1.wav" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", [".", "missing/x.wav", "pipe", "nul\0.wav"])
def test_a_place_where_no_file_can_be_is_said_before_the_job_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Server(lambda connection: connection.answer(lines(AUDIO))) as server:
        status = client.main(["--url", server.url, "Hello.", "-o", f"{tmp_path}/{name}"])
        assert server.seen == []
    one_sentence(status, capsys, expected=1 if name.endswith(".wav") else 2)  # a suffix is an argument
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("length", [4, 12, 40, 44, 47])
def test_a_wav_header_that_ends_early_is_kept_as_it_is(tmp_path: Path, length: int) -> None:
    audio = wav_header("pcm_16", None)[:length]
    body = lines({**AUDIO, "audio_base64": base64.b64encode(audio).decode()})
    with Server(lambda connection: connection.answer(body)) as server:
        assert client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")]) == 0
    assert (tmp_path / "x.wav").stat().st_size == len(audio)
