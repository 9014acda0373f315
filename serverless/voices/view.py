"""The voices at one moment: who goes before whom, and whose codes serve the engine that is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.speech.voices import Voice, VoiceDesign, VoiceLibrary
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.facts import ADDED, Source, VoiceFacts, readable
from serverless.voices.folder import FolderContents
from serverless.voices.shipped import shipped_designs
from serverless.voices.voice_file import VoiceRecord

if TYPE_CHECKING:
    from higgs_core.checkpoint.identity import CheckpointIdentity


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

    def as_record(self, identity: CheckpointIdentity, audio: NDArray[np.int16], now: int) -> VoiceRecord:
        """To be kept with the codes that a checkpoint made of it. audio: int16 [N].  now: seconds since 1970."""
        assert self.codes is not None
        facts = self.facts
        return VoiceRecord(
            name=self.voice.name,
            source=self.source,
            transcript=self.voice.transcript,
            codes=self.codes.astype(np.int16),
            audio=audio,
            model=identity.model,
            codec=identity.codec,
            created_at=now if self.record is None else self.record.created_at,
            description=facts.description,
            seed=facts.seed,
            consent=facts.consent,
        )


@dataclass(frozen=True)
class View:
    """The voices at one moment. library: for parsing requests."""

    known: Mapping[str, KnownVoice] = field(default_factory=dict)
    library: VoiceLibrary = field(default_factory=VoiceLibrary)


def view_of(
    contents: FolderContents,
    added: Mapping[str, VoiceRecord],
    before: View,
    identity: CheckpointIdentity | None,
    audio_of: Callable[[str], NDArray[np.int16] | None],
) -> View:
    """What requests may name: the operator's voices, then those that were added, then what ships; each in the order of
    its names. What has not changed stays the same object, and codes that were made here stay.

    added: what no folder keeps.  identity: of the engine; None before there is one.
    audio_of: reads the audio of a voice's file again.
    """
    build = _Build(contents, before, identity, audio_of)
    kept = {name: record for name, record in contents.records.items() if record.source in ADDED}
    own = {name: build.of_folder(voice) for name, voice in contents.voices.items()}
    records = {name: build.of_record(record) for name, record in {**added, **kept}.items() if name not in own}
    own |= {name: known for name, known in records.items() if known is not None}
    shipped = {
        name: build.of_design(name, design, "shipped") for name, design in shipped_designs().items() if name not in own
    }
    known = dict(sorted(own.items())) | shipped
    return View(known, VoiceLibrary({name: each.voice for name, each in known.items()}))


def known_of(record: VoiceRecord) -> KnownVoice:
    """A voice whose codes are as they were kept."""
    design = record.design if record.source == "designed" else None
    voice = Voice(record.name, record.transcript, codes=record.codes)
    return KnownVoice(voice, record.source, design, record, codes=record.codes)


def fits(record: VoiceRecord, design: VoiceDesign, identity: CheckpointIdentity | None) -> bool:
    """Whether a record's codes are what this engine would have made of the design."""
    same = identity is None or (record.model, record.codec) == (identity.model, identity.codec)
    spoken = record.transcript == CALIBRATION_SENTENCE and record.codes is not None
    return same and spoken and record.design == design


@dataclass(frozen=True)
class _Build:
    contents: FolderContents
    before: View
    identity: CheckpointIdentity | None
    audio_of: Callable[[str], NDArray[np.int16] | None]

    def of_folder(self, voice: Voice) -> KnownVoice:
        if voice.design is not None:
            return self.of_design(voice.name, voice.design, "folder")
        before = self.before.known.get(voice.name)
        return before if before is not None and before.voice is voice else KnownVoice(voice, "folder")

    def of_design(self, name: str, design: VoiceDesign, source: Source) -> KnownVoice:
        """Codes that were made here stay, whatever another worker keeps for other checkpoints."""
        before, record = self.before.known.get(name), self.contents.records.get(name)
        if record is not None and (record.source in ADDED or not fits(record, design, self.identity)):
            record = None
        same = before is not None and (before.design, before.source) == (design, source)
        if before is not None and same and (before.codes is not None or record is None):
            return before
        if record is not None:
            voice = Voice(name, record.transcript, codes=record.codes)
            return KnownVoice(voice, source, design, record, codes=record.codes)
        return KnownVoice(Voice(name, CALIBRATION_SENTENCE, design=design), source, design)

    def of_record(self, record: VoiceRecord) -> KnownVoice | None:
        """None while the audio of a voice cannot be read that has to be encoded anew."""
        before = self.before.known.get(record.name)
        if before is not None and before.record is record:
            return before
        design = record.design if record.source == "designed" else None
        if design is not None and not fits(record, design, self.identity):
            return KnownVoice(Voice(record.name, CALIBRATION_SENTENCE, design=design), "designed", design, record)
        if self.identity is not None and record.codec != self.identity.codec:
            audio = record.audio if record.audio is not None else self.audio_of(record.name)
            if audio is None:
                return None
            waveform = audio.astype(np.float32) / np.float32(32768)
            return KnownVoice(Voice(record.name, record.transcript, waveform=waveform), record.source, design, record)
        return known_of(record)
