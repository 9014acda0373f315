"""The fields of a voice that is to be kept: uploaded, designed or saved from a result."""

from __future__ import annotations

from higgs_core.params import MAX_SEED
from higgs_core.speech.voices import NAME_RULE, is_voice_name
from serverless.config.settings import Settings
from serverless.payload.field_table import Field, Table
from serverless.payload.readers.codes import audio_codes
from serverless.payload.readers.json_schema import takes
from serverless.payload.readers.values import Reader, Refused, integer, is_empty
from serverless.voices.voice_file import (
    MAX_CONSENT_CHARACTERS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_TRANSCRIPT_CHARACTERS,
)

_REFUSALS = frozenset({"false", "no", "0", "off", "none", "null"})


@takes(lambda settings: {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"})
def new_name(value: object, settings: Settings) -> str:
    """A name that a voice may have: safe as the name of a file, in an address and in a log."""
    name = value.strip() if isinstance(value, str) and len(value) <= 200 else ""
    if not is_voice_name(name):
        raise Refused(value, "", sentence=f"name is not allowed: {NAME_RULE}.")
    return name


def words(limit: int) -> Reader[str]:
    """A text of some lines, in Unicode and without control characters."""

    @takes(lambda settings: {"type": "string", "maxLength": limit})
    def read(value: object, settings: Settings) -> str:
        allowed = f"a text of at most {limit} characters without control characters"
        if not isinstance(value, str) or len(value) > limit or not "".join(value.split()).isprintable():
            raise Refused(value, allowed)
        return " ".join(value.split())

    return read


@takes(lambda settings: {"type": "string", "maxLength": MAX_CONSENT_CHARACTERS})
def consent(value: object, settings: Settings) -> str:
    """How the speaker's consent is stated: any words but those of a refusal."""
    stated = words(MAX_CONSENT_CHARACTERS)("true" if value is True else value, settings)
    if stated.lower() in _REFUSALS:
        raise Refused(value, "", sentence="consent is refused; a voice is kept only if its speaker agrees.")
    return stated


class UploadedVoiceFields(Table):
    """The texts beside an uploaded clip."""

    name = Field(new_name)
    consent = Field(consent)
    ref_text = Field(words(MAX_TRANSCRIPT_CHARACTERS), default="")
    speaker_description = Field(words(MAX_DESCRIPTION_CHARACTERS), default=None)


class DesignedVoiceFields(Table):
    """A voice in words."""

    name = Field(new_name)
    description = Field(words(MAX_DESCRIPTION_CHARACTERS))
    seed = Field(integer(0, MAX_SEED), default=None)


class SavedVoiceFields(Table):
    """A voice from a result's codes."""

    name = Field(new_name)
    audio_tokens = Field(audio_codes, "generated_audio_tokens", blank=is_empty)
    transcript = Field(words(MAX_TRANSCRIPT_CHARACTERS), "ref_text")
