"""The JSON objects of a request: each field with its aliases, its reader and its default.

A field's first name is the attribute itself; the strings after the reader are its aliases, in order of precedence.
"""

from __future__ import annotations

from typing import Literal

from higgs_core.audio import WavEncoding
from higgs_core.params import (
    DEFAULT_STOP_STRINGS,
    MAX_COUNT,
    MAX_RAS_WINDOW,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOP_P,
    TOP_K_OFF,
    GenerationParams,
)
from higgs_core.prompt.chatml import Role
from higgs_core.speech.request import MAX_RETRIES, SpeechRequest
from higgs_core.text.chunking import ChunkMethod
from serverless.payload.field_table import Field, Table
from serverless.payload.presets import DEFAULT_PRESET, PRESET_NAMES
from serverless.payload.readers.codes import audio_codes
from serverless.payload.readers.texts import (
    anything,
    encoded_audio,
    line,
    number_language,
    one_or_more,
    one_or_more_objects,
    speaker_entries,
    speaker_tag,
    stop_strings,
    text,
    turn_entries,
    verbatim,
    voice_name,
)
from serverless.payload.readers.values import (
    are_blank_entries,
    audio_format,
    choice,
    integer,
    is_blank_entry,
    is_blank_list,
    is_empty,
    is_null,
    nullable,
    number,
    switch,
)

Delivery = Literal["auto", "inline", "s3"]

WAV_ENCODINGS: dict[str, WavEncoding] = {"pcm_16": "pcm_16", "float32": "float32"}
DELIVERIES: dict[str, Delivery] = {"auto": "auto", "inline": "inline", "s3": "s3"}
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
CHUNK_METHODS: dict[str, ChunkMethod] = {
    "auto": "auto",
    "none": "none",
    "word": "word",
    "sentence": "sentence",
    "speaker": "speaker",
}

url = line(8192)
path = line(4096)
extension = line(16)


def never_blank(value: object) -> bool:
    """The `blank` of a field for which null and "" are values: no value counts as not given."""
    return False


class ClipFields(Table):
    """One clip: where it comes from (the first of the five wins) and the words that are spoken in it."""

    audio_url = Field(url, "url", default=None)
    audio_base64 = Field(encoded_audio, "base64", "raw_audio", default=None)
    path = Field(path, "audio_path", default=None)
    voice = Field(voice_name, default=None, blank=is_blank_entry)
    audio_tokens = Field(audio_codes, "generated_audio_tokens", default=None, blank=is_null)
    transcript = Field(text, "text", "prompt", default=None)
    file_extension = Field(extension, "extension", default=None)


class ReferenceFields(ClipFields):
    """An entry of `references`."""

    speaker_tag = Field(speaker_tag, "speaker", default=None)


class SpeakerFields(ClipFields):
    """A value of `speakers`; its key is the tag."""

    description = Field(text, default=None)


class TurnFields(Table):
    """An entry of `dialogue`."""

    speaker = Field(speaker_tag)
    text = Field(text)


class MessageFields(Table):
    """An entry of `messages`."""

    role = Field(choice(ROLES))
    content = Field(anything, default="", blank=is_null)


class TextPartFields(Table):
    """A part of a message that is text."""

    type = Field(anything, default="text")
    text = Field(verbatim, blank=is_null)


class AudioPartFields(ReferenceFields):
    """A part of a message that is a clip."""

    type = Field(anything, default="audio")


class EnvelopeFields(Table):
    """The `input` in which the platform passes on a call of its …/openai/v1/… routes."""

    openai_route = Field(anything)
    openai_input = Field(anything, default=None)


class RequestFields(Table):
    """`input`."""

    # Text.
    script = Field(text, "prompt", "transcript", "text", "input", default=None)
    script_speaker_tag = Field(speaker_tag, default=None)
    dialogue = Field(turn_entries, default=None, blank=is_empty)
    messages = Field(anything, default=None, blank=is_empty)
    system_prompt = Field(verbatim, setting="system_prompt", blank=is_null)
    scene_prompt = Field(text, "instructions", default=None)
    normalize = Field(switch, default=SpeechRequest.normalize)
    normalize_numbers = Field[str | None](number_language, default=SpeechRequest.normalize_numbers)

    # Voices.
    references = Field(one_or_more_objects, default=None, blank=are_blank_entries)
    reference_audio_urls = Field(
        one_or_more(url), "reference_audio_url", "reference_audio", default=None, blank=is_blank_list
    )
    reference_audio_base64 = Field(one_or_more(encoded_audio), "reference_audio_b64", default=None, blank=is_blank_list)
    reference_audio_paths = Field(one_or_more(path), "reference_audio_path", default=None, blank=is_blank_list)
    reference_transcripts = Field(one_or_more(text), "reference_transcript", default=None, blank=is_blank_list)
    reference_speaker_tags = Field(one_or_more(speaker_tag), "reference_speaker_tag", default=None, blank=is_blank_list)
    reference_file_extensions = Field(
        one_or_more(extension), "reference_file_extension", default=None, blank=is_blank_list
    )
    voice = Field(voice_name, default=None, blank=is_blank_entry)
    speakers = Field(speaker_entries, default=None, blank=is_empty)
    ref_audio_in_system_message = Field(switch, default=SpeechRequest.ref_audio_in_system_message)
    prepare_references = Field(switch, default=SpeechRequest.prepare_references)

    # Splitting of the script into pieces.
    chunk_method = Field[ChunkMethod](choice(CHUNK_METHODS), default=SpeechRequest.chunk_method)
    chunk_max_word_num = Field[int | None](integer(1, 10_000), default=SpeechRequest.chunk_max_word_num)
    chunk_max_num_turns = Field(integer(1, 10_000), default=SpeechRequest.chunk_max_num_turns)
    generation_chunk_buffer_size = Field[int | None](
        nullable(integer(0, 10_000), "no limit"),
        default=SpeechRequest.generation_chunk_buffer_size,
        blank=never_blank,
    )

    chunk_parallel = Field(switch, default=SpeechRequest.chunk_parallel)

    # Sampling.
    preset = Field(choice(PRESET_NAMES), default=DEFAULT_PRESET)
    max_new_tokens = Field(integer(1, "max_context"), setting="max_new_tokens_ceiling")
    temperature = Field(number(0, MAX_TEMPERATURE), setting="temperature")
    top_p = Field(nullable(number(0, MAX_TOP_P, above=True)), setting="top_p", blank=never_blank)
    top_k = Field(nullable(integer(1, MAX_COUNT), also=TOP_K_OFF), setting="top_k", blank=never_blank)
    ras_win_len = Field(nullable(integer(None, MAX_RAS_WINDOW)), setting="ras_win_len", blank=never_blank)
    ras_win_max_num_repeat = Field(integer(1, MAX_COUNT), setting="ras_win_max_num_repeat")
    seed = Field(integer(0, MAX_SEED), default=None)
    stop_strings = Field[tuple[str, ...]](stop_strings, default=DEFAULT_STOP_STRINGS, blank=is_empty)
    force_audio_gen = Field(switch, default=GenerationParams.force_audio_gen)

    # Retries of faulty pieces, and the silence after a piece.
    retries = Field[int | None](integer(0, MAX_RETRIES), default=SpeechRequest.retries)
    trim = Field(switch, default=SpeechRequest.trim)

    # Output.
    response_format = Field(audio_format, setting="response_format")
    wav_encoding = Field[WavEncoding](choice(WAV_ENCODINGS), default="pcm_16")
    speed = Field(number(0.25, 4), default=1.0)
    loudness = Field[float | None](number(-30, -10), default=None)
    delivery = Field[Delivery](choice(DELIVERIES), default="auto")
    stream = Field(switch, default=False)
    return_audio_tokens = Field(switch, default=False)
    return_text_tokens = Field(switch, default=False)
    download_timeout = Field(number(0, "max_download_timeout", above=True), setting="download_timeout")
