"""A server that names links to anywhere, and addresses that are none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serverless.client import __main__ as client
from serverless.client.download import download
from serverless.client.errors import ClientError
from tests.helpers.client_answers import AUDIO, WAV, answered, lines, one_sentence
from tests.helpers.loopback import Server

LINKS = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1/x",
    "//127.0.0.1/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://user:pass@127.0.0.1/",
    "http://[fe80::1]/",
    "http://0.0.0.0/",
    "http:\\\\127.0.0.1\\",
    "http://127.0.0.1:99999/",
    "not a link\x1b[2J",
]


@pytest.mark.parametrize("address", LINKS)
def test_a_link_to_anywhere_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    body = lines({"audio_url": address, "is_final": True})
    assert "cannot be downloaded" in answered(tmp_path, capsys, lambda connection: connection.answer(body))


@pytest.mark.parametrize("target", LINKS[:5])
def test_a_link_that_redirects_to_anywhere_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    with Server(lambda connection: connection.redirect(target)) as bucket:
        body = lines({"audio_url": bucket.url, "is_final": True})
        assert "cannot be downloaded" in answered(tmp_path, capsys, lambda connection: connection.answer(body))
        assert len(bucket.seen) <= 4


@pytest.mark.parametrize("endpoint", ["https://1.1.1.1/v2/e", "https://nowhere.invalid/v2", "http://[::bad"])
def test_a_public_server_cannot_name_a_private_address(endpoint: str) -> None:
    with Server(lambda connection: connection.answer(WAV)) as inside:
        with pytest.raises(ClientError, match="not public"):
            asyncio.run(download(f"{inside.url}/x.wav", endpoint=endpoint))
        assert inside.seen == []


def test_a_link_beside_streamed_audio_adds_nothing_to_the_file(tmp_path: Path) -> None:
    with Server(lambda connection: connection.answer(b"more")) as bucket:
        body = lines({**AUDIO, "audio_url": f"{bucket.url}/x.wav"})
        with Server(lambda connection: connection.answer(body)) as server:
            assert client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")]) == 0
        assert bucket.seen == []
    assert (tmp_path / "x.wav").read_bytes() == WAV


@pytest.mark.parametrize(
    "address", ["", "localhost", "ftp://a", "http://", "http://[::1", "http://a:b", "http://u:p@a", "http://a:99999"]
)
def test_an_address_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert "--url" in one_sentence(client.main(["--url", address, "Hello."]), capsys, expected=2)
