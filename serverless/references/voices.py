"""The voices of a request: library names looked up, their transcripts filled in."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from higgs_core.speech.request import ReferenceSource, RequestMessage, Speaker, SpeechRequest
from higgs_core.speech.voices import DEFAULT_VOICE, VoiceLibrary
from serverless.config.settings import Settings


def voice_library(settings: Settings) -> VoiceLibrary:
    """The worker's voices, read once. Call it at boot: it raises SettingsError for a folder with a broken voice."""
    if settings.voices_dir is None:
        return VoiceLibrary()
    return _read_library(
        settings.voices_dir,
        settings.max_reference_bytes,
        settings.max_reference_seconds,
        settings.min_reference_seconds,
    )


def with_voices(request: SpeechRequest, library: VoiceLibrary) -> SpeechRequest:
    """The request with the transcript of each voice filled in where it has none, and without the voice "default".

    Raises RequestError for a voice that does not exist.
    """

    def settled(source: ReferenceSource) -> ReferenceSource | None:
        if not is_voice(source):
            return source
        if source.voice == DEFAULT_VOICE:
            return None
        voice = library.find(source.voice or "", field=source.origin)
        return replace(source, transcript=source.transcript or voice.transcript)

    def settled_speaker(speaker: Speaker) -> Speaker:
        return speaker if speaker.reference is None else replace(speaker, reference=settled(speaker.reference))

    def settled_message(message: RequestMessage) -> RequestMessage:
        parts = [settled(part) if isinstance(part, ReferenceSource) else part for part in message.parts]
        return replace(message, parts=tuple(part for part in parts if part is not None))

    references = map(settled, request.references)
    return replace(
        request,
        references=tuple(source for source in references if source is not None),
        speakers=tuple(map(settled_speaker, request.speakers)),
        messages=None if request.messages is None else tuple(map(settled_message, request.messages)),
    )


@lru_cache(maxsize=1)
def _read_library(folder: Path, max_bytes: int, max_seconds: float, min_seconds: float) -> VoiceLibrary:
    return VoiceLibrary.from_folder(folder, max_bytes=max_bytes, max_seconds=max_seconds, min_seconds=min_seconds)


def is_voice(source: ReferenceSource) -> bool:
    """Whether the clip is named by `voice`: the other three ways come before it."""
    return source.voice is not None and source.url is None and source.base64 is None and source.path is None
