"""`config.json` of a folder of voices: each entry a clip with its words, or a description with a seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from higgs_core.errors import SettingsError
from higgs_core.params import MAX_SEED
from higgs_core.speech.voices import NAME_RULE, VoiceDesign, is_voice_name
from serverless.voices.voice_file import MAX_DESCRIPTION_CHARACTERS, MAX_TRANSCRIPT_CHARACTERS


@dataclass(frozen=True)
class ClipEntry:
    """transcript: None where it lies in a file of its own beside the clip."""

    transcript: str | None
    audio_file: str


Entry = ClipEntry | VoiceDesign


def read_config(data: bytes) -> dict[str, Entry | SettingsError]:
    """name -> entry, or what is wrong with it. Raises SettingsError where the whole file is none."""
    try:
        config = json.loads(data)
    except (ValueError, RecursionError):
        raise broken(None, "config.json is not JSON.") from None
    if not isinstance(config, dict):
        raise broken(None, "config.json must be an object: name -> {transcript, audio_file} or {description, seed}.")
    found: dict[str, Entry | SettingsError] = {}
    for name, entry in config.items():
        try:
            found[name] = _entry(name, entry)
        except SettingsError as error:
            found[name] = error
    return found


def _entry(name: str, entry: Any) -> Entry:
    if not is_voice_name(name):
        raise broken(name, f"{NAME_RULE}.")
    if isinstance(entry, dict) and not all(_is_text(words) for words in entry.values() if isinstance(words, str)):
        raise broken(name, "its entry holds NULs or halves of surrogate pairs.")
    if isinstance(entry, dict) and "description" in entry and "audio_file" not in entry:
        return _design(name, entry)
    transcript, audio_file = (entry.get("transcript"), entry.get("audio_file")) if isinstance(entry, dict) else (0, 0)
    if not isinstance(transcript, str) or not isinstance(audio_file, str):
        raise broken(name, "its entry needs transcript and audio_file, both strings, or a description.")
    return ClipEntry(checked_transcript(name, transcript), audio_file)


def _design(name: str, entry: dict[str, Any]) -> VoiceDesign:
    description, seed = entry["description"], entry.get("seed")
    if not isinstance(description, str) or not 0 < len(description.strip()) <= MAX_DESCRIPTION_CHARACTERS:
        raise broken(name, f"its description must be a text of 1 to {MAX_DESCRIPTION_CHARACTERS} characters.")
    if seed is None:
        return VoiceDesign(description.strip(), seed_of(description))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise broken(name, f"its seed must be a whole number, 0 to {MAX_SEED}.")
    return VoiceDesign(description.strip(), seed)


def seed_of(description: str) -> int:
    """The seed of a description that comes without one: always the same, so that the voice is."""
    return int.from_bytes(hashlib.blake2b(description.strip().encode(), digest_size=8).digest()) & MAX_SEED


def checked_transcript(name: str, transcript: str) -> str:
    """Without the white space around it. Raises SettingsError."""
    words = transcript.strip()
    if not 0 < len(words) <= MAX_TRANSCRIPT_CHARACTERS:
        raise broken(name, f"its transcript has {len(words)} characters; allowed is 1 to {MAX_TRANSCRIPT_CHARACTERS}.")
    return words


def broken(name: str | None, problem: str) -> SettingsError:
    """What is wrong with the folder, or with one of its voices."""
    which = "" if name is None else f" voice {name[:64]!r}:"
    return SettingsError(f"HIGGS_AUDIO_VOICES_DIR:{which} {problem}", field="HIGGS_AUDIO_VOICES_DIR")


def _is_text(words: str) -> bool:
    """Whether an answer in JSON can hold it: JSON's escapes can write what no UTF-8 can."""
    return "\0" not in words and not any("\ud800" <= character <= "\udfff" for character in words)
