"""The voices that the operator's folder keeps: what it shows, and what was written or removed here since then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as replaced
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serverless.voices.folder import FolderContents, VoiceFolder
from serverless.voices.store import VoiceStore
from serverless.voices.voice_file import NotAVoiceFile, VoiceRecord

if TYPE_CHECKING:
    from serverless.config.settings import Settings


class KeptVoices:
    """Belongs to whoever holds its lock: but for `record` and `audio`, not safe to use from two threads at once.

    A volume may take a file and refuse to be listed a moment later. So what was done here counts from then on, until a
    look at the folder tells what became of it.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = VoiceFolder(settings.voices_dir, settings) if settings.voices_dir is not None else None
        self._store = VoiceStore(settings.voices_dir, read_only=settings.voices_read_only)
        self._unseen: dict[str, VoiceRecord | None] = {}  # None: removed
        self._contents = FolderContents()

    @property
    def contents(self) -> FolderContents:
        """As of the last look, write or removal."""
        return self._contents

    def open(self, now: float) -> None:
        """The first look. now: seconds since 1970. Raises SettingsError for a broken folder."""
        self._store.tidy(now)
        if self._folder is not None:
            self._contents = self._folder.read(strict=True)

    def look(self) -> None:
        """Read what has changed. A folder that cannot be read stays as it was."""
        if self._folder is not None:
            found = self._folder.read()
            self._unseen = {name: made for name, made in self._unseen.items() if not self.sure_of(name)}
            self._contents = _with(found, self._unseen)

    def sure_of(self, name: str) -> bool:
        """Whether the last look told if there is a file of this voice, and what is in it."""
        return self._folder is not None and self._folder.sure_of(name)

    def write(self, record: VoiceRecord, *, replace: bool) -> bool:
        """Keep a voice as a file; False where that is not possible.

        replace: over a file of that name. Otherwise raises FileExistsError where there is one.
        """
        kept = self._store.write(record, replace=replace)
        if kept:
            self._done(record.name, replaced(record, audio=None))
        return kept

    def remove(self, name: str) -> None:
        """Remove a voice's file; one that another worker has removed is no error. Raises OSError where the folder
        cannot be changed, or does not tell whether the file is there."""
        try:
            self._store.remove(name)
        except FileNotFoundError:
            if not self.sure_of(name):
                raise
        self._done(name, None)

    def record(self, name: str) -> VoiceRecord | None:
        """What a file holds now, with its audio; None where it is gone or no voice. Safe to call from any thread."""
        if self._folder is None:
            return None
        try:
            return self._folder.read_record(name)
        except NotAVoiceFile:
            return None

    def audio(self, name: str) -> NDArray[np.int16] | None:
        """int16 [N] of a voice's file; None where it is gone or has none. Safe to call from any thread."""
        record = self.record(name)
        return None if record is None else record.audio

    def _done(self, name: str, made: VoiceRecord | None) -> None:
        self._unseen[name] = made
        self._contents = _with(self._contents, {name: made})


def _with(contents: FolderContents, changes: Mapping[str, VoiceRecord | None]) -> FolderContents:
    records = {name: made for name, made in {**contents.records, **changes}.items() if made is not None}
    return FolderContents(contents.voices, records)
