"""A job's `input` as a SpeechRequest, without I/O. Anything wrong in it is a RequestError.

request_fields.py declares the fields and what each allows; this module combines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from higgs_core.audio import WavEncoding
from higgs_core.errors import RequestError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import TextContent
from higgs_core.speech.request import ReferenceSource, RequestMessage, Speaker, SpeechRequest
from higgs_core.speech.voices import VoiceLibrary
from higgs_core.speech.work_limits import WorkLimits
from higgs_core.text.pauses import has_pause
from higgs_core.text.speaker_tags import speaker_tags, with_names, with_tag
from serverless.config.settings import Settings
from serverless.payload.clips import clips_of
from serverless.payload.dialogue import parse_turns, script_of
from serverless.payload.field_table import ParseContext
from serverless.payload.messages import parse_messages
from serverless.payload.openai import to_job_input
from serverless.payload.presets import PRESETS
from serverless.payload.readers.values import JsonObject, Refused
from serverless.payload.request_fields import Delivery, EnvelopeFields, RequestFields
from serverless.payload.speaker_names import warn_of_misspelt_speakers
from serverless.payload.speakers import SpeakerMap, path_of_speaker, speakers_of
from serverless.voices.shipped import shipped_library

_NOTHING_TO_SPEAK = "Request must include a 'script'/'prompt' or pre-built 'messages'."
# Fields that say how a script becomes messages; they have no effect on messages that the client sent.
_ONLY_FOR_SCRIPTS = (
    "system_prompt",
    "scene_prompt",
    "speakers",
    "ref_audio_in_system_message",
    "normalize",
    "normalize_numbers",
    "chunk_method",
    "chunk_max_word_num",
    "chunk_max_num_turns",
    "generation_chunk_buffer_size",
    "chunk_parallel",
)


@dataclass(frozen=True)
class OutputOptions:
    """What is returned and how.

    speed: the factor of the time-stretch; 1.0 leaves the audio as it is.
    loudness: in LUFS; None leaves it as the model made it.
    download_timeout: seconds in which all reference clips must be fetched.
    """

    response_format: str
    wav_encoding: WavEncoding
    delivery: Delivery
    stream: bool
    speed: float
    loudness: float | None
    return_audio_tokens: bool
    return_text_tokens: bool
    download_timeout: float


@dataclass(frozen=True)
class ParsedJob:
    """A valid job.

    script_echo: the script, a name of a speaker where one has the turn, which the response repeats; None for messages
    alone.
    reference_transcripts: for each clip of `request.references` the transcript that the client gave, or None.
    """

    request: SpeechRequest
    output: OutputOptions
    warnings: tuple[str, ...]
    script_echo: str | None
    reference_transcripts: tuple[str | None, ...]


def parse_job(job_input: object, settings: Settings, *, voices: VoiceLibrary | None = None) -> ParsedJob:
    """Read the `input` of a job, or OpenAI's passthrough in its place.

    voices: the voice library, by default what ships. Every voice that the request names is in it, and its transcript
    is filled in where the client gave none; "default" leaves the voice to the model. Warnings name every field that had
    no effect.

    Raises RequestError: one sentence with field, value and what is allowed.
    """
    context = ParseContext(settings, shipped_library() if voices is None else voices)
    fields = RequestFields(_body(job_input, context), context)
    turns = parse_turns(fields, context)
    clips_and_words = clips_of(fields, context)
    clips = tuple(clip for clip, _ in clips_and_words)

    clip_speakers = [clip.speaker_tag for clip in clips if clip.speaker_tag]
    speaker_map = SpeakerMap(fields, turns, clip_speakers, context)
    clips = tuple(
        replace(clip, speaker_tag=clip.speaker_tag and speaker_map.tag_of(clip.speaker_tag)) for clip in clips
    )
    speakers = speakers_of(fields, speaker_map, context)
    script = script_of(fields, turns, speaker_map, context)
    tag = _script_tag(fields, speaker_map)

    if "messages" in fields.given:
        request = _from_messages(fields, clips, script, tag, context)
    elif script is not None:
        _warn_of_silent_speakers(script, tag, speaker_map, context)
        warn_of_misspelt_speakers(script, tuple(speaker_map.names.values()), context)
        request = _from_script(fields, clips, speakers, script, tag, context)
    else:
        raise RequestError(_NOTHING_TO_SPEAK, field="script", hint=" ".join(context.warnings[:3]) or None)
    cap_follows_text = "max_new_tokens" not in fields.given
    request = replace(
        request,
        speaker_names={} if script is None else speaker_map.names,  # messages have the client's own tags
        prepare_references=fields.prepare_references,
        cap_follows_text=cap_follows_text,
        retries=fields.retries,
        trim=fields.trim,
    )
    _check_clips(request, settings)
    output = _output(fields, context)
    script_echo = script and with_names(script, speaker_map.names)
    return ParsedJob(request, output, context.warnings, script_echo, tuple(words for _, words in clips_and_words))


def _body(job_input: object, context: ParseContext) -> JsonObject:
    if job_input is None:
        return {}
    if not isinstance(job_input, Mapping):
        raise Refused(job_input, 'an object such as {"script": "Hello."}').as_error("input")
    if "openai_route" not in job_input and "openai_input" not in job_input:
        return job_input
    envelope = EnvelopeFields(job_input, context)
    return to_job_input(envelope.openai_route, envelope.openai_input)


def _script_tag(fields: RequestFields, speaker_map: SpeakerMap) -> str | None:
    tag = fields.script_speaker_tag
    return None if fields.dialogue or tag is None else speaker_map.tag_of(tag)


def _warn_of_silent_speakers(
    script: str, script_tag: str | None, speaker_map: SpeakerMap, context: ParseContext
) -> None:
    described, with_a_turn = speaker_map.described, {script_tag, *speaker_tags(script)}
    # A single speaker speaks a script without any tag, as in Boson's examples of a described voice.
    if len(described) == 1 and with_a_turn == {None}:
        return
    for tag in sorted(described.keys() - with_a_turn):
        context.warn(f"{path_of_speaker(described[tag])} has nothing to say: no turn of the script is theirs.")


def _from_script(
    fields: RequestFields,
    clips: tuple[ReferenceSource, ...],
    speakers: tuple[Speaker, ...],
    script: str,
    tag: str | None,
    context: ParseContext,
) -> SpeechRequest:
    is_default, settings = "system_prompt" not in fields.given, context.settings
    return SpeechRequest(
        script=script,
        script_field=fields.given.get("dialogue") or fields.given["script"],
        script_speaker_tag=tag,
        system_prompt=fields.system_prompt if fields.system_prompt.strip() else None,
        system_prompt_is_default=is_default and settings.system_prompt_is_builtin,
        scene_prompt=fields.scene_prompt,
        references=clips,
        speakers=speakers,
        ref_audio_in_system_message=fields.ref_audio_in_system_message,
        normalize=fields.normalize,
        normalize_numbers=fields.normalize_numbers,
        chunk_method=fields.chunk_method,
        chunk_max_word_num=fields.chunk_max_word_num,
        chunk_max_num_turns=fields.chunk_max_num_turns,
        generation_chunk_buffer_size=fields.generation_chunk_buffer_size,
        chunk_parallel=fields.chunk_parallel,
        params=_params(fields),
        limits=WorkLimits(settings.max_script_characters, settings.max_pieces, settings.max_audio_seconds),
    )


def _from_messages(
    fields: RequestFields,
    clips: tuple[ReferenceSource, ...],
    script: str | None,
    tag: str | None,
    context: ParseContext,
) -> SpeechRequest:
    """The messages as the client wrote them; a script beside them becomes one more user turn, unchanged."""
    messages = parse_messages(fields.messages, context)
    unused = [name for name in _ONLY_FOR_SCRIPTS if name in fields.given]
    if script is not None:
        spoken = fields.given.get("dialogue") or fields.given["script"]
        context.warn(f"{spoken} was added to messages as the last user turn, as it is and in one piece.")
        messages += (RequestMessage("user", (TextContent(with_tag(script, tag)),)),)
    elif "script_speaker_tag" in fields.given:
        unused.append("script_speaker_tag")
    for name in unused:
        context.warn_ignored(fields.given[name], "messages")
    texts = (part.text for message in messages for part in message.parts if isinstance(part, TextContent))
    if any(map(has_pause, texts)):
        context.warn("A pause tag in messages is read as text; send script or dialogue to have pauses.")
    return SpeechRequest(messages=messages, references=clips, params=_params(fields))


def _params(fields: RequestFields) -> GenerationParams:
    """A field that the request gives wins over its preset, and the preset over the worker's settings."""
    preset = {name: value for name, value in PRESETS[fields.preset].items() if name not in fields.given}
    sampling = fields.values | preset
    window = sampling["ras_win_len"]
    return GenerationParams(
        max_new_tokens=fields.max_new_tokens,
        temperature=sampling["temperature"],
        top_p=sampling["top_p"],
        top_k=sampling["top_k"],
        ras_win_len=window if window is not None and window > 0 else None,
        ras_win_max_num_repeat=sampling["ras_win_max_num_repeat"],
        seed=fields.seed,
        stop_strings=fields.stop_strings,
        force_audio_gen=fields.force_audio_gen,
    )


def _output(fields: RequestFields, context: ParseContext) -> OutputOptions:
    if "wav_encoding" in fields.given and fields.response_format != "wav":
        context.warn("wav_encoding was ignored because response_format is not wav.")
    return OutputOptions(
        response_format=fields.response_format,
        wav_encoding=fields.wav_encoding,
        delivery=fields.delivery,
        stream=fields.stream,
        speed=fields.speed,
        loudness=fields.loudness,
        return_audio_tokens=fields.return_audio_tokens,
        return_text_tokens=fields.return_text_tokens,
        download_timeout=fields.download_timeout,
    )


def _check_clips(request: SpeechRequest, settings: Settings) -> None:
    clips, limit = len(request.reference_sources), settings.max_references
    if clips > limit:
        raise RequestError(
            f"The request has {clips} reference clips; allowed is at most {limit}.",
            field=request.reference_sources[limit].origin,
        )
