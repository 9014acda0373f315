"""The folder of voices: every shape of it, and every way in which one can be broken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.errors import RequestError, SettingsError
from higgs_core.speech.voices import Voice, VoiceDesign, VoiceLibrary
from serverless.config.settings import Settings
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.folder import VoiceFolder
from tests.helpers.paths import CLIP

WORDS = "The birch canoe slid on the smooth planks."


@pytest.fixture
def folder(folder: Path, tmp_path: Path) -> Path:
    """With a clip beside it, which nothing in it may reach."""
    (tmp_path / "outside.wav").write_bytes(CLIP.read_bytes())
    return folder


def read(folder: Path, **settings: Any) -> dict[str, Voice]:
    return VoiceFolder(folder, Settings(**settings)).read(strict=True).voices


def add(folder: Path, name: str, transcript: str = WORDS, data: bytes | None = None) -> None:
    (folder / f"{name}.wav").write_bytes(CLIP.read_bytes() if data is None else data)
    (folder / f"{name}.txt").write_text(transcript, "utf-8")


def configure(folder: Path, config: Any) -> None:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))


def test_bosons_folder_is_read(folder: Path) -> None:
    (folder / "belinda.wav").write_bytes(CLIP.read_bytes())
    (folder / "clips").mkdir()
    (folder / "clips" / "broom.flac").write_bytes(_flac())
    (folder / "profile.txt").write_text("not a voice")
    configure(
        folder,
        {
            "broom_salesman": {"transcript": "I would imagine so.", "audio_file": "clips/broom.flac", "speed": 1},
            "belinda": {"transcript": f" {WORDS}\n", "audio_file": "belinda.wav"},
        },
    )
    library = read(folder)
    assert list(library) == ["belinda", "broom_salesman"]
    assert library["belinda"].transcript == WORDS
    assert library["broom_salesman"].transcript == "I would imagine so."
    expected = soundfile.read(CLIP, dtype="float32")[0]
    for voice in library.values():
        assert voice.waveform is not None
        np.testing.assert_array_equal(voice.waveform, expected)
        assert not voice.waveform.flags.writeable


def _flac() -> bytes:
    from higgs_core.audio import encode_audio

    return encode_audio(soundfile.read(CLIP, dtype="float32")[0], "flac")


def test_pairs_are_read_and_other_files_left_alone(folder: Path) -> None:
    add(folder, "zh-man", "\ufeff你好，世界。\n")
    add(folder, "anna")
    (folder / "without-words.wav").write_bytes(b"not even audio")
    (folder / "notes.txt").write_text("x")
    library = read(folder)
    assert list(library) == ["anna", "zh-man"]
    assert library["zh-man"].transcript == "你好，世界。"


def test_the_configuration_wins_over_a_pair_of_the_same_name(folder: Path) -> None:
    add(folder, "anna", "words of the pair")
    configure(folder, {"anna": {"transcript": "words of the configuration", "audio_file": "anna.wav"}})
    assert read(folder)["anna"].transcript == "words of the configuration"


def test_a_description_is_a_voice_with_a_seed_of_its_own_or_one_that_follows_from_it(folder: Path) -> None:
    configure(folder, {"calm": {"description": " calm, low ", "seed": 7}, "wild": {"description": "wild"}})
    voices = read(folder)
    assert voices["calm"].design == VoiceDesign("calm, low", 7)
    assert voices["calm"].transcript == CALIBRATION_SENTENCE
    assert voices["wild"].design == read(folder)["wild"].design
    assert voices["wild"].design != VoiceDesign("wild", 7)


def test_an_empty_folder_is_an_empty_library(folder: Path) -> None:
    library = VoiceLibrary(read(folder))
    assert len(library) == 0
    with pytest.raises(RequestError) as failure:
        library.find("anna")
    assert failure.value.message == "voice: there is no voice anna."
    assert "no voice library" in (failure.value.hint or "")


def test_an_unknown_voice_is_answered_with_some_that_exist(folder: Path) -> None:
    for index in range(14):
        add(folder, f"v{index:02}")
    library = VoiceLibrary(read(folder))
    with pytest.raises(RequestError) as failure:
        library.find("nobody", field="speakers.SPEAKER0.voice")
    assert failure.value.field == "speakers.SPEAKER0.voice"
    assert failure.value.hint == f"Use default or one of {', '.join(f'v{index:02}' for index in range(12))}, ...."


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{", "config.json is not JSON."),
        ("\xff", "config.json is not JSON."),
        ("[" * 100_000, "config.json is not JSON."),
        ("[]", "config.json must be an object"),
        ({"anna": "anna.wav"}, "voice 'anna': its entry needs transcript and audio_file, both strings"),
        ({"anna": {}}, "voice 'anna': its entry needs transcript and audio_file"),
        ({"anna": {"transcript": WORDS}}, "voice 'anna': its entry needs transcript and audio_file"),
        ({"anna": {"audio_file": "anna.wav"}}, "voice 'anna': its entry needs transcript and audio_file"),
        ({"anna": {"transcript": None, "audio_file": "anna.wav"}}, "voice 'anna': its entry needs"),
        ({"anna": {"transcript": WORDS, "audio_file": 3}}, "voice 'anna': its entry needs"),
        ({"anna": {"transcript": " ", "audio_file": "anna.wav"}}, "voice 'anna': its transcript has 0 characters"),
        ({"anna": {"transcript": "a" * 5001, "audio_file": "anna.wav"}}, "voice 'anna': its transcript has 5001"),
        ({"anna": {"transcript": WORDS, "audio_file": "missing.wav"}}, "voice 'anna': its audio_file is refused"),
        ({"anna": {"transcript": WORDS, "audio_file": ""}}, "voice 'anna': its audio_file is refused"),
        ({"anna": {"transcript": WORDS, "audio_file": "../outside.wav"}}, "it lies outside the allowed folders."),
        ({"anna": {"transcript": WORDS, "audio_file": "/etc/passwd"}}, "it lies outside the allowed folders."),
        ({"anna": {"transcript": WORDS, "audio_file": "link.wav"}}, "it lies outside the allowed folders."),
        ({"anna": {"transcript": WORDS, "audio_file": "pipe.wav"}}, "it is not a regular file."),
        ({"anna": {"transcript": WORDS, "audio_file": "config.json"}}, "voice 'anna': its clip is a page or text"),
        ({"anna": {"description": " "}}, "voice 'anna': its description must be a text of 1 to 1000 characters."),
        ({"anna": {"description": "x" * 1001}}, "voice 'anna': its description must be a text of 1 to 1000"),
        ({"anna": {"description": "calm \ud800"}}, "voice 'anna': its entry holds NULs or halves of surrogate pairs."),
        ({"anna": {"transcript": "a\0b", "audio_file": "anna.wav"}}, "voice 'anna': its entry holds NULs or halves"),
        ({"anna": {"description": "calm", "seed": -1}}, "voice 'anna': its seed must be a whole number"),
        ({"anna": {"description": "calm", "seed": True}}, "voice 'anna': its seed must be a whole number"),
        ({"a/b": {"transcript": WORDS, "audio_file": "anna.wav"}}, "voice 'a/b': a name has 1 to 64 letters"),
        ({"": {"transcript": WORDS, "audio_file": "anna.wav"}}, "voice '': a name has 1 to 64 letters"),
        ({"a" * 65: {"transcript": WORDS, "audio_file": "anna.wav"}}, "a name has 1 to 64 letters"),
        ({"größe": {"transcript": WORDS, "audio_file": "anna.wav"}}, "a name has 1 to 64 letters"),
        ({"default": {"transcript": WORDS, "audio_file": "anna.wav"}}, "voice 'default': a name has"),
    ],
)
def test_one_broken_entry_refuses_the_whole_library_by_name(folder: Path, config: Any, sentence: str) -> None:
    add(folder, "anna")
    add(folder, "good")
    (folder / "link.wav").symlink_to(folder.parent / "outside.wav")
    os.mkfifo(folder / "pipe.wav")
    configure(folder, config)
    with pytest.raises(SettingsError) as failure:
        read(folder)
    assert failure.value.message.startswith("HIGGS_AUDIO_VOICES_DIR: ")
    assert sentence in failure.value.message
    assert "\n" not in failure.value.message
    assert str(folder) not in failure.value.message


def test_broken_pairs_are_refused_by_name(folder: Path) -> None:
    add(folder, "quiet", data=_silent_wav())
    with pytest.raises(SettingsError, match="voice 'quiet': its clip is silent"):
        read(folder)
    add(folder, "quiet")
    (folder / "quiet.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="voice 'quiet': its transcript is not UTF-8"):
        read(folder)
    (folder / "quiet.txt").write_text("")
    with pytest.raises(SettingsError, match="voice 'quiet': its transcript has 0 characters"):
        read(folder)


def _silent_wav() -> bytes:
    from higgs_core.audio import encode_audio

    return encode_audio(np.zeros(24_000, np.float32), "wav")


def test_limits_hold_for_voices_too(folder: Path) -> None:
    add(folder, "anna")
    with pytest.raises(SettingsError, match="voice 'anna': its clip lasts longer than 1 s"):
        read(folder, max_reference_seconds=1)
    with pytest.raises(SettingsError, match="voice 'anna': its audio_file is refused: it has more than 1000 bytes"):
        read(folder, max_reference_bytes=1000)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        read(tmp_path / "missing")
    with pytest.raises(SettingsError, match="not a folder"):
        read(CLIP)
