"""Which clips a request speaks with, in every form that the contract knows; none of them is fetched here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from higgs_core.errors import RequestError
from higgs_core.speech.request import ReferenceSource
from higgs_core.speech.voices import DEFAULT_VOICE
from serverless.payload.fields import Reading
from serverless.payload.tables import ClipFields, ReferenceFields, RequestFields

# OpenAI's clients have to send one of these, whether or not the library has a voice of that name.
OPENAI_VOICES = frozenset(
    {"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse"}
)
# Field of a reference object -> field of ReferenceSource, in order of priority.
CLIP_SOURCES = {"audio_url": "url", "audio_base64": "base64", "path": "path", "voice": "voice"}
_LIST_SOURCES = {"reference_audio_urls": "url", "reference_audio_base64": "base64", "reference_audio_paths": "path"}
_LIST_WORDS = ("reference_transcripts", "reference_speaker_tags", "reference_file_extensions")


def chosen_voice(name: str | None, path: str, reading: Reading) -> str | None:
    """The library's voice of that name; None when the model is to choose.

    A name that nobody knows is kept: it is refused where the library itself is read, with the names that exist.
    """
    if name is None or name.lower() == DEFAULT_VOICE:
        return None
    if name.lower() in OPENAI_VOICES and name not in reading.voices:
        reading.warn(f"{path}: this worker has no voice {name.lower()!r}, so the model chooses the voice.")
        return None
    return name


def clip_of(fields: ClipFields, reading: Reading, *, tag: str | None = None) -> ReferenceSource | None:
    """The clip that an object names; None when it leaves the voice to the model.

    Raises RequestError when the object names no clip at all.
    """
    sources = [name for name in CLIP_SOURCES if name in fields.given]
    if not sources:
        raise RequestError(
            f"{fields.at} names no clip; give one of audio_url, audio_base64, path and voice.", field=fields.at
        )
    used, *ignored = sources
    for name in ignored:
        reading.warn_ignored(fields.path_given(name), fields.path_given(used))
    where = fields.values[used]
    if used == "voice":
        where = chosen_voice(where, fields.path_given(used), reading)
    if where is None:
        return None
    return ReferenceSource(
        fields.at,
        transcript=fields.transcript,
        speaker_tag=tag,
        file_extension=fields.file_extension,
        **{CLIP_SOURCES[used]: where},
    )


def clips_of(request: RequestFields, reading: Reading) -> tuple[ReferenceSource, ...]:
    """The clips of `references`, else of the top-level reference_* fields, else of `voice`."""
    sources = [name for name in _LIST_SOURCES if name in request.given]
    words = [name for name in _LIST_WORDS if name in request.given]
    if "references" in request.given:
        _ignore(request, [*sources, *words, "voice"], "references", reading)
        return tuple(_listed(request, reading))
    if sources:
        _ignore(request, ["voice"], request.given[sources[0]], reading)
        return tuple(_zipped(request, reading))
    for name in words:
        reading.warn(f"{request.given[name]} was ignored because no clip is given beside it.")
    if "speakers" in request.given:
        _ignore(request, ["voice"], "speakers", reading)
        return ()
    voice = chosen_voice(request.voice, "voice", reading)
    return (ReferenceSource("voice", voice=voice, speaker_tag=request.script_speaker_tag),) if voice else ()


def _listed(request: RequestFields, reading: Reading) -> Iterator[ReferenceSource]:
    for index, entry in enumerate(request.references or ()):
        at = f"references[{index}]"
        if not entry:
            reading.warn(f"{at} is blank and was left out.")
            continue
        fields = ReferenceFields(entry, reading, at)
        clip = clip_of(fields, reading, tag=fields.speaker_tag)
        if clip is not None:
            yield clip


def _zipped(request: RequestFields, reading: Reading) -> Iterator[ReferenceSource]:
    """The lists side by side: what stands at one index belongs together."""
    columns = [getattr(request, name) or () for name in (*_LIST_SOURCES, *_LIST_WORDS)]
    for index, (*sources, transcript, tag, extension) in enumerate(zip_longest(*columns)):
        found = {name: where for name, where in zip(_LIST_SOURCES, sources, strict=True) if where is not None}
        if not found:
            if any(words is not None for words in (transcript, tag, extension)):
                reading.warn(
                    f"The reference_* fields have no clip at index {index}; what else stands there was ignored."
                )
            continue
        used, *ignored = (f"{request.given[name]}[{index}]" for name in found)
        for name in ignored:
            reading.warn_ignored(name, used)
        field, where = next(iter(found.items()))
        yield ReferenceSource(
            used, transcript=transcript, speaker_tag=tag, file_extension=extension, **{_LIST_SOURCES[field]: where}
        )


def _ignore(request: RequestFields, fields: Iterable[str], because: str, reading: Reading) -> None:
    for name in fields:
        if name in request.given:
            reading.warn_ignored(request.given[name], because)
