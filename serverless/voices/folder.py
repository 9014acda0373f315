"""The operator's folder of voices, read file by file: only what has changed is read anew.

Three shapes are read, also mixed: `config.json` with name -> {"transcript", "audio_file"}, as Boson ships its voices,
or name -> {"description", "seed"}; pairs NAME.wav + NAME.txt; and NAME.safetensors, which workers write. Where several
name a voice, the first of these wins. Other files are left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from higgs_core.audio.decode import decode_audio
from higgs_core.contained_files import FileRefused, FileUnreachable, read_inside
from higgs_core.errors import ReferenceAudioError, SettingsError
from higgs_core.speech.voices import NAME_RULE, Voice, is_voice_name
from serverless.config.settings import Settings
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.folder_config import ClipEntry, Entry, broken, checked_transcript, read_config
from serverless.voices.folder_scan import Listing, Signature, scan, signature_of
from serverless.voices.voice_file import (
    MAX_FILE_BYTES,
    SUFFIX,
    NotAVoiceFile,
    VoiceFileUnreachable,
    VoiceRecord,
    from_bytes,
)

_log = logging.getLogger(__name__)

MAX_VOICES = 1_000
_CONFIG = "config.json"
_MAX_TEXT_BYTES = 4_000_000


@dataclass(frozen=True)
class FolderContents:
    """voices: the operator's own, clips and designs.  records: what workers wrote, without its audio."""

    voices: dict[str, Voice] = field(default_factory=dict)
    records: dict[str, VoiceRecord] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Known:
    """What became of a name: a voice or a record, or None for what is broken, as long as `key` stays the same.

    key: None where the file could not be read this time.
    """

    key: Hashable
    made: Voice | VoiceRecord | None


class _Unreachable(Exception):
    """A file could not be read this time."""


class VoiceFolder:
    """Reads one folder again and again. Belongs to whoever holds its lock: not safe to use from two threads at once."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._listing: Listing | None = None
        self._config: dict[str, Entry | SettingsError] = {}
        self._config_signature: Signature | None = None
        self._known: dict[tuple[str, str], _Known] = {}
        self._contents = FolderContents()
        self._told: set[str] = set()

    def read(self, *, strict: bool = False) -> FolderContents:
        """What is in the folder now; the same object as before where nothing has changed.

        strict: raises SettingsError that names the first broken voice and what is wrong with it. Otherwise what is
        broken is left out and logged once; what cannot be read at the moment stays as it was, and is tried again.
        """
        try:
            self._listing = scan(self._folder)
        except OSError:
            self._listing = None
            if strict:
                raise broken(None, "the voice folder does not exist or is not a folder that can be read.") from None
            self._tell("The voice folder cannot be read at the moment; its voices stay as they were.")
            return self._contents
        if not self._listing.complete:
            self._tell("The voice folder has more files than are looked at; some of its voices may be missing.")
        files = self._listing.files
        self._read_config(files.get(_CONFIG), strict)
        entries = self._entries(files, strict)
        known = {("voice", name): self._known_voice(name, entry, files, strict) for name, entry in entries.items()}
        for file, signature in files.items():
            # An empty file is a name that another worker holds until it has written the voice.
            if signature[0] and file.endswith(SUFFIX) and is_voice_name(file.removesuffix(SUFFIX)):
                name = file.removesuffix(SUFFIX)
                known["record", name] = self._keep("record", name, signature, partial(self._record, name), strict=False)
        if known != self._known:
            self._known = known
            voices = {name: each.made for (_, name), each in sorted(known.items()) if isinstance(each.made, Voice)}
            records = {n: each.made for (_, n), each in sorted(known.items()) if isinstance(each.made, VoiceRecord)}
            self._contents = FolderContents(voices, records)
        return self._contents

    def sure_of(self, name: str) -> bool:
        """Whether the last `read` told if there is a file that a worker wrote of this voice, and what is in it."""
        if self._listing is None:
            return False
        known = self._known.get(("record", name))
        return self._listing.complete if known is None else known.key is not None

    def read_record(self, name: str) -> VoiceRecord:
        """The voice that a worker wrote, with its audio. Raises NotAVoiceFile, also when it is gone."""
        try:
            data = read_inside(self._folder / f"{name}{SUFFIX}", (self._folder,), MAX_FILE_BYTES)
        except FileUnreachable:
            raise VoiceFileUnreachable("cannot be read at the moment") from None
        except FileRefused as refusal:
            raise NotAVoiceFile(str(refusal).removeprefix("it ")) from None
        return from_bytes(data)

    def _read_config(self, signature: Signature | None, strict: bool) -> None:
        """A config.json that is broken or cannot be read leaves its voices as they were."""
        if signature == self._config_signature:
            return
        if signature is None:
            self._config_signature, self._config = None, {}
            return
        try:
            data = self._bounded(_CONFIG)
            self._config_signature = signature
            self._config = read_config(data)
        except FileUnreachable as refusal:
            self._postpone(broken(None, f"config.json is refused: {refusal}."), strict)
        except FileRefused as refusal:
            self._refuse(broken(None, f"config.json is refused: {refusal}."), strict)
        except SettingsError as error:
            self._refuse(error, strict)

    def _entries(self, files: dict[str, Signature], strict: bool) -> dict[str, Entry]:
        pairs = {
            file.removesuffix(".wav"): file
            for file in files
            if file.endswith(".wav") and f"{file.removesuffix('.wav')}.txt" in files
        }
        entries: dict[str, Entry] = {}
        for name in sorted(pairs.keys() | self._config.keys()):
            entry = self._config.get(name) or ClipEntry(None, pairs[name])
            if isinstance(entry, SettingsError):
                self._refuse(entry, strict)
            elif not is_voice_name(name):
                self._refuse(broken(name, f"{NAME_RULE}."), strict)
            elif len(entries) >= MAX_VOICES:
                self._refuse(broken(None, f"it has more than {MAX_VOICES} voices."), strict)
                break
            else:
                entries[name] = entry
        return entries

    def _known_voice(self, name: str, entry: Entry, files: dict[str, Signature], strict: bool) -> _Known:
        key: Hashable = entry
        if isinstance(entry, ClipEntry):
            try:
                clip = files.get(entry.audio_file) or signature_of(self._folder, entry.audio_file)
            except OSError:
                return self._unread("voice", name, strict)
            key = (entry, clip, files.get(f"{name}.txt") if entry.transcript is None else None)
        return self._keep("voice", name, key, partial(self._voice, name, entry), strict)

    def _keep(
        self, kind: str, name: str, key: Hashable, read: Callable[[], Voice | VoiceRecord | None], strict: bool
    ) -> _Known:
        before = self._known.get((kind, name))
        if before is not None and before.key == key:
            return before
        try:
            return _Known(key, read())
        except _Unreachable:
            return self._unread(kind, name, strict)
        except SettingsError as error:
            self._refuse(error, strict)
            return _Known(key, None)

    def _unread(self, kind: str, name: str, strict: bool) -> _Known:
        """What was there before, to be read at the next look."""
        self._postpone(broken(name, "its files cannot be read at the moment."), strict)
        before = self._known.get((kind, name))
        return _Known(None, None if before is None else before.made)

    def _voice(self, name: str, entry: Entry) -> Voice:
        """Raises SettingsError and _Unreachable."""
        if not isinstance(entry, ClipEntry):
            return Voice(name, CALIBRATION_SENTENCE, design=entry)
        settings = self._settings
        transcript = entry.transcript if entry.transcript is not None else self._words(name)
        try:
            data = read_inside(self._folder / entry.audio_file, (self._folder,), settings.max_reference_bytes)
            waveform = decode_audio(
                data,
                origin="its clip",
                max_seconds=settings.max_reference_seconds,
                min_seconds=settings.min_reference_seconds,
            )
        except FileUnreachable:
            raise _Unreachable from None
        except FileRefused as refusal:
            raise broken(name, f"its audio_file is refused: {refusal}.") from None
        except ReferenceAudioError as error:
            raise broken(name, error.message) from None
        waveform.setflags(write=False)
        return Voice(name, transcript, waveform)

    def _words(self, name: str) -> str:
        """The transcript beside NAME.wav. Raises SettingsError and _Unreachable."""
        try:
            return checked_transcript(name, self._bounded(f"{name}.txt").decode("utf-8-sig"))
        except FileUnreachable:
            raise _Unreachable from None
        except FileRefused as refusal:
            raise broken(name, f"its transcript is refused: {refusal}.") from None
        except UnicodeDecodeError:
            raise broken(name, "its transcript is not UTF-8.") from None

    def _record(self, name: str) -> VoiceRecord | None:
        try:
            record = self.read_record(name)
        except VoiceFileUnreachable:
            raise _Unreachable from None
        except NotAVoiceFile as problem:
            self._tell(f"The file of the voice {name} is left alone: it {problem}.")
            return None
        return replace(record, name=name, audio=None)

    def _bounded(self, file: str) -> bytes:
        return read_inside(self._folder / file, (self._folder,), _MAX_TEXT_BYTES)

    def _refuse(self, error: SettingsError, strict: bool) -> None:
        if strict:
            raise error
        self._tell(f"{error.message} It is left out.")

    def _postpone(self, error: SettingsError, strict: bool) -> None:
        if strict:
            raise error
        self._tell(f"{error.message} It stays as it was and is tried again.")

    def _tell(self, sentence: str) -> None:
        """Log it, once."""
        if sentence not in self._told and len(self._told) < MAX_VOICES:
            self._told.add(sentence)
            _log.warning("%s", sentence)
