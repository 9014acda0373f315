"""Decoding of audio files, against the sample clip and made signals."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from higgs_core.audio import decode_audio, encode_audio, is_available
from higgs_core.audio.sniff import Container, sniff
from higgs_core.errors import DeliveryError, ReferenceAudioError
from higgs_core.rates import SAMPLING_RATE
from tests.helpers.paths import CLIP
from tests.helpers.sound_files import (
    delay_between,
    file,
    needs_ffmpeg,
    signal_to_noise,
    tone,
)


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
