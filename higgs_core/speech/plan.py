"""A request as turns: those that stand before every piece (system turn, references), and its pieces.

Clips were fetched and decoded before; nothing is generated here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from higgs_core.errors import RequestError
from higgs_core.prompt.chatml import Message, TextContent
from higgs_core.prompt.size import CountTokens, most_positions
from higgs_core.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from higgs_core.speech.request import Clips, RequestMessage, SpeechRequest, clip_of
from higgs_core.speech.system_turn import system_turn_of
from higgs_core.speech.voice_pins import ANYBODY, unpinned_speakers
from higgs_core.text.chunking import count_words, cut, written_words
from higgs_core.text.normalize import normalize
from higgs_core.text.pauses import PausedScript, split_at_pauses
from higgs_core.text.speaker_tags import (
    bracketed,
    carry_tags,
    leading_tag,
    reference_tags,
    speaker_tags,
    with_names,
    with_tag,
)
from higgs_core.text.speech_length import (
    MAX_PIECE_WORDS,
    USUAL_COLUMNS_PER_WORD,
    SpeechLength,
    speech_length,
    timed_words,
    words_that_fit,
)
from higgs_core.text.spoken_numbers import spoken_numbers

# Words that a piece may hold however few decode steps it has, unless the checkpoint allows fewer. A client that sends
# few steps wants the beginning of the text, not many pieces of a few words each.
_FEWEST_WORDS = 10
_FEWEST_WORDS_OF_SENT_STEPS = 30
_NAMED_MARKS = 8  # in warnings, of those that look like pauses

LEAST_STEPS = 9
"""Decode steps without which there is no frame: the synthetic column, and 8 codebooks that lag a column each."""

CapFrom = Literal["client", "text", "ceiling"]


@dataclass(frozen=True)
class Piece:
    """A part of a script, spoken by one generation.

    The API calls it a chunk (`chunk_method`, `chunks`); here a chunk is a stretch of streamed audio.

    text: its words with the speakers' names as the client wrote them, text rules applied.
    turn: the same words, with the model's tags for the names and the tag in force in front.
    words: its length in words that take equally long to say, at least 1.
    length: the frames that it may take; None where the text does not say.
    cap: its decode steps.  cap_from: who set them, the client, the text or the worker's ceiling.
    pause_samples: silence before it, which the script asked for.
    """

    text: str
    turn: Message
    words: float
    length: SpeechLength | None
    cap: int
    cap_from: CapFrom
    pause_samples: int = 0

    @property
    def usual_columns(self) -> float:
        """The steps that a voice of usual pace takes, a guess."""
        return min(self.words * USUAL_COLUMNS_PER_WORD, self.cap)


@dataclass(frozen=True)
class SpeechPlan:
    """base_turns: the turns before every piece.  warnings: about fields that could not take effect.

    parallel: the pieces are spoken at the same time, none of them after another.
    pause_samples_at_end: silence after the last piece, which the script asked for.
    """

    base_turns: tuple[Message, ...]
    pieces: tuple[Piece, ...]
    warnings: tuple[str, ...]
    pause_samples_at_end: int = 0
    parallel: bool = False


def plan_speech(
    request: SpeechRequest,
    clips: Clips,
    max_context: int,
    count_tokens: CountTokens,
    *,
    max_piece_words: int = MAX_PIECE_WORDS,
) -> SpeechPlan:
    """Raises RequestError when there is nothing to speak, no step to speak in, more than the limits allow, or a clip is
    missing.

    max_context: the engine's positions for prompt and speech.
    max_piece_words: the most words of a piece unless the request says how many it wants.
    """
    if request.params.max_new_tokens < LEAST_STEPS:
        raise RequestError(
            f"max_new_tokens is {request.params.max_new_tokens}, which is too few for any audio: the first 40 ms take "
            f"{LEAST_STEPS} decode steps.",
            field="max_new_tokens",
            hint="Send 25 for each second of speech, or leave it out.",
        )
    if request.messages is not None:
        return _plan_messages(request, request.messages, clips)
    script, tag = _script(request), request.script_speaker_tag
    first_text, *_ = texts = [passage.text for passage in script.passages]
    tags = speaker_tags(with_tag("\n".join(texts), tag))
    system_turn = system_turn_of(request, clips, tags)
    base_turns = [system_turn] if system_turn else []
    base_turns += _reference_turns(request, clips, tagged=bool(tags))
    room = max_context - sum(most_positions(turn, count_tokens) for turn in base_turns)
    pieces = _pieces(script, request, room, max_piece_words)
    warnings = [
        f"{request.script_field} has {mark}, which is read as text; a pause is written [pause 1.5s]."
        for mark in script.unread[:_NAMED_MARKS]
    ]
    own_tag = leading_tag(first_text)
    if own_tag and tag and bracketed(tag) != f"[{own_tag}]":
        own = with_names(f"[{own_tag}]", request.speaker_names)
        warnings.append(f"script_speaker_tag was not used: the script starts with a tag of its own, {own}.")
    parallel = request.chunk_parallel
    if parallel and (unpinned := unpinned_speakers(request, (piece.turn for piece in pieces), tagged=bool(tags))):
        parallel = False
        names = [request.speaker_names.get(tag, tag) for tag in unpinned if tag != ANYBODY]
        named = f"the voice of {', '.join(names)}" if names else "the voice"
        warnings.append(
            f"chunk_parallel was not used: no clip, codes or library voice give {named}, so each piece follows the one "
            "before it."
        )
    return SpeechPlan(tuple(base_turns), pieces, tuple(warnings), _samples(script.pause_at_end), parallel)


def check_text(request: SpeechRequest, max_context: int, *, max_piece_words: int = MAX_PIECE_WORDS) -> None:
    """Raise what `plan_speech` would raise because of the script alone, before any clip of the request is there."""
    if request.messages is None:
        _pieces(_script(request), request, max_context, max_piece_words)


def _script(request: SpeechRequest) -> PausedScript:
    """The script, divided at its pauses; numbers as words and the text rules in each passage, as far as is wanted."""
    sent = request.script or ""
    script = split_at_pauses(sent, field=request.script_field)
    passages = tuple(replace(passage, text=_ruled(passage.text, request)) for passage in script.passages)
    script = replace(script, passages=passages)
    if not any(passage.text.strip() for passage in script.passages):
        held, else_ = "pauses", ""
        if not script.pause_seconds:
            held, else_ = "white space and brackets", ", or normalize: false to have the text taken as it is"
        raise RequestError(
            f"{request.script_field} has nothing to speak: it holds only {held}.",
            field=request.script_field,
            hint=f"Send words{else_}.",
        )
    if request.limits is not None:
        normalized = sum(len(passage.text) for passage in script.passages)
        request.limits.check_characters(len(sent), normalized, request.script_field)
    return script


def _ruled(text: str, request: SpeechRequest) -> str:
    if request.normalize_numbers is not None:
        text = spoken_numbers(text, request.normalize_numbers)
    return normalize(text) if request.normalize else text


def _pieces(script: PausedScript, request: SpeechRequest, room: int, max_words: int) -> tuple[Piece, ...]:
    """room: the positions that the turns before a piece leave."""
    limits = request.limits
    steps = min(request.params.max_new_tokens, room)
    texts: list[str] = []
    pauses: list[int] = []
    for passage in script.passages:
        cut_passage = _cut(passage.text, request, steps, max_words)
        texts += cut_passage
        pauses += [_samples(passage.pause_before)] + [0] * (len(cut_passage) - 1)
    if limits is not None:
        limits.check_pieces(len(texts), request.script_field)
    pieces = tuple(
        _piece(text, Message("user", tagged_text), request, pause)
        for text, tagged_text, pause in zip(texts, carry_tags(texts, request.script_speaker_tag), pauses, strict=True)
    )
    if limits is not None:
        spoken = sum(piece.usual_columns for piece in pieces) / FRAMES_PER_SECOND
        limits.check_audio_seconds(spoken + script.pause_seconds, request.script_field)
    return pieces


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLING_RATE)


def _cut(text: str, request: SpeechRequest, steps: int, most_words: int) -> list[str]:
    """Pieces of as many words as the client asks for, else of as many as the slowest voice speaks in the steps."""
    method, turns, words = request.chunk_method, request.chunk_max_num_turns, request.chunk_max_word_num
    if words is not None:
        return cut(text, method, words, turns, measure=written_words)
    at_least = _FEWEST_WORDS if request.cap_follows_text else _FEWEST_WORDS_OF_SENT_STEPS
    fitting = words_that_fit(steps, at_least=at_least, at_most=most_words)
    return cut(text, method, fitting, turns, measure=timed_words, inside_words=True)


def _piece(text: str, turn: Message, request: SpeechRequest, pause_samples: int = 0) -> Piece:
    # A model that may write text first decides itself what it speaks, so the script says nothing about the length.
    length = speech_length(text) if request.params.force_audio_gen else None
    cap = request.params.max_new_tokens
    cap_from: CapFrom = "ceiling" if request.cap_follows_text else "client"
    if request.cap_follows_text and length is not None and length.most <= cap:
        cap, cap_from = length.most, "text"
    words = max(count_words(text, timed_words), 1.0)
    return Piece(with_names(text, request.speaker_names), turn, words, length, cap, cap_from, pause_samples)


def _reference_turns(request: SpeechRequest, clips: Clips, *, tagged: bool) -> list[Message]:
    """For each clip its words as the user's turn and its audio as the assistant's; none if the system turn has them.

    tagged: the script names its speakers, see `reference_tags`.
    """
    if request.ref_audio_in_system_message and request.messages is None:
        return []
    tags = reference_tags([source.speaker_tag for source in request.references], tagged=tagged)
    turns = []
    for index, (source, tag) in enumerate(zip(request.references, tags, strict=True)):
        words = source.transcript or f"Reference sample {index + 1}."
        turns += [Message("user", with_tag(words, tag)), Message("assistant", clip_of(source, clips))]
    return turns


def _plan_messages(request: SpeechRequest, given: tuple[RequestMessage, ...], clips: Clips) -> SpeechPlan:
    """The turns as given, references before the last user turn. They are one piece."""
    if not given:
        raise RequestError("messages is empty; send at least one user turn.", field="messages")
    turns = [
        Message(
            message.role, [part if isinstance(part, TextContent) else clip_of(part, clips) for part in message.parts]
        )
        for message in given
    ]
    last_user = max((at for at, message in enumerate(given) if message.role == "user"), default=len(given))
    words = "".join(
        part.text for message in given[last_user:][:1] for part in message.parts if isinstance(part, TextContent)
    )
    turns[last_user:last_user] = _reference_turns(request, clips, tagged=bool(speaker_tags(words)))
    without_effect = {
        "script_speaker_tag": request.script_speaker_tag,
        "scene_prompt": request.scene_prompt,
        "speakers": request.speakers,
        "ref_audio_in_system_message": request.ref_audio_in_system_message,
    }
    warnings = tuple(
        f"{field} has no effect beside messages, which are used as they are."
        for field, value in without_effect.items()
        if value
    )
    return SpeechPlan(tuple(turns[:-1]), (_piece(words, turns[-1], request),), warnings)
