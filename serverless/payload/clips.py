"""The reference clips of a request, in every form in which it may name them; none of them is fetched here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from higgs_core.errors import RequestError
from higgs_core.speech.request import ReferenceSource
from higgs_core.speech.voices import DEFAULT_VOICE, Voice
from serverless.payload.field_table import ParseContext
from serverless.payload.request_fields import ClipFields, ReferenceFields, RequestFields
from serverless.voices.shipped import shipped_designs

# Field of a reference object -> field of ReferenceSource, in order of priority.
CLIP_SOURCES = {
    "audio_url": "url",
    "audio_base64": "base64",
    "path": "path",
    "voice": "voice",
    "audio_tokens": "codes",
}
_LIST_SOURCES = {"reference_audio_urls": "url", "reference_audio_base64": "base64", "reference_audio_paths": "path"}
_LIST_WORDS = ("reference_transcripts", "reference_speaker_tags", "reference_file_extensions")

ClipAndWords = tuple[ReferenceSource, str | None]
"""A clip, and the transcript that the client sent for it or None. The clip itself may have the voice library's."""


def chosen_voice(name: str | None, context: ParseContext, *, origin: str) -> Voice | None:
    """The library's voice of that name; None when the model is to choose.

    Raises RequestError, with the nearest spelling and some names that exist, for a name that is not in the library.
    """
    if name is None or name.lower() == DEFAULT_VOICE:
        return None
    if name not in context.voices and name.lower() in shipped_designs():
        name = name.lower()  # OpenAI's names, which some clients write with a capital
    return context.voices.find(name, field=origin)


def clip_of(fields: ClipFields, context: ParseContext, *, tag: str | None = None) -> ReferenceSource | None:
    """The clip that an object names; None when it leaves the voice to the model.

    Raises RequestError when the object names no clip at all.
    """
    sources = [name for name in CLIP_SOURCES if name in fields.given]
    if not sources:
        raise RequestError(
            f"{fields.at} names no clip; give one of audio_url, audio_base64, path, voice and audio_tokens.",
            field=fields.at,
        )
    used, *ignored = sources
    for name in ignored:
        context.warn_ignored(fields.path_given(name), fields.path_given(used))
    where, transcript = fields.values[used], fields.transcript
    if used == "voice":
        voice = chosen_voice(where, context, origin=fields.at)
        if voice is None:
            return None
        where, transcript = voice, transcript or voice.transcript
    return ReferenceSource(
        fields.at,
        transcript=transcript,
        speaker_tag=tag,
        file_extension=fields.file_extension,
        **{CLIP_SOURCES[used]: where},
    )


def clips_of(request: RequestFields, context: ParseContext) -> tuple[ClipAndWords, ...]:
    """The clips of `references`, else of the top-level reference_* fields, else of `voice`."""
    sources = [name for name in _LIST_SOURCES if name in request.given]
    words = [name for name in _LIST_WORDS if name in request.given]
    if "references" in request.given:
        _ignore(request, [*sources, *words, "voice"], "references", context)
        return tuple(_listed(request, context))
    if sources:
        _ignore(request, ["voice"], request.given[sources[0]], context)
        return tuple(_zipped(request, context))
    for name in words:
        context.warn(f"{request.given[name]} was ignored because no clip is given beside it.")
    if "speakers" in request.given:
        _ignore(request, ["voice"], "speakers", context)
        return ()
    voice = chosen_voice(request.voice, context, origin="voice")
    if voice is None:
        return ()
    tag = request.script_speaker_tag
    return ((ReferenceSource("voice", voice=voice, transcript=voice.transcript, speaker_tag=tag), None),)


def _listed(request: RequestFields, context: ParseContext) -> Iterator[ClipAndWords]:
    for index, entry in enumerate(request.references or ()):
        at = f"references[{index}]"
        if not entry:
            context.warn(f"{at} is blank and was left out.")
            continue
        fields = ReferenceFields(entry, context, at)
        clip = clip_of(fields, context, tag=fields.speaker_tag)
        if clip is not None:
            yield clip, fields.transcript


def _zipped(request: RequestFields, context: ParseContext) -> Iterator[ClipAndWords]:
    """The clips of the reference_* lists: the entries at one index describe one clip."""
    columns = [getattr(request, name) or () for name in (*_LIST_SOURCES, *_LIST_WORDS)]
    for index, (*sources, transcript, tag, extension) in enumerate(zip_longest(*columns)):
        found = {name: where for name, where in zip(_LIST_SOURCES, sources, strict=True) if where is not None}
        if not found:
            if any(words is not None for words in (transcript, tag, extension)):
                context.warn(
                    f"The reference_* fields have no clip at index {index}; what else stands there was ignored."
                )
            continue
        used, *ignored = (f"{request.given[name]}[{index}]" for name in found)
        for name in ignored:
            context.warn_ignored(name, used)
        field, where = next(iter(found.items()))
        clip = ReferenceSource(
            used, transcript=transcript, speaker_tag=tag, file_extension=extension, **{_LIST_SOURCES[field]: where}
        )
        yield clip, transcript


def _ignore(request: RequestFields, fields: Iterable[str], because: str, context: ParseContext) -> None:
    for name in fields:
        if name in request.given:
            context.warn_ignored(request.given[name], because)
