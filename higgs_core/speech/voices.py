"""The voice library: a folder of clips with their transcripts, read and checked once, then only a dict.

Two shapes are read, also mixed: `config.json` with name -> {"transcript": ..., "audio_file": ...}, as Boson ships its
voices, and pairs NAME.wav + NAME.txt. Where both name a voice, config.json wins. Other files are left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.decode import MAX_SECONDS, MIN_SECONDS, decode_audio
from higgs_core.contained_files import FileRefused, read_inside
from higgs_core.errors import ReferenceAudioError, RequestError, SettingsError

DEFAULT_VOICE = "default"  # a request's way to say: the model chooses
MAX_CLIP_BYTES = 20_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_MAX_CONFIG_BYTES = 4_000_000
_MAX_TRANSCRIPT_CHARACTERS = 5_000
_NAMES_IN_A_HINT = 12


@dataclass(frozen=True, eq=False)
class Voice:
    """One preset. waveform: float32 [N], mono, 24 kHz. transcript: the words spoken in it."""

    name: str
    transcript: str
    waveform: NDArray[np.float32]


class VoiceLibrary(Mapping[str, Voice]):
    """Voices by name, in the order of their names; empty without a folder."""

    def __init__(self, voices: Mapping[str, Voice] | None = None) -> None:
        self._voices = dict(sorted((voices or {}).items()))

    def __getitem__(self, name: str) -> Voice:
        return self._voices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._voices)

    def __len__(self) -> int:
        return len(self._voices)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        max_bytes: int = MAX_CLIP_BYTES,
        max_seconds: float = MAX_SECONDS,
        min_seconds: float = MIN_SECONDS,
    ) -> VoiceLibrary:
        """Read and decode every voice.

        Raises SettingsError that names the first broken voice and what is wrong with it: a library is used whole or
        not at all.
        """
        if not folder.is_dir():
            raise SettingsError("The voice folder does not exist or is not a folder.", field="HIGGS_AUDIO_VOICES_DIR")
        entries = _pairs(folder) | _config_entries(folder)
        voices = {}
        for name, (transcript, audio_file) in sorted(entries.items()):
            _check_name(name)
            try:
                data = read_inside(folder / audio_file, (folder,), max_bytes)
                waveform = decode_audio(data, origin="its clip", max_seconds=max_seconds, min_seconds=min_seconds)
            except FileRefused as refusal:
                raise _broken(name, f"its audio_file is refused: {refusal}.") from None
            except ReferenceAudioError as error:
                raise _broken(name, error.message) from None
            waveform.setflags(write=False)
            voices[name] = Voice(name, transcript, waveform)
        return cls(voices)

    def find(self, name: str, *, field: str = "voice") -> Voice:
        """The voice called `name`. Raises RequestError that lists some names that exist."""
        if name in self._voices:
            return self._voices[name]
        shown = name if _NAME.fullmatch(name) else "given here"
        if not self:
            hint = "This worker has no voice library; send a reference clip instead."
        else:
            more = ", ..." if len(self) > _NAMES_IN_A_HINT else ""
            hint = f"Use {DEFAULT_VOICE} or one of {', '.join(list(self)[:_NAMES_IN_A_HINT])}{more}."
        raise RequestError(f"{field}: there is no voice {shown}.", field=field, hint=hint)


def _config_entries(folder: Path) -> dict[str, tuple[str, str]]:
    """name -> (transcript, audio_file) of config.json; nothing without that file."""
    if not (folder / "config.json").exists():
        return {}
    try:
        config = json.loads(read_inside(folder / "config.json", (folder,), _MAX_CONFIG_BYTES))
    except FileRefused as refusal:
        raise _broken(None, f"config.json is refused: {refusal}.") from None
    except (ValueError, RecursionError):
        raise _broken(None, "config.json is not JSON.") from None
    if not isinstance(config, dict):
        raise _broken(None, "config.json must be an object: name -> {transcript, audio_file}.")
    return {name: _entry(name, entry) for name, entry in config.items()}


def _entry(name: str, entry: Any) -> tuple[str, str]:
    _check_name(name)
    transcript, audio_file = (entry.get("transcript"), entry.get("audio_file")) if isinstance(entry, dict) else (0, 0)
    if not isinstance(transcript, str) or not isinstance(audio_file, str):
        raise _broken(name, "its entry needs transcript and audio_file, both strings.")
    return _checked_transcript(name, transcript), audio_file


def _pairs(folder: Path) -> dict[str, tuple[str, str]]:
    """name -> (transcript, audio_file) of NAME.wav beside NAME.txt."""
    pairs = {}
    for clip in sorted(folder.glob("*.wav")):
        text = clip.with_suffix(".txt")
        if not text.is_file():
            continue
        try:
            transcript = read_inside(text, (folder,), _MAX_CONFIG_BYTES).decode("utf-8-sig")
        except FileRefused as refusal:
            raise _broken(clip.stem, f"its transcript is refused: {refusal}.") from None
        except UnicodeDecodeError:
            raise _broken(clip.stem, "its transcript is not UTF-8.") from None
        pairs[clip.stem] = (_checked_transcript(clip.stem, transcript), clip.name)
    return pairs


def _checked_transcript(name: str, transcript: str) -> str:
    words = transcript.strip()
    if not 0 < len(words) <= _MAX_TRANSCRIPT_CHARACTERS:
        raise _broken(
            name, f"its transcript has {len(words)} characters; allowed is 1 to {_MAX_TRANSCRIPT_CHARACTERS}."
        )
    return words


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == DEFAULT_VOICE:
        raise _broken(
            name, f"a name has 1 to 64 letters, digits, - and _, begins with one of the first two, not {DEFAULT_VOICE}."
        )


def _broken(name: str | None, problem: str) -> SettingsError:
    which = "" if name is None else f" voice {name[:64]!r}:"
    return SettingsError(f"HIGGS_AUDIO_VOICES_DIR:{which} {problem}", field="HIGGS_AUDIO_VOICES_DIR")
