"""The voice library: both shapes of folder, and every way in which one can be broken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.errors import RequestError, SettingsError
from higgs_core.speech.voices import VoiceLibrary
from tests.helpers.paths import CLIP

WORDS = "The birch canoe slid on the smooth planks."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    voices = tmp_path / "voices"
    voices.mkdir()
    (tmp_path / "outside.wav").write_bytes(CLIP.read_bytes())
    return voices


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
    library = VoiceLibrary.from_folder(folder)
    assert list(library) == ["belinda", "broom_salesman"]
    assert library["belinda"].transcript == WORDS
    assert library.find("broom_salesman").transcript == "I would imagine so."
    expected = soundfile.read(CLIP, dtype="float32")[0]
    for voice in library.values():
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
    library = VoiceLibrary.from_folder(folder)
    assert list(library) == ["anna", "zh-man"]
    assert library["zh-man"].transcript == "你好，世界。"


def test_the_configuration_wins_over_a_pair_of_the_same_name(folder: Path) -> None:
    add(folder, "anna", "words of the pair")
    configure(folder, {"anna": {"transcript": "words of the configuration", "audio_file": "anna.wav"}})
    assert VoiceLibrary.from_folder(folder)["anna"].transcript == "words of the configuration"


def test_an_empty_folder_is_an_empty_library(folder: Path) -> None:
    library = VoiceLibrary.from_folder(folder)
    assert len(library) == 0
    with pytest.raises(RequestError) as failure:
        library.find("anna")
    assert failure.value.message == "voice: there is no voice anna."
    assert "no voice library" in (failure.value.hint or "")


def test_an_unknown_voice_is_answered_with_some_that_exist(folder: Path) -> None:
    for index in range(14):
        add(folder, f"v{index:02}")
    library = VoiceLibrary.from_folder(folder)
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
        ({"anna": "anna.wav"}, "voice 'anna': its entry needs transcript and audio_file, both strings."),
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
        VoiceLibrary.from_folder(folder)
    assert failure.value.message.startswith("HIGGS_AUDIO_VOICES_DIR: ")
    assert sentence in failure.value.message
    assert "\n" not in failure.value.message
    assert str(folder) not in failure.value.message


def test_broken_pairs_are_refused_by_name(folder: Path) -> None:
    add(folder, "quiet", data=_silent_wav())
    with pytest.raises(SettingsError, match="voice 'quiet': its clip is silent"):
        VoiceLibrary.from_folder(folder)
    add(folder, "quiet")
    (folder / "quiet.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="voice 'quiet': its transcript is not UTF-8"):
        VoiceLibrary.from_folder(folder)
    (folder / "quiet.txt").write_text("")
    with pytest.raises(SettingsError, match="voice 'quiet': its transcript has 0 characters"):
        VoiceLibrary.from_folder(folder)


def _silent_wav() -> bytes:
    from higgs_core.audio import encode_audio

    return encode_audio(np.zeros(24_000, np.float32), "wav")


def test_limits_hold_for_voices_too(folder: Path) -> None:
    add(folder, "anna")
    with pytest.raises(SettingsError, match="voice 'anna': its clip lasts longer than 1 s"):
        VoiceLibrary.from_folder(folder, max_seconds=1)
    with pytest.raises(SettingsError, match="voice 'anna': its audio_file is refused: it has more than 1000 bytes"):
        VoiceLibrary.from_folder(folder, max_bytes=1000)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        VoiceLibrary.from_folder(tmp_path / "missing")
    with pytest.raises(SettingsError, match="not a folder"):
        VoiceLibrary.from_folder(CLIP)
