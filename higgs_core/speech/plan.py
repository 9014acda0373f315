"""A request as turns: what stays before every piece (system turn, references) and what each piece adds.

Pure: clips were fetched and decoded before, codes of earlier pieces come from the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from higgs_core.errors import RequestError
from higgs_core.prompt.chatml import AudioContent, ChatMLSample, Message, TextContent
from higgs_core.prompt.size import CountTokens, most_positions, utf8_length
from higgs_core.speech.request import ReferenceSource, RequestMessage, SpeechRequest
from higgs_core.speech.scene import MULTI_SPEAKER_PROMPT, SceneVoice, default_voices, scene_of, system_turn
from higgs_core.text.chunking import cut, written_words
from higgs_core.text.normalize import normalize
from higgs_core.text.speaker_tags import bracketed, carry_tags, leading_tag, speaker_tags, with_tag
from higgs_core.text.speech_length import timed_words, words_that_fit

Clips = Mapping[ReferenceSource, AudioContent]

# Words that a piece may hold however few decode steps it has. Who sends few steps wants to hear how a text begins, and
# not every few words of it as a piece.
_FEWEST_WORDS = 10
_FEWEST_WORDS_OF_SENT_STEPS = 30


@dataclass(frozen=True)
class Plan:
    """A request taken apart.

    base: the turns that every piece is generated after.
    pieces: the words of each piece as the client wrote them, text rules applied.
    turns: each piece's own turn, with the speaker tag in force.
    warnings: fields that could not take effect.
    """

    base: tuple[Message, ...]
    pieces: tuple[str, ...]
    turns: tuple[Message, ...]
    warnings: tuple[str, ...] = ()

    def sample(self, index: int, earlier: Iterable[tuple[Message, Message]] = ()) -> ChatMLSample:
        """What the engine is given for one piece. earlier: the turns of pieces spoken before it, with their audio."""
        spoken = [message for pair in earlier for message in pair]
        return ChatMLSample([*self.base, *spoken, self.turns[index]], shared_turns=len(self.base))


def plan(
    request: SpeechRequest,
    clips: Clips,
    *,
    max_context: int | None = None,
    count_tokens: CountTokens = utf8_length,
) -> Plan:
    """Raises RequestError when there is nothing to speak or a clip is missing.

    max_context: the engine's positions for prompt and speech; None: nothing but the request bounds a piece.
    """
    if request.messages is not None:
        return _plan_messages(request, clips)
    return _plan_script(request, clips, max_context, count_tokens)


def spoken_turns(turn: Message, codes: object) -> tuple[Message, Message]:
    """A finished piece as context of the next. codes: int64 [8, T], complete frames."""
    return turn, Message("assistant", AudioContent(codes=codes))


def _plan_script(request: SpeechRequest, clips: Clips, max_context: int | None, count_tokens: CountTokens) -> Plan:
    script = request.script or ""
    if request.normalize:
        script = normalize(script)
    if not script.strip():
        raise RequestError(
            "script has nothing to speak: it holds only white space and brackets.",
            field="script",
            hint="Send words, or normalize: false to have the text taken as it is.",
        )
    tag = request.script_speaker_tag
    tags = speaker_tags(with_tag(script, tag))
    base = [*_system_turn(request, clips, tags), *_reference_turns(request, clips, tagged=bool(tags))]
    steps = request.params.max_new_tokens
    if max_context is not None:
        steps = min(steps, max_context - sum(most_positions(turn, count_tokens) for turn in base))
    pieces = _cut(script, request, steps)
    turns = tuple(Message("user", words) for words in carry_tags(pieces, tag))
    return Plan(tuple(base), tuple(pieces), turns, _tag_warnings(script, tag))


def _cut(script: str, request: SpeechRequest, steps: int) -> list[str]:
    """Pieces of as many words as the client asks for, else of as many as the slowest voice speaks in the steps."""
    method, turns, words = request.chunk_method, request.chunk_max_num_turns, request.chunk_max_word_num
    if words is None:
        at_least = _FEWEST_WORDS if request.cap_follows_text else _FEWEST_WORDS_OF_SENT_STEPS
        return cut(
            script, method, words_that_fit(steps, at_least=at_least), turns, measure=timed_words, inside_words=True
        )
    return cut(script, method, words, turns, measure=written_words)


def _system_turn(request: SpeechRequest, clips: Clips, tags: Sequence[str]) -> list[Message]:
    prompt = request.system_prompt
    scene = request.scene_prompt or ""
    voices = _scene_voices(request, clips)
    stands_for_default = request.system_prompt_is_default
    if len(tags) > 1 and prompt and stands_for_default and not voices and not request.references:
        scene = scene.strip() or scene_of(prompt)
        prompt, voices = MULTI_SPEAKER_PROMPT, default_voices(tags)
    turn = system_turn(prompt, scene=scene, voices=voices, replace_scene=stands_for_default)
    return [turn] if turn else []


def _scene_voices(request: SpeechRequest, clips: Clips) -> list[SceneVoice]:
    """Who speaks, as far as it is said in the scene block and not by turns."""
    voices = []
    for speaker in request.speakers:
        if speaker.reference is not None:
            voices.append(SceneVoice(speaker.tag, _clip(speaker.reference, clips)))
        elif speaker.description:
            voices.append(SceneVoice(speaker.tag, speaker.description))
    if request.ref_audio_in_system_message:
        taken = {voice.tag for voice in voices} | {bare_tag(source) for source in request.references}
        free = (tag for tag in map("SPEAKER{}".format, range(len(taken) + len(request.references))) if tag not in taken)
        voices += [SceneVoice(bare_tag(source) or next(free), _clip(source, clips)) for source in request.references]
    return voices


def bare_tag(source: ReferenceSource) -> str | None:
    """The tag of a reference without its brackets."""
    return bracketed(source.speaker_tag)[1:-1] if source.speaker_tag else None


def _reference_turns(request: SpeechRequest, clips: Clips, *, tagged: bool) -> list[Message]:
    """Per clip the words as the user's turn and the clip as the assistant's.

    tagged: the script names its speakers. Several clips that name none are then SPEAKER0, SPEAKER1, … in their order;
    in an untagged script they are several clips of the one voice.
    """
    if request.ref_audio_in_system_message and request.messages is None:
        return []
    numbered = tagged and len(request.references) > 1 and not any(source.speaker_tag for source in request.references)
    turns = []
    for index, source in enumerate(request.references):
        words = source.transcript or f"Reference sample {index + 1}."
        tag = f"SPEAKER{index}" if numbered else source.speaker_tag
        turns += [Message("user", with_tag(words, tag)), Message("assistant", _clip(source, clips))]
    return turns


def _plan_messages(request: SpeechRequest, clips: Clips) -> Plan:
    """The turns as given, references before the last user turn. They are one piece."""
    given = request.messages or ()
    if not given:
        raise RequestError("messages is empty; send at least one user turn.", field="messages")
    turns = [_message(message, clips) for message in given]
    users = [at for at, message in enumerate(given) if message.role == "user"]
    last_user = users[-1] if users else len(turns)
    words = _words(given[last_user]) if users else ""
    turns[last_user:last_user] = _reference_turns(request, clips, tagged=bool(speaker_tags(words)))
    return Plan(tuple(turns[:-1]), (words,), (turns[-1],), _messages_warnings(request))


def _message(message: RequestMessage, clips: Clips) -> Message:
    parts = [part if isinstance(part, TextContent) else _clip(part, clips) for part in message.parts]
    return Message(message.role, parts)


def _words(message: RequestMessage) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextContent))


def _clip(source: ReferenceSource, clips: Clips) -> AudioContent:
    if source not in clips:
        raise RequestError(f"{source.origin} has no audio.", field=source.origin)
    return clips[source]


def _tag_warnings(script: str, tag: str | None) -> tuple[str, ...]:
    own = leading_tag(script)
    if own and tag and bracketed(tag) != f"[{own}]":
        return (f"script_speaker_tag was not used: the script starts with a tag of its own, [{own}].",)
    return ()


def _messages_warnings(request: SpeechRequest) -> tuple[str, ...]:
    without_effect = {
        "script_speaker_tag": request.script_speaker_tag,
        "scene_prompt": request.scene_prompt,
        "speakers": request.speakers,
        "ref_audio_in_system_message": request.ref_audio_in_system_message,
    }
    return tuple(
        f"{name} has no effect beside messages, which are used as they are."
        for name in without_effect
        if without_effect[name]
    )
