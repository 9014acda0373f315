"""Every voice that requests may name: of the operator's folder, added over HTTP, and shipped. Changes on disk are seen.

Blocking, and safe to use from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from higgs_core.errors import BusyError
from higgs_core.speech.voices import Voice
from serverless.voices.errors import TooManyVoicesError, VoiceExistsError, VoiceFixedError, VoiceNotFoundError
from serverless.voices.facts import ADDED, MODEL_CHOOSES, VoiceFacts
from serverless.voices.kept import KeptVoices
from serverless.voices.patient_look import PatientLook
from serverless.voices.view import KnownVoice, View, fits, known_of, view_of
from serverless.voices.voice_file import VoiceRecord

if TYPE_CHECKING:
    from higgs_core.checkpoint.identity import CheckpointIdentity
    from serverless.config.settings import Settings

SCAN_SECONDS = 2.0
"""The least time from one look at the folder to the next."""

PATIENCE_SECONDS = 10.0
"""How long anybody waits for a look at the folder that another thread takes: a volume may hang."""

MAX_MEMORY_BYTES = 256_000_000
"""Of added voices that no folder keeps."""


class Catalogue:
    """clock: seconds, monotonic.  now: seconds since 1970.  patience: seconds."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._now = now
        self._patience = patience
        self._kept = KeptVoices(settings)
        self._lock = threading.RLock()
        self._looking = PatientLook(self._look, patience)
        self._scanned_at: float | None = None
        self._added: dict[str, VoiceRecord] = {}  # that no folder keeps
        self._reserved: set[str] = set()
        self._identity: CheckpointIdentity | None = None
        self._view = View()

    def open(self) -> None:
        """Read everything. Raises SettingsError for a broken folder."""
        with self._lock:
            self._kept.open(self._now())
            self._scanned_at = self._clock()
            self._rebuild()

    def attach(self, identity: CheckpointIdentity) -> None:
        """What codes have to be of to be used as they are."""
        with self._lock:
            self._identity = identity
            self._view = View()
            self._rebuild()

    @property
    def now(self) -> int:
        return int(self._now())

    def current(self, *, at_once: bool = False) -> View:
        """The voices as they are, as of a look at the folder SCAN_SECONDS ago at most.

        Whoever comes first waits for the look, but no longer than his patience; others get what was there before.
        at_once: look again in any case.
        """
        if at_once or self._scanned_at is None:
            self._looking.join()
        elif self._clock() - self._scanned_at >= SCAN_SECONDS:
            self._looking.begin()
        return self._view

    def listed(self) -> tuple[VoiceFacts, ...]:
        """All of them, after the one that leaves the choice to the model."""
        return (MODEL_CHOOSES, *(known.facts for known in self.current().known.values()))

    def find(self, name: str) -> KnownVoice:
        """Raises VoiceNotFoundError."""
        return self._found(name, self.current())

    @staticmethod
    def _found(name: str, view: View) -> KnownVoice:
        if name not in view.known:
            raise VoiceNotFoundError("No voice has that name.", field="voice", hint=view.library.hint_for(name))
        return view.known[name]

    def known_as(self, voice: Voice) -> KnownVoice | None:
        """What is known of a voice that a request holds; None once it was removed or replaced."""
        known = self._view.known.get(voice.name)
        return known if known is not None and known.voice is voice else None

    def audio_on_disk(self, known: KnownVoice) -> NDArray[np.int16] | None:
        """int16 [N] of the voice's file; None where no file has just these codes."""
        record = self._kept.record(known.voice.name)
        if record is None or record.codes is None or known.codes is None:
            return None
        return record.audio if np.array_equal(record.codes, known.codes) else None

    def keep_made(self, known: KnownVoice, audio: NDArray[np.int16]) -> None:
        """Keep a voice's new codes beside the library where that is possible. A file of somebody else's is left alone,
        and one in which another worker has kept the same voice meanwhile decides what its codes are."""
        assert self._identity is not None
        name = known.voice.name
        if not self._lock.acquire(timeout=self._patience):
            return
        try:
            self._look()  # another worker may have made, removed or replaced the voice
            if self.known_as(known.voice) is None or not self._kept.sure_of(name) or self._has_taken(known):
                return
            record = known.as_record(self._identity, audio, self.now)
            there = self._kept.contents.records.get(name)
            ours = there is not None and (there.source in ADDED) == (known.source in ADDED)
            try:
                self._kept.write(record, replace=ours)
            except FileExistsError:
                self._look()
                self._has_taken(known)
                return
            self._look()
        finally:
            self._lock.release()

    @contextmanager
    def reserved(self, name: str) -> Iterator[None]:
        """Keep a name free of others while a voice for it is made.

        Raises VoiceExistsError and TooManyVoicesError, and BusyError where the folder does not answer.
        """
        with self._answering():
            self._look()
            if name.lower() in self._reserved:
                raise _exists(name)
            self._require_free(name)
            count = sum(known.source in ADDED for known in self._view.known.values()) + len(self._reserved)
            limit = self._settings.max_saved_voices
            if count >= limit:
                raise TooManyVoicesError(
                    f"The worker keeps at most {limit} added voices.", field="name", hint="Delete one first."
                )
            self._reserved.add(name.lower())
        try:
            yield
        finally:
            self._reserved.discard(name.lower())  # without the lock, which a volume that hangs would keep for long

    def add(self, record: VoiceRecord, *, complete: bool = True) -> tuple[KnownVoice, bool]:
        """Take in a voice whose name is reserved; it, and whether a file keeps it.

        complete: False keeps on disk only what the voice is made of: it is made anew by the next worker.
        Raises VoiceExistsError where another worker was faster, TooManyVoicesError where memory is full of them, and
        BusyError where the folder does not answer.
        """
        with self._answering():
            self._look()
            self._require_free(record.name)
            on_disk = record if complete else replace(record, codes=None, audio=None)
            try:
                kept = self._kept.write(on_disk, replace=False)
            except FileExistsError:
                self._look()
                self._require_free(record.name)
                raise VoiceExistsError(
                    f"The voice folder has a file of the name {record.name} that is no voice.",
                    field="name",
                    hint="Choose another name, or have the file removed.",
                ) from None
            if not kept:
                if record.nbytes + sum(each.nbytes for each in self._added.values()) > MAX_MEMORY_BYTES:
                    raise TooManyVoicesError("The worker's memory holds no more voices.", field="name")
                self._added[record.name] = record
            self._look()
            known = self._view.known.get(record.name)
            if known is None or known.source not in ADDED:  # removed or hidden by somebody else in this moment
                known = known_of(record)
            known.codes = record.codes if known.codes is None else known.codes
            return known, kept

    def remove(self, name: str) -> None:
        """Raises VoiceNotFoundError, VoiceFixedError, and BusyError where the folder does not answer."""
        with self._answering():
            self._look()
            known = self._found(name, self._view)
            if known.source not in ADDED:
                owner = "ships with the worker" if known.source == "shipped" else "belongs to the operator's folder"
                raise VoiceFixedError(f"The voice {name} {owner} and cannot be deleted.", field="voice")
            if name not in self._added or name in self._kept.contents.records:  # another worker may have kept a file
                try:
                    self._kept.remove(name)
                except OSError:
                    raise VoiceFixedError(
                        f"The voice {name} cannot be deleted, because the voice folder cannot be changed.",
                        field="voice",
                    ) from None
            self._added.pop(name, None)
            self._look()

    def _require_free(self, name: str) -> None:
        """Raises VoiceExistsError for the name of a voice, in whatever case."""
        if name.lower() in {known.lower() for known in self._view.known}:
            raise _exists(name)

    def _has_taken(self, known: KnownVoice) -> bool:
        """Give a designed voice the codes that another worker has kept of it, if one has."""
        other = self._kept.contents.records.get(known.voice.name)
        if known.design is None or other is None or not fits(other, known.design, self._identity):
            return False
        known.codes = other.codes
        return True

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Holds the lock. Raises BusyError where somebody else's look at the folder has it for too long."""
        if not self._lock.acquire(timeout=self._patience):
            raise BusyError("The voice folder does not answer.", hint="Try again in a minute.")
        try:
            yield
        finally:
            self._lock.release()

    def _look(self) -> None:
        """At the folder, whenever that was done last."""
        with self._lock:
            self._kept.look()
            self._scanned_at = self._clock()
            self._rebuild()

    def _rebuild(self) -> None:
        self._view = view_of(self._kept.contents, self._added, self._view, self._identity, self._kept.audio)


def _exists(name: str) -> VoiceExistsError:
    return VoiceExistsError(
        f"There is a voice {name} already.", field="name", hint="Choose another name, or delete it first."
    )
