"""Voices that people add: from a description, from a clip, from the codes of a result. Blocking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio import to_pcm16
from higgs_core.errors import RequestError
from higgs_core.params import MAX_SEED, draw_seed
from higgs_core.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from higgs_core.speech.voices import NAME_RULE, VoiceDesign, is_voice_name
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.facts import Source, VoiceFacts
from serverless.voices.voice_file import (
    MAX_CONSENT_CHARACTERS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_TRANSCRIPT_CHARACTERS,
    VoiceRecord,
)

if TYPE_CHECKING:
    from serverless.config.settings import Settings
    from serverless.voices.catalogue import Catalogue
    from serverless.voices.making import VoiceMaker

_IN_MEMORY = "No writable voice folder is set, so the voice {} lasts until this worker ends."


@dataclass(frozen=True)
class AddedVoice:
    """A voice that was added. warnings: what is to be known about it."""

    facts: VoiceFacts
    warnings: tuple[str, ...]


class VoiceAdditions:
    """Checks what people send, makes the voice's codes and has the catalogue take it in, under a name that is kept free
    meanwhile. Each raises RequestError for what is not allowed, VoiceExistsError and TooManyVoicesError."""

    def __init__(self, settings: Settings, catalogue: Catalogue, maker: VoiceMaker) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._maker = maker

    def add_design(self, name: str, description: str, seed: int | None) -> AddedVoice:
        """seed: None draws one. Raises NoAudioError for a voice that does not sound."""
        _check_name(name)
        description = _checked("description", description, MAX_DESCRIPTION_CHARACTERS)
        if seed is not None and not 0 <= seed <= MAX_SEED:
            raise RequestError(f"seed is {seed}; allowed is 0 to {MAX_SEED}.", field="seed")
        design = VoiceDesign(description, draw_seed() if seed is None else seed)
        with self._catalogue.reserved(name):
            spoken = self._maker.speak(name, design)
            record = self._record(name, "designed", CALIBRATION_SENTENCE, spoken.codes, spoken.audio)
            record = replace(record, description=design.description, seed=design.seed)
            return self._take_in(record, spoken.warnings)

    def add_clip(
        self,
        name: str,
        waveform: NDArray[np.float32],
        transcript: str,
        *,
        consent: str | None,
        description: str | None,
    ) -> AddedVoice:
        """waveform: float32 [N], mono, 24 kHz."""
        _check_name(name)
        transcript = _checked("ref_text", transcript, MAX_TRANSCRIPT_CHARACTERS) if transcript.strip() else ""
        if consent is not None:
            consent = _checked("consent", consent, MAX_CONSENT_CHARACTERS)
        if description is not None:
            description = _checked("speaker_description", description, MAX_DESCRIPTION_CHARACTERS)
        self._check_seconds("audio_sample", len(waveform) / SAMPLING_RATE)
        with self._catalogue.reserved(name):
            codes = self._maker.encode(waveform)
            record = self._record(name, "uploaded", transcript, codes, to_pcm16(waveform))
            return self._take_in(replace(record, consent=consent, description=description))

    def add_saved(self, name: str, codes: NDArray[Any], transcript: str) -> AddedVoice:
        """codes: integers [8, T]."""
        _check_name(name)
        transcript = _checked("transcript", transcript, MAX_TRANSCRIPT_CHARACTERS)
        self._check_seconds("audio_tokens", codes.shape[-1] / FRAMES_PER_SECOND)
        with self._catalogue.reserved(name):
            audio = self._maker.decode(codes)
            return self._take_in(self._record(name, "saved", transcript, codes.astype(np.int16), audio))

    def _record(
        self, name: str, source: Source, transcript: str, codes: NDArray[np.int16], audio: NDArray[np.int16]
    ) -> VoiceRecord:
        identity = self._maker.identity
        return VoiceRecord(name, source, transcript, codes, audio, identity.model, identity.codec, self._catalogue.now)

    def _take_in(self, record: VoiceRecord, warnings: tuple[str, ...] = ()) -> AddedVoice:
        known, kept = self._catalogue.add(record, complete=not warnings)
        known.warnings = warnings
        return AddedVoice(known.facts, warnings if kept else (*warnings, _IN_MEMORY.format(record.name)))

    def _check_seconds(self, field: str, seconds: float) -> None:
        least, most = self._settings.min_reference_seconds, self._settings.max_reference_seconds
        if not least <= seconds <= most:
            raise RequestError(
                f"{field} lasts {seconds:.1f} s; allowed is {least:g} to {most:g} s.",
                field=field,
                hint="3 to 30 seconds of one voice are best.",
            )


def _check_name(name: str) -> None:
    if not is_voice_name(name):
        raise RequestError("name is not allowed.", field="name", hint=f"{NAME_RULE[0].upper()}{NAME_RULE[1:]}.")


def _checked(field: str, text: str, limit: int) -> str:
    words = text.strip()
    if not 0 < len(words) <= limit:
        raise RequestError(f"{field} has {len(words)} characters; allowed is 1 to {limit}.", field=field)
    return words
