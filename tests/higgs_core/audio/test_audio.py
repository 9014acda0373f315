"""Decoding and encoding of audio files, against the sample clip and made signals."""

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
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.audio import FORMATS, StreamEncoder, decode_audio, encode_audio, is_available, to_pcm16
from higgs_core.audio.sniff import Container, sniff
from higgs_core.errors import DeliveryError, NoAudioError, ReferenceAudioError, RequestError
from higgs_core.rates import SAMPLING_RATE
from tests.helpers.paths import CLIP, ROOT

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
LOSSLESS = [("wav", "pcm_16"), ("wav", "float32"), ("flac", "pcm_16"), ("pcm", "pcm_16")]
EVERY_FORMAT = [
    *LOSSLESS,
    ("mp3", "pcm_16"),
    ("opus", "pcm_16"),
    pytest.param("aac", "pcm_16", marks=needs_ffmpeg),
]


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(CLIP, dtype="float32")[0]


def tone(seconds: float, rate: int, hertz: float = 1000, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def file(samples: np.ndarray, rate: int = SAMPLING_RATE, **options: Any) -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, rate, **({"format": "WAV", "subtype": "FLOAT"} | options))
    return target.getvalue()


def streamed(audio: np.ndarray, fmt: str, encoding: Any = "pcm_16", cuts: tuple[int, ...] = ()) -> list[bytes]:
    encoder = StreamEncoder(fmt, encoding)
    try:
        parts = [encoder.write(piece) for piece in np.split(audio, cuts)]
        return [*parts, encoder.finish()]
    finally:
        encoder.close()


def decoded(data: bytes, fmt: str) -> np.ndarray:
    """Decoded by what a client would use: numpy for pcm, ffmpeg for aac, libsndfile for the rest."""
    if fmt == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768
    if fmt == "aac":
        return decode_audio(data, origin="clip")
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == SAMPLING_RATE
    return samples


def delay_between(longer: np.ndarray, original: np.ndarray) -> int:
    """Samples by which `longer` comes later, by cross-correlation."""
    size = 2 ** (len(longer) + len(original)).bit_length()
    product = np.fft.rfft(longer, size) * np.conj(np.fft.rfft(original, size))
    lag = int(np.argmax(np.fft.irfft(product)))
    return lag if lag < size // 2 else lag - size


def signal_to_noise(signal: np.ndarray, other: np.ndarray) -> float:
    length = min(len(signal), len(other))
    noise = np.sum((signal[:length] - other[:length]) ** 2) + 1e-12
    return float(10 * np.log10(np.sum(signal[:length] ** 2) / noise))


# -- Decoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"format": "WAV", "subtype": "PCM_16"},
        {"format": "WAV", "subtype": "PCM_24"},
        {"format": "WAV", "subtype": "FLOAT"},
        {"format": "WAV", "subtype": "DOUBLE"},
        {"format": "WAVEX", "subtype": "PCM_16"},
        {"format": "RF64", "subtype": "PCM_16"},
        {"format": "FLAC", "subtype": "PCM_16"},
        {"format": "FLAC", "subtype": "PCM_24"},
    ],
)
def test_lossless_containers_decode_to_the_samples_that_were_written(
    options: dict[str, str], speech: np.ndarray
) -> None:
    result = decode_audio(file(speech, **options), origin="references[0]")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, speech)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "OGG", "subtype": "VORBIS"},
        {"format": "OGG", "subtype": "OPUS"},
        {"format": "MP3", "subtype": "MPEG_LAYER_III"},
        {"format": "WAV", "subtype": "ULAW"},
    ],
)
def test_lossy_containers_decode_to_the_same_speech(options: dict[str, str], speech: np.ndarray) -> None:
    result = decode_audio(file(speech, **options), origin="references[0]")
    assert len(result) == len(speech)
    assert abs(delay_between(result, speech)) <= 1
    assert signal_to_noise(speech, result) > 10


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("index-at-the-end.m4a", "-c:a aac"),
        ("index-in-front.m4a", "-c:a aac -movflags +faststart"),
        ("lossless.m4a", "-c:a alac"),
        ("opus.webm", "-c:a libopus"),
        ("vorbis.webm", "-c:a libvorbis -ac 2"),
        ("frames.aac", "-c:a aac"),
        ("wide.mp4", "-c:a aac -ar 48000 -ac 2"),
    ],
)
def test_what_only_ffmpeg_reads_decodes_to_the_same_speech(
    name: str, arguments: str, tmp_path: Path, speech: np.ndarray
) -> None:
    target = tmp_path / name
    subprocess.run(["ffmpeg", "-v", "error", "-i", CLIP, *arguments.split(), target], check=True)
    result = decode_audio(target.read_bytes(), origin="references[0]")
    delay = delay_between(result, speech)
    assert delay < 2500  # an encoder's delay that the container does not state
    assert abs(len(result) - len(speech)) < 4000
    assert signal_to_noise(speech, result[delay:]) > 10


@needs_ffmpeg
def test_a_long_m4a_with_its_index_at_the_end_is_read_whole(tmp_path: Path) -> None:
    target = tmp_path / "long.m4a"
    command = "ffmpeg -v error -f lavfi -i anoisesrc=d=40:r=48000:a=0.3 -c:a aac -b:a 256k"
    subprocess.run([*command.split(), target], check=True)
    data = target.read_bytes()
    assert data.index(b"moov") > 500_000
    assert len(decode_audio(data, origin="references[0]")) == pytest.approx(40 * SAMPLING_RATE, abs=4000)


def test_without_ffmpeg_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReferenceAudioError, match="m4a audio, which only ffmpeg reads") as failure:
        decode_audio(b"\0\0\0\x18ftypM4A \0\0\0\0", origin="references[0]")
    assert failure.value.field == "references[0]"
    assert failure.value.hint == "Send wav, flac, mp3 or ogg."
    assert not is_available("aac")
    with pytest.raises(DeliveryError, match="aac needs ffmpeg"):
        encode_audio(np.zeros(10, np.float32), "aac")


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_every_usual_rate_becomes_24_khz_without_changing_pitch_or_level(rate: int) -> None:
    result = decode_audio(file(tone(1, rate), rate), origin="references[0]")
    assert len(result) == pytest.approx(SAMPLING_RATE, abs=1)
    middle = slice(2000, 22_000)  # the filter rings where the tone starts and ends
    np.testing.assert_allclose(result[middle], tone(1, SAMPLING_RATE)[middle], atol=1e-3)


@pytest.mark.parametrize("rate", [8_001, 22_255, 44_101, 47_987, 191_999])
def test_an_odd_rate_keeps_its_pitch_within_three_cents(rate: int) -> None:
    result = decode_audio(file(tone(2, rate), rate), origin="references[0]")
    spectrum = np.abs(np.fft.rfft(result * np.hanning(len(result)), 2**20))
    hertz = np.argmax(spectrum) * SAMPLING_RATE / 2**20
    assert abs(1200 * np.log2(hertz / 1000)) < 3


def test_what_lies_above_half_the_rate_does_not_fold_back() -> None:
    kept = decode_audio(file(tone(1, 48_000, 9_000), 48_000), origin="references[0]")
    folded = decode_audio(file(tone(1, 48_000, 14_000) + tone(1, 48_000, 500, 0.01), 48_000), origin="references[0]")
    assert np.abs(kept[2000:22_000]).max() > 0.49
    assert np.abs(folded[2000:22_000]).max() < 0.011


def test_channels_are_mixed_in_equal_parts() -> None:
    left, right = tone(1, SAMPLING_RATE, 500), tone(1, SAMPLING_RATE, 900, 0.25)
    result = decode_audio(file(np.stack([left, right], axis=1)), origin="references[0]")
    np.testing.assert_allclose(result, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(bad: float, speech: np.ndarray) -> None:
    broken = speech.copy()
    broken[40_000] = bad
    with pytest.raises(ReferenceAudioError, match="not finite"):
        decode_audio(file(broken), origin="references[0]")


@pytest.mark.parametrize("level", [0.0, 0.0005])
def test_silence_is_refused(level: float) -> None:
    with pytest.raises(ReferenceAudioError, match=r"^references\[0\] is silent\.$"):
        decode_audio(file(tone(1, SAMPLING_RATE, level=level)), origin="references[0]")


def test_stereo_that_cancels_out_is_silent() -> None:
    left = tone(1, SAMPLING_RATE)
    with pytest.raises(ReferenceAudioError, match="silent"):
        decode_audio(file(np.stack([left, -left], axis=1)), origin="references[0]")


def test_float_samples_at_integer_scale_are_refused_and_a_little_over_full_scale_is_clipped() -> None:
    with pytest.raises(ReferenceAudioError, match="full scale is 1"):
        decode_audio(file(tone(1, SAMPLING_RATE, level=20_000)), origin="references[0]")
    assert np.abs(decode_audio(file(tone(1, SAMPLING_RATE, level=1.5)), origin="references[0]")).max() == 1


@pytest.mark.parametrize("rate", [16_000, SAMPLING_RATE])
def test_lengths_are_accepted_from_the_shortest_to_the_longest_and_not_beyond(rate: int) -> None:
    limits = {"origin": "references[0]", "min_seconds": 0.3, "max_seconds": 2.0}
    for frames in (round(0.3 * rate), 2 * rate):
        assert len(decode_audio(file(tone(2, rate)[:frames], rate), **limits)) == frames * SAMPLING_RATE // rate
    with pytest.raises(ReferenceAudioError, match=r"lasts 0\.30 s; at least 0\.3 s"):
        decode_audio(file(tone(2, rate)[: round(0.3 * rate) - 1], rate), **limits)
    with pytest.raises(ReferenceAudioError, match=r"lasts longer than 2 s"):
        decode_audio(file(tone(3, rate)[: 2 * rate + 1], rate), **limits)


@pytest.mark.parametrize("rate", [7_999, 192_001, 4_000, 384_000])
def test_rates_outside_the_range_are_refused(rate: int) -> None:
    with pytest.raises(ReferenceAudioError, match=f"{rate} Hz; allowed is 8000 to 192000 Hz"):
        decode_audio(file(tone(1, rate), rate), origin="references[0]")


def test_nine_channels_are_refused() -> None:
    with pytest.raises(ReferenceAudioError, match="9 channels; allowed is 1 to 8"):
        decode_audio(file(np.tile(tone(1, 8_000)[:, None], 9), 8_000), origin="references[0]")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "clip is empty."),
        (b"<!doctype html><title>404</title>", "clip is a page or text, not audio."),
        (b'\xef\xbb\xbf {"error": "not found"}', "clip is a page or text, not audio."),
        (b"FORM\0\0\0\0AIFF", "clip does not hold audio in a format that is read."),
        (b"RIFF\0\0\0\0AVI LIST", "clip does not hold audio in a format that is read."),
        (b"\x89PNG\r\n\x1a\n", "clip does not hold audio in a format that is read."),
        (b"MZ", "clip does not hold audio in a format that is read."),
        (b"fLaC", "clip looks like flac audio but cannot be decoded."),
    ],
)
def test_content_that_is_no_audio_is_named(data: bytes, sentence: str) -> None:
    with pytest.raises(ReferenceAudioError) as failure:
        decode_audio(data, origin="clip")
    assert failure.value.message == sentence
    assert failure.value.field == "clip"
    assert failure.value.hint


def test_a_hint_names_what_was_announced_and_never_decides(speech: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_audio(file(speech), origin="clip", extension_hint="mp3"), speech)
    with pytest.raises(ReferenceAudioError, match="although it was announced as mp3"):
        decode_audio(b"noise", origin="clip", extension_hint=".MP3")
    with pytest.raises(ReferenceAudioError) as failure:
        decode_audio(b"noise", origin="clip", extension_hint="<b>")
    assert "<" not in failure.value.message


@pytest.mark.parametrize(
    ("start", "container"),
    [
        (b"ID3\x04\x00\x00\x00\x00\x00\x02ab\xff\xfb\x90\x64", Container.MP3),
        (b"ID3\x04\x00\x00\x00\x00\x00\x02ab\xff\xf1\x50\x80", Container.AAC),
        (
            b"ID3\x04\x00\x10\x00\x00\x00\x02ab" + b"3DI\x04\x00\x10\x00\x00\x00\x02" + b"\xff\xf1\x50\x80",
            Container.AAC,
        ),
        (b"ID3\x04\x00\x00\x00\x00\x00\x02abfLaC", Container.FLAC),
        (b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"a" * 128 + b"\xff\xf1\x50\x80", Container.AAC),
        (b"\xff\xf3\x84\xc4", Container.MP3),
        (b"\xff\xf9\x50\x80", Container.AAC),
        (b"\xff\xfe<\x00h\x00t\x00", None),
        (b"\xff\xff\xff\xff", None),
        (b"\xff\xd8\xff\xe0", None),
        (b"\xff", None),
    ],
)
def test_mpeg_frames_and_tags_before_them_are_told_apart(start: bytes, container: Container | None) -> None:
    assert sniff(start) is container


# -- Encoding ---------------------------------------------------------------------------------------------------------


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
