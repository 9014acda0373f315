"""One voice as a file: safetensors, with what is known of the voice in the header's metadata.

Format: https://huggingface.co/docs/safetensors, "Format". Tensors `codes`, int16 [8, T], and `audio`, int16 [N] at
24 kHz: an added clip, or the codes decoded. Nothing in such a file is trusted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from higgs_core.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from higgs_core.speech.voices import VoiceDesign, is_voice_name
from serverless.voices.facts import SOURCES, Source

FORMAT = "higgs-audio-voice-1"
SUFFIX = ".safetensors"
CODEBOOKS, LARGEST_CODE = 8, 1023
MAX_SECONDS = 300
MAX_TRANSCRIPT_CHARACTERS = 5_000
MAX_DESCRIPTION_CHARACTERS = 1_000
MAX_CONSENT_CHARACTERS = 1_000
_MAX_HEADER_BYTES = 100_000
MAX_FILE_BYTES = _MAX_HEADER_BYTES + MAX_SECONDS * (2 * SAMPLING_RATE + 2 * CODEBOOKS * FRAMES_PER_SECOND)


class NotAVoiceFile(Exception):
    """What is wrong with a file, as the end of a sentence that begins with `it`."""


class VoiceFileUnreachable(NotAVoiceFile):
    """It could not be read this time, which says nothing of what is in it."""


@dataclass(frozen=True, eq=False)
class VoiceRecord:
    """A voice as it is kept.

    design: what a designed voice was made of; of an uploaded one, description alone may say something.
    model, codec: the identities of the checkpoints that made the codes.
    codes: int16 [8, T], None for a design that is to be spoken.  audio: int16 [N], None where it was not read.
    created_at: seconds since 1970.
    """

    name: str
    source: Source
    transcript: str
    codes: NDArray[np.int16] | None
    audio: NDArray[np.int16] | None
    model: str
    codec: str
    created_at: int
    description: str | None = None
    seed: int | None = None
    consent: str | None = None

    @property
    def design(self) -> VoiceDesign | None:
        if self.description is None or self.seed is None:
            return None
        return VoiceDesign(self.description, self.seed)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self.codes, self.audio) if array is not None)


def to_bytes(record: VoiceRecord) -> bytes:
    """The file of a record."""
    facts = {
        "format": FORMAT,
        "name": record.name,
        "source": record.source,
        "transcript": record.transcript,
        "description": record.description,
        "seed": None if record.seed is None else str(record.seed),
        "consent": record.consent,
        "created_at": str(record.created_at),
        "model": record.model,
        "codec": record.codec,
    }
    tensors = {"codes": record.codes, "audio": record.audio}
    return save(
        {name: np.ascontiguousarray(tensor, np.int16) for name, tensor in tensors.items() if tensor is not None},
        {name: fact for name, fact in facts.items() if fact is not None},
    )


def from_bytes(data: bytes) -> VoiceRecord:
    """The record of a file. Raises NotAVoiceFile."""
    facts, tensors = _facts(data), _tensors(data)
    codes, audio = tensors.get("codes"), tensors.get("audio")
    for array, dimensions, rate in ((codes, 2, FRAMES_PER_SECOND), (audio, 1, SAMPLING_RATE)):
        if array is None:
            continue
        if array.dtype != np.int16 or array.ndim != dimensions or not array.size:
            raise NotAVoiceFile("holds tensors of another type or shape")
        if array.shape[-1] > MAX_SECONDS * rate:
            raise NotAVoiceFile(f"lasts longer than {MAX_SECONDS} s")
    if codes is not None and (len(codes) != CODEBOOKS or codes.min() < 0 or codes.max() > LARGEST_CODE):
        raise NotAVoiceFile("holds codes that are none")
    record = VoiceRecord(
        name=_text(facts, "name", 64) or "",
        source=cast(Source, facts.get("source")),
        transcript=(_text(facts, "transcript", MAX_TRANSCRIPT_CHARACTERS) or "").strip(),
        codes=codes,
        audio=audio,
        model=_text(facts, "model", 200) or "",
        codec=_text(facts, "codec", 200) or "",
        created_at=_whole(facts, "created_at") or 0,
        description=_text(facts, "description", MAX_DESCRIPTION_CHARACTERS),
        seed=_whole(facts, "seed"),
        consent=_text(facts, "consent", MAX_CONSENT_CHARACTERS),
    )
    wordless = not record.transcript and record.source != "uploaded"  # whoever uploads may not know the words
    if not is_voice_name(record.name) or record.source not in SOURCES or wordless:
        raise NotAVoiceFile("lacks name, source or transcript")
    described = record.design is not None and record.source not in ("uploaded", "saved")  # it can be made
    if not described and (record.codes is None or record.audio is None):
        raise NotAVoiceFile("holds neither codes nor a design")
    return record


def _facts(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise NotAVoiceFile("is damaged or no voice")
    try:
        facts = json.loads(data[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotAVoiceFile("is damaged or no voice") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise NotAVoiceFile("is of another kind, or of another version of this worker")
    return facts


def _tensors(data: bytes) -> dict[str, NDArray[Any]]:
    try:
        return load(data)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError):
        raise NotAVoiceFile("is damaged") from None


def _text(facts: dict[str, Any], name: str, limit: int) -> str | None:
    value = facts.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > limit):
        raise NotAVoiceFile(f"has a {name} of over {limit} characters")
    return value


def _whole(facts: dict[str, Any], name: str) -> int | None:
    value = _text(facts, name, 20)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or int(value) >= 1 << 63:
        raise NotAVoiceFile(f"has a {name} that is no whole number")
    return int(value)
