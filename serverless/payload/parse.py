"""A job's `input` as a SpeechRequest: pure, without I/O, and with one clear RequestError for whatever is wrong in it.

The tables of payload_tables.py say what is allowed; this module says how the parts of a request fit together.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from higgs_core.errors import RequestError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import TextContent
from higgs_core.speech.request import ReferenceSource, RequestMessage, Speaker, SpeechRequest
from higgs_core.text.speaker_tags import speaker_tags, with_tag
from serverless.config.settings import Settings
from serverless.payload.clips import clips_of
from serverless.payload.fields import Reading
from serverless.payload.messages import parse_messages
from serverless.payload.openai import to_job_input
from serverless.payload.speakers import Cast, path_of_speaker, speakers_of
from serverless.payload.tables import Delivery, EnvelopeFields, RequestFields, TurnFields, WavEncoding
from serverless.payload.values import JsonObject, Refused

_NOTHING_TO_SPEAK = "Request must include a 'script'/'prompt' or pre-built 'messages'."
# Fields that say how a script becomes turns; messages are turns already.
_ONLY_FOR_SCRIPTS = (
    "system_prompt",
    "scene_prompt",
    "speakers",
    "ref_audio_in_system_message",
    "normalize",
    "chunk_method",
    "chunk_max_word_num",
    "chunk_max_num_turns",
    "generation_chunk_buffer_size",
)


@dataclass(frozen=True)
class OutputOptions:
    """What is returned and how. speed: how much faster than the model speaks; 1.0 leaves the audio as it is.

    download_timeout: seconds for fetching all reference clips together.
    """

    response_format: str = "wav"
    wav_encoding: WavEncoding = "pcm_16"
    delivery: Delivery = "auto"
    stream: bool = False
    speed: float = 1.0
    return_audio_tokens: bool = False
    return_text_tokens: bool = False
    download_timeout: float = 30.0


@dataclass(frozen=True)
class ParsedJob:
    """A checked job. script_echo: the words to speak, as the response repeats them.

    reference_transcripts: per reference clip the words that the client gave, or None.
    """

    request: SpeechRequest
    output: OutputOptions
    warnings: tuple[str, ...] = ()
    script_echo: str | None = None
    reference_transcripts: tuple[str | None, ...] = ()


def parse_job(job_input: object, settings: Settings, *, voices: Container[str] = frozenset()) -> ParsedJob:
    """Read the `input` of a job, or OpenAI's passthrough in its place.

    voices: the names in the voice library; one of OpenAI's own names that is not among them leaves the voice to the
    model. Warnings name every field that had no effect.

    Raises RequestError: one sentence with field, value and what is allowed.
    """
    reading = Reading(settings, voices)
    fields = RequestFields(_body(job_input, reading), reading)
    turns = [TurnFields(turn, reading, f"dialogue[{index}]") for index, turn in enumerate(fields.dialogue or ())]
    clips = clips_of(fields, reading)

    in_use = [*speaker_tags(fields.script or ""), *(clip.speaker_tag for clip in clips if clip.speaker_tag)]
    cast = Cast(fields, turns, in_use, reading)
    clips = tuple(replace(clip, speaker_tag=clip.speaker_tag and cast.tag_of(clip.speaker_tag)) for clip in clips)
    speakers = speakers_of(fields, cast, reading)
    script = _script(fields, turns, cast, reading)

    if "messages" in fields.given:
        request = _from_messages(fields, clips, script, cast, reading)
    elif script is not None:
        request = _from_script(fields, clips, speakers, script, cast, reading)
    else:
        raise RequestError(_NOTHING_TO_SPEAK, field="script", hint=" ".join(reading.warnings[:3]) or None)
    cap_follows_text = "max_new_tokens" not in fields.given
    request = replace(request, cap_follows_text=cap_follows_text, retries=fields.retries, trim=fields.trim)
    _check_clips(request, settings)
    output = _output(fields, reading)
    return ParsedJob(request, output, reading.warnings, script, tuple(clip.transcript for clip in clips))


def _body(job_input: object, reading: Reading) -> JsonObject:
    if job_input is None:
        return {}
    if not isinstance(job_input, Mapping):
        raise Refused(job_input, 'an object such as {"script": "Hello."}').as_error("input")
    if "openai_route" not in job_input and "openai_input" not in job_input:
        return job_input
    envelope = EnvelopeFields(job_input, reading)
    return to_job_input(envelope.openai_route, envelope.openai_input)


def _script(fields: RequestFields, turns: list[TurnFields], cast: Cast, reading: Reading) -> str | None:
    """The words to speak, every speaker called by a tag that the model knows."""
    if not turns:
        return None if fields.script is None else cast.retag(fields.script)
    for name in ("script", "script_speaker_tag"):
        if name in fields.given:
            reading.warn_ignored(fields.given[name], "dialogue")
    script, limit = cast.script_of(turns), reading.settings.max_script_characters
    if len(script) > limit:
        raise RequestError(
            f"dialogue is {len(script)} characters long with its tags; allowed is at most {limit}.", field="dialogue"
        )
    return script


def _script_tag(fields: RequestFields, cast: Cast) -> str | None:
    tag = fields.script_speaker_tag
    return None if fields.dialogue or tag is None else cast.tag_of(tag)


def _from_script(
    fields: RequestFields,
    clips: tuple[ReferenceSource, ...],
    speakers: tuple[Speaker, ...],
    script: str,
    cast: Cast,
    reading: Reading,
) -> SpeechRequest:
    is_default = "system_prompt" not in fields.given
    tag = _script_tag(fields, cast)
    # The only speaker speaks a script without tags, and without one, as in Boson's examples with a voice profile.
    only_one = tag is None and len(cast.described) == 1 and not speaker_tags(script)
    for silent in sorted(set() if only_one else set(cast.described) - {tag, *speaker_tags(script)}):
        reading.warn(f"{path_of_speaker(cast.described[silent])} has nothing to say: no turn of the script is theirs.")
    return SpeechRequest(
        script=script,
        script_speaker_tag=tag,
        system_prompt=fields.system_prompt if fields.system_prompt.strip() else None,
        system_prompt_is_default=is_default and reading.settings.system_prompt_is_builtin,
        scene_prompt=fields.scene_prompt,
        references=clips,
        speakers=speakers,
        ref_audio_in_system_message=fields.ref_audio_in_system_message,
        normalize=fields.normalize,
        chunk_method=fields.chunk_method,
        chunk_max_word_num=fields.chunk_max_word_num,
        chunk_max_num_turns=fields.chunk_max_num_turns,
        generation_chunk_buffer_size=fields.generation_chunk_buffer_size,
        params=_params(fields),
    )


def _from_messages(
    fields: RequestFields, clips: tuple[ReferenceSource, ...], script: str | None, cast: Cast, reading: Reading
) -> SpeechRequest:
    """Turns as the client wrote them; a script beside them is one more turn of the user, as it is."""
    messages = parse_messages(fields.messages, reading)
    unused = [name for name in _ONLY_FOR_SCRIPTS if name in fields.given]
    if script is not None:
        spoken = fields.given.get("dialogue") or fields.given["script"]
        reading.warn(f"{spoken} was added to messages as the last user turn, as it is and in one piece.")
        messages += (RequestMessage("user", (TextContent(with_tag(script, _script_tag(fields, cast))),)),)
    elif "script_speaker_tag" in fields.given:
        unused.append("script_speaker_tag")
    for name in unused:
        reading.warn_ignored(fields.given[name], "messages")
    return SpeechRequest(messages=messages, references=clips, params=_params(fields))


def _params(fields: RequestFields) -> GenerationParams:
    window = fields.ras_win_len
    return GenerationParams(
        max_new_tokens=fields.max_new_tokens,
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=fields.top_k,
        ras_win_len=window if window is not None and window > 0 else None,
        ras_win_max_num_repeat=fields.ras_win_max_num_repeat,
        seed=fields.seed,
        stop_strings=fields.stop_strings,
        force_audio_gen=fields.force_audio_gen,
    )


def _output(fields: RequestFields, reading: Reading) -> OutputOptions:
    if "wav_encoding" in fields.given and fields.response_format != "wav":
        reading.warn("wav_encoding was ignored because response_format is not wav.")
    return OutputOptions(
        response_format=fields.response_format,
        wav_encoding=fields.wav_encoding,
        delivery=fields.delivery,
        stream=fields.stream,
        speed=fields.speed,
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
