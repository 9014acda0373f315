"""Clips made to cost memory or time, to make a decoder open other files, or to break it."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import struct
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.audio import decode_audio, encode_audio, wav_header
from higgs_core.audio.child_process import ChildFailed
from higgs_core.audio.ffmpeg import decode_with_ffmpeg
from higgs_core.audio.sniff import Container
from higgs_core.errors import ReferenceAudioError
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """What NumPy and Python allocate inside stays below this."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 1e6


def speech(seconds: float = 1.0) -> np.ndarray:
    samples, _ = soundfile.read(CLIP, dtype="float32", frames=round(seconds * 24_000))
    return samples


def file(samples: np.ndarray, rate: int, **options: str) -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, rate, **options)
    return target.getvalue()


def flac_with(rate: int, channels: int, total_samples: int) -> bytes:
    """A second of speech as FLAC whose STREAMINFO claims something else."""
    data = bytearray(encode_audio(speech(), "flac"))
    data[18:26] = (rate << 44 | (channels - 1) << 41 | 15 << 36 | total_samples).to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize(("rate", "channels"), [(655_350, 8), (655_350, 1), (24_000, 8), (1, 1), (0, 1)])
@pytest.mark.parametrize("total", [2**36 - 1, 24_000, 0])
def test_a_flac_header_that_lies_allocates_nothing(rate: int, channels: int, total: int) -> None:
    with at_most(8), pytest.raises(ReferenceAudioError):
        decode_audio(flac_with(rate, channels, total), origin="clip")


@pytest.mark.parametrize("total", [2**36 - 1, 24_000 * 3600, 0])
def test_a_flac_with_a_wrong_or_unknown_length_is_read_to_its_real_end(total: int) -> None:
    with at_most(8):
        decoded = decode_audio(flac_with(24_000, 1, total), origin="clip")
    np.testing.assert_array_equal(decoded, speech())


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (22, struct.pack("<H", 0)),
        (22, struct.pack("<H", 65_535)),
        (24, struct.pack("<I", 0)),
        (24, struct.pack("<I", 2**31 - 1)),
        (24, struct.pack("<I", 2**32 - 1)),
        (34, struct.pack("<H", 0)),
        (16, struct.pack("<I", 2**32 - 1)),
        (20, struct.pack("<H", 0x31)),
        (20, struct.pack("<H", 0x55)),
    ],
)
def test_a_wav_header_that_lies_is_refused(offset: int, value: bytes) -> None:
    data = bytearray(encode_audio(speech(), "wav"))
    data[offset : offset + len(value)] = value
    with at_most(8), pytest.raises(ReferenceAudioError):
        decode_audio(bytes(data), origin="clip")


@pytest.mark.parametrize("size", [2**31 - 1, 2**32 - 2, 2**32 - 1, 10**9])
def test_a_wav_that_claims_gigabytes_is_read_to_its_real_end(size: int) -> None:
    data = bytearray(encode_audio(speech(), "wav"))
    data[40:44] = struct.pack("<I", size)
    with at_most(8):
        np.testing.assert_array_equal(decode_audio(bytes(data), origin="clip"), speech())


def test_an_hour_in_twenty_megabytes_is_read_for_a_minute_only() -> None:
    hour = np.full(20_000_000, 0.1, np.float32)
    data = file(hour, 8_000, format="WAV", subtype="ULAW")
    with at_most(8), pytest.raises(ReferenceAudioError, match="longer than 60 s"):
        decode_audio(data, origin="clip")


def test_eight_channels_at_192_khz_are_mixed_while_they_are_read() -> None:
    wide = np.zeros((192_000, 8), np.int16)
    wide[:, 0] = (20_000 * np.sin(np.arange(192_000) / 50)).astype(np.int16)
    data = file(wide, 192_000, format="WAV", subtype="PCM_16")
    with at_most(4), pytest.raises(ReferenceAudioError, match=r"longer than 0\.9 s"):
        decode_audio(data, origin="clip", max_seconds=0.9)
    assert len(decode_audio(data, origin="clip")) == 24_000


@pytest.mark.parametrize(
    "options", [{"format": "OGG", "subtype": "OPUS"}, {"format": "OGG", "subtype": "VORBIS"}, {"format": "MP3"}]
)
def test_minutes_in_a_small_compressed_file_are_refused(options: dict[str, str]) -> None:
    tone = (0.1 * np.sin(np.arange(8_000 * 120) / 8)).astype(np.float32)
    data = file(tone, 8_000, **options)
    assert len(data) < 1_500_000
    with at_most(8), pytest.raises(ReferenceAudioError, match="longer than 60 s"):
        decode_audio(data, origin="clip")


@needs_ffmpeg
@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.webm", "libopus")])
def test_minutes_that_ffmpeg_reads_are_refused(tmp_path: Path, name: str, codec: str) -> None:
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=90:r=24000", "-c:a", codec, "-b:a", "16k", name],
        cwd=tmp_path,
        check=True,
    )
    with at_most(30), pytest.raises(ReferenceAudioError, match="longer than 60 s"):
        decode_audio((tmp_path / name).read_bytes(), origin="clip")


PLAYLISTS = [
    b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3,\nfile:///etc/passwd\n",
    b"\xef\xbb\xbf#EXTM3U\nhttp://169.254.169.254/latest/meta-data/\n",
    b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    b"[playlist]\nFile1=/etc/passwd\nNumberOfEntries=1\n",
    b'<asx version="3.0"><entry><ref href="file:///etc/passwd"/></entry></asx>',
    b'<?xml version="1.0"?><MPD><Period><BaseURL>file:///etc/passwd</BaseURL></Period></MPD>',
    b'<?xml version="1.0"?><playlist><trackList><track><location>/etc/passwd</location></track></trackList></playlist>',
    b'<smil><body><audio src="/etc/passwd"/></body></smil>',
    b'REM\nFILE "/etc/passwd" WAVE\n',
    b"/etc/passwd",
    b"http://127.0.0.1/a.wav\n",
    b"[Reference]\nRef1=http://127.0.0.1/a\n",
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=audio 5004 RTP/AVP 0\r\n",
]


@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_a_playlist_never_reaches_a_decoder(playlist: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = tmp_path / "called"
    monkeypatch.setenv("PATH", str(_fake_ffmpeg(tmp_path, f"touch {called}")))
    with pytest.raises(ReferenceAudioError):
        decode_audio(playlist, origin="clip", extension_hint="m4a")
    assert not called.exists()


@needs_ffmpeg
@pytest.mark.parametrize("playlist", PLAYLISTS)
@pytest.mark.parametrize("magic", [b"\0\0\0\x18ftypM4A ", b"\x1aE\xdf\xa3", b"\xff\xf1\x50\x80"])
def test_a_playlist_behind_the_first_bytes_of_a_container_is_not_opened(magic: bytes, playlist: bytes) -> None:
    with pytest.raises(ReferenceAudioError):
        decode_audio(magic + playlist, origin="clip")


def _fake_ffmpeg(folder: Path, script: str) -> Path:
    """A folder for PATH with an ffmpeg that runs this instead."""
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(0o755)
    return program.parent


def test_ffmpeg_gets_a_pipe_and_a_forced_container_and_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A link holds the arguments, as the process may write no file.
    monkeypatch.setenv("PATH", str(_fake_ffmpeg(tmp_path, f'ln -sfn -- "$*" {tmp_path}/arguments; exit 1')))
    for container, demuxer, source in (
        (Container.MP4, "mov", "cache:pipe:0"),
        (Container.WEBM, "matroska", "pipe:0"),
        (Container.AAC, "aac", "pipe:0"),
    ):
        with pytest.raises(ChildFailed):
            decode_with_ffmpeg(
                b"bytes", container, origin="clip", sampling_rate=24_000, audio_seconds=61, seconds=PATIENCE
            )
        words = os.readlink(tmp_path / "arguments").split()
        assert words[words.index("-f") + 1] == demuxer
        assert words[words.index("-i") + 1] == source
        assert words[-1] == "pipe:1"
        assert words[words.index("-protocol_whitelist") + 1] == "cache,pipe"
        assert words[words.index("-t") + 1] == "61.000"
        assert not any("/" in word or ":/" in word for word in words)


def test_an_ffmpeg_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setenv("PATH", str(_fake_ffmpeg(tmp_path, "exec sleep 6000")))
    with pytest.raises(ReferenceAudioError, match="too long to decode"):
        decode_audio(b"\xff\xf1\x50\x80", origin="clip", seconds=0.5)
    (process,) = started
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus"])
def test_damaged_files_end_in_audio_or_in_a_sentence(name: str) -> None:
    draw = random.Random(name)
    whole = encode_audio(speech(), name)
    for _ in range(60):
        data = bytearray(whole)
        if draw.random() < 0.3:
            del data[draw.randrange(4, len(data)) :]
        for _ in range(draw.randrange(8)):
            data[draw.randrange(min(len(data), draw.choice((64, 10**6))))] = draw.randrange(256)
        with suppress(ReferenceAudioError):
            assert np.isfinite(decode_audio(bytes(data), origin="clip")).all()


@pytest.mark.parametrize(
    "magic", [b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"\xff\xfb\x90\x64"]
)
def test_nothing_but_the_first_bytes_is_refused(magic: bytes) -> None:
    for tail in (b"", b"\0" * 1000, b"\xff" * 1000):
        with pytest.raises(ReferenceAudioError):
            decode_audio(magic + tail, origin="clip")


def test_a_header_of_unknown_length_without_samples_is_refused() -> None:
    with pytest.raises(ReferenceAudioError, match=r"lasts 0\.00 s"):
        decode_audio(wav_header("pcm_16", None), origin="clip")
