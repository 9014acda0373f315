"""Paths that a job names: nothing outside the allowed folders is opened, and nothing that is not a regular file."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path

import pytest

from higgs_core.contained_files import FileRefused, read_inside
from higgs_core.errors import ReferenceAudioError
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from tests.helpers.clips import resolve
from tests.helpers.paths import CLIP

CAP = 1_000_000


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "clip.wav").write_bytes(CLIP.read_bytes())
    (tmp_path / "secret.wav").write_bytes(CLIP.read_bytes())
    (tmp_path / "allowed-not").mkdir()
    (tmp_path / "allowed-not" / "clip.wav").write_bytes(CLIP.read_bytes())
    return folder


def test_a_clip_inside_is_read(allowed: Path) -> None:
    assert read_inside(allowed / "clip.wav", [allowed], CAP) == CLIP.read_bytes()
    (allowed / "deeper").mkdir()
    assert read_inside(allowed / "deeper" / ".." / "clip.wav", [Path("/nowhere"), allowed], CAP)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.wav",
        "./../secret.wav",
        "x/../../secret.wav",
        "../allowed-not/clip.wav",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cwd/pyproject.toml",
        "/dev/zero",
        "/dev/stdin",
        "//etc/passwd",
        "",
        ".",
        "~/clip.wav",
        "$HOME/clip.wav",
        "clip.wav\0.txt",
        "missing.wav",
        "..%2fsecret.wav",
        "..\\secret.wav",
        "a" * 5000,
        "../" * 3000 + "etc/passwd",
        "\udcff",
        "file:///etc/passwd",
    ],
)
def test_naughty_paths_are_refused_alike(allowed: Path, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = Settings(reference_dirs=(allowed,))
    named = path if path.startswith(("/", "~", "$", "file:")) else f"{allowed}/{path}"
    with pytest.raises(ReferenceAudioError) as failure:
        asyncio.run(resolve([ReferenceSource("references[0]", path=named)], settings, timeout_seconds=1))
    assert failure.value.message == "references[0] is not a readable file inside the allowed folders."
    for told in (failure.value.message, failure.value.hint or "", caplog.text):
        assert str(allowed) not in told
        assert "passwd" not in told


def test_a_relative_path_starts_at_the_working_folder(allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(allowed.parent)
    assert read_inside(Path("allowed/clip.wav"), [allowed], CAP)
    with pytest.raises(FileRefused, match="outside"):
        read_inside(Path("secret.wav"), [allowed], CAP)


def test_links_that_lead_out_are_refused_and_links_inside_are_followed(allowed: Path) -> None:
    (allowed / "out.wav").symlink_to(allowed.parent / "secret.wav")
    (allowed / "folder").symlink_to(allowed.parent)
    (allowed / "twice.wav").symlink_to(allowed / "out.wav")
    (allowed / "zero.wav").symlink_to("/dev/zero")
    (allowed / "loop.wav").symlink_to(allowed / "loop.wav")
    (allowed / "in.wav").symlink_to("clip.wav")
    for name in ("out.wav", "folder/secret.wav", "folder/allowed-not/clip.wav", "twice.wav", "zero.wav", "loop.wav"):
        with pytest.raises(FileRefused):
            read_inside(allowed / name, [allowed], CAP)
    assert read_inside(allowed / "in.wav", [allowed], CAP)


def test_an_allowed_folder_that_is_a_link_allows_what_it_leads_to(allowed: Path) -> None:
    (allowed.parent / "volume").symlink_to(allowed)
    assert read_inside(allowed.parent / "volume" / "clip.wav", [allowed.parent / "volume"], CAP)
    assert read_inside(allowed / "clip.wav", [allowed.parent / "volume"], CAP)


def test_what_is_not_a_regular_file_is_refused_without_waiting_for_it(allowed: Path) -> None:
    os.mkfifo(allowed / "pipe.wav")
    (allowed / "folder.wav").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(allowed / "s"))
        for name in ("pipe.wav", "folder.wav", "s"):
            with pytest.raises(FileRefused):
                read_inside(allowed / name, [allowed], CAP)
    for device in ("/dev/zero", "/dev/null", "/dev/urandom"):
        with pytest.raises(FileRefused, match="not a regular file"):
            read_inside(Path(device), [Path("/dev")], CAP)


def test_files_of_endless_or_no_stated_size_are_read_up_to_the_cap(allowed: Path) -> None:
    with (allowed / "sparse.wav").open("wb") as sparse:
        sparse.truncate(2**40)
    with pytest.raises(FileRefused, match="more than 1000000 bytes"):
        read_inside(allowed / "sparse.wav", [allowed], CAP)
    assert read_inside(allowed / "clip.wav", [allowed], CLIP.stat().st_size)
    with pytest.raises(FileRefused, match="bytes"):
        read_inside(allowed / "clip.wav", [allowed], CLIP.stat().st_size - 1)
    assert read_inside(Path("/proc/self/status"), [Path("/proc")], CAP)  # states a size of 0


def test_without_allowed_folders_every_path_is_refused() -> None:
    with pytest.raises(ReferenceAudioError, match="inside the allowed folders"):
        asyncio.run(
            resolve([ReferenceSource("references[0]", path=str(CLIP))], Settings(reference_dirs=()), timeout_seconds=1)
        )


def test_no_descriptor_stays_open(allowed: Path) -> None:
    os.mkfifo(allowed / "pipe.wav")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("pipe.wav", "clip.wav", "missing.wav", ""):
        for _ in range(5):
            try:
                read_inside(allowed / name, [allowed], 10)
            except FileRefused:
                continue
    assert len(os.listdir("/proc/self/fd")) == before
