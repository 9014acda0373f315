"""Every voice that requests may name: of the operator's folder, added over HTTP, and shipped. Changes on disk are seen.

Blocking, and safe to use from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.speech.voices import Voice, VoiceDesign, VoiceLibrary
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.errors import TooManyVoicesError, VoiceExistsError, VoiceFixedError, VoiceNotFoundError
from serverless.voices.facts import ADDED, MODEL_CHOOSES, Source, VoiceFacts, readable
from serverless.voices.folder import FolderContents, VoiceFolder
from serverless.voices.shipped import shipped_designs
from serverless.voices.store import VoiceStore
from serverless.voices.voice_file import NotAVoiceFile, VoiceRecord

if TYPE_CHECKING:
    from higgs_core.checkpoint.identity import CheckpointIdentity
    from serverless.config.settings import Settings

SCAN_SECONDS = 2.0
"""The least time from one look at the folder to the next."""

MAX_MEMORY_BYTES = 256_000_000
"""Of added voices that no folder keeps."""


@dataclass(eq=False)
class KnownVoice:
    """A voice and what is known of it.

    voice: what requests hold; the same object for as long as nothing changes.
    record: what a worker has kept of it, with its audio only where memory alone has it.
    codes: integers [8, T] once they are there.  warnings: what is wrong with them.
    """

    voice: Voice
    source: Source
    design: VoiceDesign | None = None
    record: VoiceRecord | None = None
    codes: NDArray[Any] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def facts(self) -> VoiceFacts:
        record, design = self.record, self.design
        own = record if self.source in ADDED else None
        return VoiceFacts(
            id=self.voice.name,
            name=readable(self.voice.name),
            source=self.source,
            description=design.description if design is not None else own.description if own is not None else None,
            transcript=self.voice.transcript,
            ready=self.codes is not None,
            created_at=own.created_at if own is not None else None,
            seed=design.seed if design is not None else None,
            consent=own.consent if own is not None else None,
        )


@dataclass(frozen=True)
class View:
    """The voices at one moment. library: for parsing requests."""

    known: Mapping[str, KnownVoice] = field(default_factory=dict)
    library: VoiceLibrary = field(default_factory=VoiceLibrary)


class Catalogue:
    """clock: seconds, monotonic.  now: seconds since 1970."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._now = now
        self._folder = VoiceFolder(settings.voices_dir, settings) if settings.voices_dir is not None else None
        self._store = VoiceStore(settings.voices_dir)
        self._lock = threading.RLock()
        self._contents = FolderContents()
        self._scanned_at: float | None = None
        self._added: dict[str, VoiceRecord] = {}  # that no folder keeps
        self._reserved: set[str] = set()
        self._identity: CheckpointIdentity | None = None
        self._view = View()

    def open(self) -> None:
        """Read everything. Raises SettingsError for a broken folder."""
        with self._lock:
            self._store.tidy(self._now())
            if self._folder is not None:
                self._contents = self._folder.read(strict=True)
            self._scanned_at = self._clock()
            self._rebuild()

    def attach(self, identity: CheckpointIdentity) -> None:
        """What codes have to be of to be used as they are."""
        with self._lock:
            self._identity = identity
            self._view = View()
            self._rebuild()

    @property
    def keeps_files(self) -> bool:
        """Whether there is a folder, so that voices could outlive the worker."""
        return self._folder is not None

    @property
    def now(self) -> int:
        return int(self._now())

    def current(self, *, at_once: bool = False) -> View:
        """The voices as they are, as of a look at the folder SCAN_SECONDS ago at most.

        Whoever comes while another thread looks gets what was there before. at_once: look again in any case.
        """
        if self._lock.acquire(blocking=at_once or self._scanned_at is None):
            try:
                due = self._scanned_at is None or self._clock() - self._scanned_at >= SCAN_SECONDS
                if at_once or due:
                    self._rescan()
            finally:
                self._lock.release()
        return self._view

    def listed(self) -> tuple[VoiceFacts, ...]:
        """All of them, after the one that leaves the choice to the model."""
        return (MODEL_CHOOSES, *(known.facts for known in self.current().known.values()))

    def find(self, name: str) -> KnownVoice:
        """Raises VoiceNotFoundError."""
        view = self.current()
        if name not in view.known:
            raise VoiceNotFoundError("No voice has that name.", field="voice", hint=view.library.hint_for(name))
        return view.known[name]

    def known_as(self, voice: Voice) -> KnownVoice | None:
        """What is known of a voice that a request holds; None once it was removed or replaced."""
        known = self._view.known.get(voice.name)
        return known if known is not None and known.voice is voice else None

    def audio_on_disk(self, known: KnownVoice) -> NDArray[np.int16] | None:
        """int16 [N] of the voice's file; None where no file has just these codes."""
        if self._folder is None or known.codes is None:
            return None
        try:
            record = self._folder.read_record(known.voice.name)
        except NotAVoiceFile:
            return None
        return record.audio if record.codes is not None and np.array_equal(record.codes, known.codes) else None

    def keep_made(self, known: KnownVoice, audio: NDArray[np.int16]) -> None:
        """Keep a voice's new codes beside the library where that is possible. A file of somebody else's is left alone,
        and one in which another worker has kept the same voice meanwhile decides what its codes are."""
        assert known.codes is not None
        assert self._identity is not None
        with self._lock:
            if self._folder is None or self.known_as(known.voice) is None:
                return
            record = VoiceRecord(
                name=known.voice.name,
                source=known.source,
                transcript=known.voice.transcript,
                codes=known.codes.astype(np.int16),
                audio=audio,
                model=self._identity.model,
                codec=self._identity.codec,
                created_at=self.now if known.record is None else known.record.created_at,
                description=known.facts.description,
                seed=known.facts.seed,
                consent=known.facts.consent,
            )
            there = self._contents.records.get(record.name)
            ours = there is not None and (there.source in ADDED) == (known.source in ADDED)
            try:
                self._store.write(record, replace=ours)
            except FileExistsError:
                self._rescan()
                other = self._contents.records.get(record.name)
                if known.design is not None and other is not None and self._fits(other, known.design):
                    known.codes = other.codes
                return
            self._rescan()

    @contextmanager
    def reserved(self, name: str) -> Iterator[None]:
        """Keep a name free of others while a voice for it is made.

        Raises VoiceExistsError and TooManyVoicesError.
        """
        with self._lock:
            taken = {known.lower() for known in self.current(at_once=True).known} | self._reserved
            if name.lower() in taken:
                raise VoiceExistsError(
                    f"There is a voice {name} already.", field="name", hint="Choose another name, or delete it first."
                )
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
            with self._lock:
                self._reserved.discard(name.lower())

    def add(self, record: VoiceRecord, *, complete: bool = True) -> tuple[KnownVoice, bool]:
        """Take in a voice whose name is reserved; it, and whether a file keeps it.

        complete: False keeps on disk only what the voice is made of: it is made anew by the next worker.
        Raises VoiceExistsError where another worker was faster, TooManyVoicesError where memory is full of them.
        """
        with self._lock:
            on_disk = record if complete else replace(record, codes=None, audio=None)
            try:
                kept = self._store.write(on_disk, replace=False)
            except FileExistsError:
                raise VoiceExistsError(f"There is a voice {record.name} already.", field="name") from None
            if not kept:
                if record.nbytes + sum(each.nbytes for each in self._added.values()) > MAX_MEMORY_BYTES:
                    raise TooManyVoicesError("The worker's memory holds no more voices.", field="name")
                self._added[record.name] = record
            self._rescan()
            known = self._view.known[record.name]
            known.codes = record.codes if known.codes is None else known.codes
            return known, kept

    def remove(self, name: str) -> None:
        """Raises VoiceNotFoundError and VoiceFixedError."""
        with self._lock:
            self.current(at_once=True)
            known = self.find(name)
            if known.source not in ADDED:
                owner = "ships with the worker" if known.source == "shipped" else "belongs to the operator's folder"
                raise VoiceFixedError(f"The voice {name} {owner} and cannot be deleted.", field="voice")
            if self._added.pop(name, None) is None:
                try:
                    self._store.remove(name)
                except FileNotFoundError:
                    pass  # another worker has removed it
                except OSError:
                    raise VoiceFixedError(
                        f"The voice {name} cannot be deleted, because the voice folder cannot be changed.",
                        field="voice",
                    ) from None
            self._rescan()

    def _rescan(self) -> None:
        if self._folder is not None:
            self._contents = self._folder.read()
        self._scanned_at = self._clock()
        self._rebuild()

    def _rebuild(self) -> None:
        voices, records = self._contents.voices, self._contents.records
        kept = {name: record for name, record in records.items() if record.source in ADDED}
        own = {name: self._of_folder(voice) for name, voice in voices.items()}
        own |= {name: self._of_record(record) for name, record in (self._added | kept).items() if name not in own}
        shipped = {
            name: self._of_design(name, design, "shipped")
            for name, design in shipped_designs().items()
            if name not in own
        }
        known = dict(sorted(own.items())) | shipped
        self._view = View(known, VoiceLibrary({name: each.voice for name, each in known.items()}))

    def _of_folder(self, voice: Voice) -> KnownVoice:
        if voice.design is not None:
            return self._of_design(voice.name, voice.design, "folder")
        before = self._view.known.get(voice.name)
        return before if before is not None and before.voice is voice else KnownVoice(voice, "folder")

    def _of_design(self, name: str, design: VoiceDesign, source: Source) -> KnownVoice:
        """Codes that were made here stay, whatever another worker keeps for other checkpoints."""
        before, record = self._view.known.get(name), self._contents.records.get(name)
        fits = record is not None and record.source not in ADDED and self._fits(record, design)
        same = before is not None and (before.design, before.source) == (design, source)
        if before is not None and same and (before.codes is not None or not fits):
            return before
        if fits and record is not None:
            return KnownVoice(
                Voice(name, record.transcript, codes=record.codes), source, design, record, codes=record.codes
            )
        return KnownVoice(Voice(name, CALIBRATION_SENTENCE, design=design), source, design)

    def _of_record(self, record: VoiceRecord) -> KnownVoice:
        before = self._view.known.get(record.name)
        if before is not None and before.record is record:
            return before
        design = record.design if record.source == "designed" else None
        if design is not None and not self._fits(record, design):
            return KnownVoice(Voice(record.name, CALIBRATION_SENTENCE, design=design), "designed", design, record)
        if self._identity is not None and record.codec != self._identity.codec:
            voice = Voice(record.name, record.transcript, waveform=self._waveform_of(record))
            return KnownVoice(voice, record.source, design, record)
        voice = Voice(record.name, record.transcript, codes=record.codes)
        return KnownVoice(voice, record.source, design, record, codes=record.codes)

    def _waveform_of(self, record: VoiceRecord) -> NDArray[np.float32]:
        """Of a clip whose codes are another codec's."""
        audio = record.audio
        if audio is None and self._folder is not None:
            try:
                audio = self._folder.read_record(record.name).audio
            except NotAVoiceFile:
                audio = None  # gone meanwhile: the next look at the folder leaves it out
        return (np.zeros(0, np.int16) if audio is None else audio).astype(np.float32) / np.float32(32768)

    def _fits(self, record: VoiceRecord, design: VoiceDesign) -> bool:
        """Whether a record's codes are what this engine would have made of the design."""
        identity = self._identity
        same = identity is None or (record.model, record.codec) == (identity.model, identity.codec)
        spoken = record.transcript == CALIBRATION_SENTENCE and record.codes is not None
        return same and spoken and record.design == design
