"""Encoding of audio, whole and as a stream, read back by other decoders."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.audio import FORMATS, StreamEncoder, encode_audio, is_available, to_pcm16
from higgs_core.errors import DeliveryError, NoAudioError, RequestError
from higgs_core.rates import SAMPLING_RATE
from tests.helpers.paths import ROOT
from tests.helpers.sound_files import (
    EVERY_FORMAT,
    LOSSLESS,
    decoded,
    delay_between,
    needs_ffmpeg,
    signal_to_noise,
    streamed,
    tone,
)


@pytest.mark.parametrize(("fmt", "encoding"), LOSSLESS)
def test_lossless_formats_give_back_the_samples(fmt: str, encoding: Any, speech: np.ndarray) -> None:
    for data in (encode_audio(speech, fmt, encoding), b"".join(streamed(speech, fmt, encoding, (1, 5000, 5001)))):
        np.testing.assert_array_equal(decoded(data, fmt), speech)


@pytest.mark.parametrize(("fmt", "delay"), [("mp3", 0), ("opus", 0), pytest.param("aac", 1024, marks=needs_ffmpeg)])
def test_lossy_formats_give_back_the_speech(fmt: str, delay: int, speech: np.ndarray) -> None:
    result = decoded(encode_audio(speech, fmt), fmt)
    assert delay_between(result, speech) == delay
    assert 0 <= len(result) - len(speech) - delay < 1024
    assert signal_to_noise(speech, result[delay:]) > 15


@pytest.mark.parametrize(("fmt", "encoding"), EVERY_FORMAT)
def test_a_stream_decodes_to_what_the_whole_file_decodes_to(fmt: str, encoding: Any, speech: np.ndarray) -> None:
    whole = decoded(encode_audio(speech, fmt, encoding), fmt)
    parts = streamed(speech, fmt, encoding, tuple(range(2400, len(speech), 2400)))
    result = decoded(b"".join(parts), fmt)
    delay = 1105 if fmt == "mp3" else 0  # its tag frame, which states the encoder's delay, is left out
    assert delay_between(result, whole) == delay
    assert len(result) >= len(whole)
    np.testing.assert_allclose(result[delay : delay + len(whole)], whole, atol=1e-4)


@pytest.mark.parametrize(("fmt", "encoding"), EVERY_FORMAT)
def test_streams_decode_to_the_same_wherever_they_are_cut(fmt: str, encoding: Any, speech: np.ndarray) -> None:
    few = decoded(b"".join(streamed(speech, fmt, encoding)), fmt)
    for cuts in ((1,), (0, 0, 7, 960, 961, 30_000), tuple(range(0, len(speech), 960))):
        np.testing.assert_array_equal(decoded(b"".join(streamed(speech, fmt, encoding, cuts)), fmt), few)


@pytest.mark.parametrize("fmt", ["wav", "pcm", "mp3", "opus"])
def test_bytes_leave_while_audio_still_comes(fmt: str, speech: np.ndarray) -> None:
    parts = streamed(speech, fmt, cuts=tuple(range(2400, len(speech), 2400)))
    assert len(parts[0]) > 0
    assert sum(map(len, parts[: len(parts) // 2])) > 0.25 * sum(map(len, parts))


@needs_ffmpeg
@pytest.mark.parametrize(("fmt", "encoding"), EVERY_FORMAT)
def test_another_decoder_reads_every_stream(fmt: str, encoding: Any, tmp_path: Path, speech: np.ndarray) -> None:
    (tmp_path / "stream").write_bytes(b"".join(streamed(speech, fmt, encoding, (9600, 30_000))))
    source = ["-f", "s16le", "-ar", "24000"] if fmt == "pcm" else []
    raw = subprocess.run(
        ["ffmpeg", "-v", "quiet", *source, "-i", tmp_path / "stream", "-f", "f32le", "-ac", "1", "-ar", "24000", "-"],
        check=True,
        capture_output=True,
    ).stdout
    result = np.frombuffer(raw, "<f4")
    delay = delay_between(result, speech)
    assert delay in {"mp3": (1105, 576 * 2), "aac": (1024,)}.get(fmt, (0,))
    assert signal_to_noise(speech, result[delay:]) > 15


def test_pythons_wave_reads_a_streamed_wav_to_its_end(speech: np.ndarray) -> None:
    with wave.open(io.BytesIO(b"".join(streamed(speech, "wav")))) as reader:
        frames = reader.readframes(reader.getnframes())
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (24_000, 1, 2)
    assert frames == to_pcm16(speech).tobytes()


@pytest.mark.parametrize(("encoding", "header", "tag"), [("pcm_16", 44, 1), ("float32", 56, 3)])
def test_a_wav_states_its_sizes_and_a_streamed_one_that_they_are_unknown(
    encoding: Any, header: int, tag: int, speech: np.ndarray
) -> None:
    whole, stream = encode_audio(speech, "wav", encoding), b"".join(streamed(speech, "wav", encoding))
    assert struct.unpack("<I", whole[4:8])[0] == len(whole) - 8
    assert struct.unpack("<I", whole[header - 4 : header])[0] == len(whole) - header
    assert struct.unpack("<H", whole[20:22])[0] == tag
    assert stream[4:8] == stream[header - 4 : header] == b"\xff\xff\xff\xff"
    assert stream[header:] == whole[header:]


def test_flac_states_length_and_checksum_also_when_it_was_streamed(speech: np.ndarray) -> None:
    stream = b"".join(streamed(speech, "flac", cuts=(5000,)))
    assert int.from_bytes(stream[21:26], "big") & (2**36 - 1) == len(speech)
    assert any(stream[26:42])
    assert stream == encode_audio(speech, "flac")


def test_pcm16_rounds_to_the_nearest_step_and_clips() -> None:
    levels = np.array([0, 0.4, 0.6, -0.4, -0.6, 1.5, 2.5, 32766.6], np.float64) / 32768
    np.testing.assert_array_equal(to_pcm16(levels), [0, 0, 1, 0, -1, 2, 2, 32767])
    np.testing.assert_array_equal(to_pcm16(np.array([1.0, -1.0, 7.0, -7.0])), [32767, -32768, 32767, -32768])


@given(st.lists(st.integers(-32768, 32767), max_size=64))
@settings(max_examples=50)
def test_every_16_bit_value_survives(values: list[int]) -> None:
    steps = np.array(values, np.int16)
    audio = steps.astype(np.float32) / 32768
    np.testing.assert_array_equal(np.frombuffer(encode_audio(audio, "pcm"), "<i2"), steps)


@pytest.mark.parametrize(("fmt", "encoding"), EVERY_FORMAT)
def test_samples_beyond_full_scale_are_clipped_not_wrapped(fmt: str, encoding: Any) -> None:
    loud = tone(1, SAMPLING_RATE, 200, 3.0)
    result = decoded(encode_audio(loud, fmt, encoding), fmt)
    delay = delay_between(result, np.clip(loud, -1, 1))
    assert signal_to_noise(np.clip(loud, -1, 1), result[delay:]) > 15


@pytest.mark.parametrize(("fmt", "encoding"), EVERY_FORMAT)
def test_samples_that_are_not_numbers_are_never_written(fmt: str, encoding: Any) -> None:
    with pytest.raises(NoAudioError, match="not finite"):
        encode_audio(np.array([0.0, np.nan], np.float32), fmt, encoding)


def test_a_wav_without_samples_is_a_header() -> None:
    silence = np.zeros(0, np.float32)
    assert len(decoded(encode_audio(silence, "wav"), "wav")) == 0
    assert len(b"".join(streamed(silence, "wav"))) == 44
    assert encode_audio(silence, "pcm") == b""


def test_only_mono_is_encoded() -> None:
    with pytest.raises(ValueError, match=r"\[2, 10\]"):
        encode_audio(np.zeros((2, 10), np.float32), "wav")


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"response_format is 'midi'; allowed is wav, flac, mp3, opus, pcm, aac\."):
        encode_audio(np.zeros(10, np.float32), "midi")
    assert not is_available("midi")


def test_formats_say_what_they_are() -> None:
    assert {name: (known.name, known.mime_type, known.extension) for name, known in FORMATS.items()} == {
        "wav": ("wav", "audio/wav", "wav"),
        "flac": ("flac", "audio/flac", "flac"),
        "mp3": ("mp3", "audio/mpeg", "mp3"),
        "opus": ("opus", "audio/ogg", "opus"),
        "pcm": ("pcm", "audio/pcm", "pcm"),
        "aac": ("aac", "audio/aac", "aac"),
    }


@needs_ffmpeg
def test_a_stream_that_is_given_up_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = shutil.which("ffmpeg")
    (tmp_path / "ffmpeg").write_text(f'#!/bin/sh\nmkdir {tmp_path}/pid-$$\nexec {real} "$@"\n')
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    encoder = StreamEncoder("aac")
    encoder.write(tone(3, SAMPLING_RATE))
    encoder.close()
    encoder.close()
    (named,) = tmp_path.glob("pid-*")  # a folder, as the process may write no file
    with pytest.raises(ProcessLookupError):
        os.kill(int(named.name.removeprefix("pid-")), 0)


def test_an_encoder_process_that_dies_is_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DeliveryError, match="ffmpeg"):
        encode_audio(tone(30, SAMPLING_RATE), "aac")


def test_the_module_imports_without_soundfile_and_torch() -> None:
    code = "import sys; sys.modules['soundfile'] = None; import higgs_core.audio; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
