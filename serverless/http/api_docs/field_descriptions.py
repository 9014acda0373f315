"""What each field of a request means, in a sentence: the words of the OpenAPI document."""

from __future__ import annotations

from serverless.payload.field_table import Table
from serverless.payload.request_fields import (
    ClipFields,
    MessageFields,
    ReferenceFields,
    RequestFields,
    SpeakerFields,
    TurnFields,
)
from serverless.payload.voice_fields import DesignedVoiceFields, SavedVoiceFields, UploadedVoiceFields

_NAME = "1 to 64 letters, digits, - and _."
_CLIP = {
    "audio_url": "Address of a clip, fetched from public addresses only.",
    "audio_base64": "A clip in base64, also as a data: address.",
    "path": "Path of a clip on the worker, below the folders that its operator allows.",
    "voice": "Name of a voice of the library.",
    "audio_tokens": "The codes of a clip, 8 lists of T numbers, as a result returns them.",
    "transcript": "The words that are spoken in the clip.",
    "file_extension": "What the clip would be called, such as mp3, where its content does not say.",
}
DESCRIPTIONS: dict[type[Table], dict[str, str]] = {
    ClipFields: _CLIP,
    ReferenceFields: {**_CLIP, "speaker_tag": "The speaker of a script whose voice this is, such as SPEAKER0."},
    SpeakerFields: {**_CLIP, "description": "The voice in words, where there is no clip of it."},
    TurnFields: {"speaker": "Who speaks: a name, or a tag such as SPEAKER0.", "text": "What is said."},
    MessageFields: {
        "role": "Whose turn it is.",
        "content": "A text, a part or a list of parts: {type: text, text} or {type: audio, and the fields of a clip}.",
    },
    UploadedVoiceFields: {
        "name": _NAME,
        "consent": "Any words that say that the speaker agrees.",
        "ref_text": "The words in the clip, which make the copy closer.",
        "speaker_description": "The voice in words, for people.",
    },
    DesignedVoiceFields: {
        "name": _NAME,
        "description": "The voice in words, for the model.",
        "seed": "Another one is another voice. Drawn and told when not sent.",
    },
    SavedVoiceFields: {
        "name": _NAME,
        "audio_tokens": "The codes of a result, 8 lists of T numbers.",
        "transcript": "The words that are spoken in them.",
    },
    RequestFields: {
        "script": "The text to speak. [SPEAKER0] at the start of a line gives it to a speaker.",
        "script_speaker_tag": "Makes the whole script the turn of this speaker.",
        "dialogue": "The turns of several speakers, instead of a tagged script.",
        "messages": "Ready-made turns, used instead of the prompts.",
        "system_prompt": "The system turn; an empty text for none. By default the worker's own.",
        "scene_prompt": "Where and how it is spoken.",
        "normalize": "Apply Boson's text rules: punctuation, and sounds such as [laugh].",
        "normalize_numbers": "Read numbers as words: true for English, or a language.",
        "prepare_references": "Mend clips before they are used; false takes them as they are.",
        "references": "Reference clips, whose voices speak.",
        "reference_audio_urls": "Clips by address; used where there are no references.",
        "reference_audio_base64": "Clips in base64; used where there are no references.",
        "reference_audio_paths": "Clips by path; used where there are no references.",
        "reference_transcripts": "The words of the clips of the reference_audio lists, by position.",
        "reference_speaker_tags": "The speakers of the clips of the reference_audio lists, by position.",
        "reference_file_extensions": "The extensions of the clips of the reference_audio lists, by position.",
        "voice": "Name of a voice of the library; default lets the model choose.",
        "speakers": "A clip, a voice or a description for each speaker by name.",
        "ref_audio_in_system_message": "Put clips in the scene block instead of turns of their own.",
        "chunk_method": "How long text is cut in pieces.",
        "chunk_max_word_num": "Words a piece. By default as many as the slowest voice speaks in a piece's steps.",
        "chunk_max_num_turns": "Turns a piece, with the chunk_method speaker.",
        "generation_chunk_buffer_size": "How many of the last pieces are context; null for all that fit.",
        "chunk_parallel": "Generate pieces at the same time where a clip or a voice pins the speaker.",
        "preset": "Defaults of the sampling for what is to be heard.",
        "max_new_tokens": "Decode steps a piece, 25 for a second. Not sent, it follows the text.",
        "temperature": "0 is greedy.",
        "top_p": "Keep the likeliest tokens up to this sum of probabilities; null for off.",
        "top_k": "Keep this many of the likeliest tokens; null for off.",
        "ras_win_len": "Repetition-aware sampling: steps that it looks back; null or 0 for off.",
        "ras_win_max_num_repeat": "Repetition-aware sampling: how often a token may come in that window.",
        "seed": "Makes the noise of the sampler the same again. Drawn and reported when not sent.",
        "stop_strings": "Texts that end the generation.",
        "force_audio_gen": "false lets the model write text first.",
        "retries": "How often a piece that went wrong is generated again. 1 by default, 0 with a seed.",
        "trim": "Cut silence after a piece.",
        "response_format": "Format of the audio; aac where ffmpeg is installed.",
        "wav_encoding": "Samples of a wav file.",
        "speed": "How fast it is spoken; 1 is the model's own pace.",
        "loudness": "LUFS by BS.1770; null leaves the speech as loud as the model made it.",
        "delivery": "inline, by s3, or auto: inline if it fits.",
        "stream": "Answer in parts while it is generated.",
        "return_audio_tokens": "Add the codes, 8 lists of T numbers.",
        "return_text_tokens": "Add the ids of the text tokens.",
        "download_timeout": "Seconds for all clips by address together.",
    },
}
