"""A ChatML sample as positions of the language model, in Boson's layout.

Every part (turn prefix, each content part, turn suffix, generation postfix) is tokenised separately; control tokens are
inserted by id. Inside a system turn the first `<|scene_desc_start|>` and the last `<|scene_desc_end|>` after it are the
scene block's own marks; every other spelling of a control token, there or elsewhere, is plain text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from higgs_core.config import ModelConfig
from higgs_core.prompt.chatml import AudioContent, ChatMLSample, Message, TextContent
from higgs_core.prompt.delay_pattern import delay, delayed_columns
from higgs_core.prompt.tokenizer import CONTROL_TOKENS, ControlTokens, HiggsTokenizer

EncodeClip = Callable[[AudioContent], torch.Tensor]
"""A clip as codes, int64 [Q, T]."""

_SCENE_START = CONTROL_TOKENS["scene_start"]
_SCENE_END = CONTROL_TOKENS["scene_end"]


@dataclass(frozen=True, eq=False)
class Prompt:
    """token_ids: unexpanded ids, one placeholder a clip (what usage counts).

    positions [L]: ids with each placeholder repeated for every column of its clip.  is_audio: bool [L], their places.
    columns [Q, A]: the columns of all clips in order, A = number of audio positions.
    history [Q, H]: the columns of assistant clips only, which the RAS window may reach into.
    prefix_length: positions of the turns that other samples share, such as the system turn and the references.
    """

    token_ids: list[int]
    positions: torch.Tensor
    is_audio: torch.Tensor
    columns: torch.Tensor
    history: torch.Tensor
    prefix_length: int

    @property
    def length(self) -> int:
        return self.positions.shape[0]

    @cached_property
    def prefix_fingerprint(self) -> bytes:
        """The same for prompts whose first `prefix_length` positions are the same, and for no others."""
        audio = int(self.is_audio[: self.prefix_length].sum())
        digest = hashlib.sha256(self.positions[: self.prefix_length].numpy().tobytes())
        digest.update(self.columns[:, :audio].contiguous().numpy().tobytes())
        return digest.digest()


@dataclass(frozen=True)
class _Clip:
    """Where a clip stands. placeholder: the id that is repeated for each of its columns."""

    content: AudioContent
    placeholder: int


@dataclass(frozen=True, eq=False)
class PromptLayout:
    """A sample whose text is tokenised and whose clips are not encoded yet.

    parts: ids of text, and clips.  shared_parts: how many of them come first and are shared with other samples.
    """

    parts: Sequence[Sequence[int] | _Clip]
    shared_parts: int
    control: ControlTokens
    config: ModelConfig

    @property
    def clips(self) -> list[AudioContent]:
        """In the order in which their codes are wanted."""
        return [part.content for part in self.parts if isinstance(part, _Clip)]

    @property
    def text_positions(self) -> int:
        """Positions of everything but the clips."""
        return sum(len(part) for part in self.parts if not isinstance(part, _Clip))

    def clip_positions(self, frames: Iterable[int]) -> int:
        """Positions of clips of so many frames each."""
        return sum(delayed_columns(count, self.config.num_codebooks) for count in frames)

    def prompt(self, codes: Iterable[torch.Tensor]) -> Prompt:
        """The prompt. codes: of each of the clips, int64 [Q, T]."""
        encoded = iter(codes)
        token_ids: list[int] = []
        ids: list[int] = []
        columns: list[torch.Tensor] = []
        history: list[torch.Tensor] = []
        prefix_length = 0
        for index, part in enumerate(self.parts):
            if index == self.shared_parts:
                prefix_length = len(ids)
            if isinstance(part, _Clip):
                delayed = delay(next(encoded), self.config.stream_bos, self.config.stream_eos)
                token_ids.append(part.placeholder)
                ids += [part.placeholder] * delayed.shape[1]
                columns.append(delayed)
                if part.placeholder == self.control.audio_out:  # spoken by the assistant
                    history.append(delayed)
            else:
                token_ids += part
                ids += part
        positions = torch.tensor(ids, dtype=torch.long)
        is_audio = (positions == self.control.audio_in) | (positions == self.control.audio_out)
        return Prompt(token_ids, positions, is_audio, self._joined(columns), self._joined(history), prefix_length)

    def _joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts, dim=1) if parts else torch.empty(self.config.num_codebooks, 0, dtype=torch.long)


def lay_out(sample: ChatMLSample, tokenizer: HiggsTokenizer, config: ModelConfig, *, force_audio: bool) -> PromptLayout:
    """The prompt of one generation, up to the codes of its clips. `force_audio` opens the assistant's audio at once."""
    control = tokenizer.control
    parts: list[Sequence[int] | _Clip] = []
    shared_parts = 0
    shared = len(sample.messages) - 1 if sample.shared_turns is None else sample.shared_turns
    for index, message in enumerate(sample.messages):
        if index == shared:
            shared_parts = len(parts)
        parts.append(_turn_prefix(message.role, tokenizer, first=index == 0))
        parts += _content(message, tokenizer)
        following = sample.messages[index + 1] if index + 1 < len(sample.messages) else None
        goes_on = message.role == "assistant" and following is not None and following.role == "assistant"
        parts.append([control.end_of_message if goes_on else control.end_of_turn])
    parts.append(_turn_prefix("assistant", tokenizer, first=False))
    if force_audio:
        parts.append([control.audio_out_bos])
    return PromptLayout(parts, shared_parts, control, config)


def build_prompt(
    sample: ChatMLSample, tokenizer: HiggsTokenizer, config: ModelConfig, encode_clip: EncodeClip, *, force_audio: bool
) -> Prompt:
    """The layout with its clips encoded by `encode_clip`."""
    layout = lay_out(sample, tokenizer, config, force_audio=force_audio)
    return layout.prompt(map(encode_clip, layout.clips))


def _turn_prefix(role: str, tokenizer: HiggsTokenizer, *, first: bool) -> list[int]:
    control = tokenizer.control
    opening = [control.begin_of_text] if first else []
    return [*opening, control.start_header, *tokenizer.encode(role), control.end_header, *tokenizer.encode("\n\n")]


def _content(message: Message, tokenizer: HiggsTokenizer) -> Iterator[Sequence[int] | _Clip]:
    control = tokenizer.control
    texts = [part.text for part in message.parts if isinstance(part, TextContent)]
    encoded_texts = iter(_encode_system(texts, tokenizer) if message.role == "system" else map(tokenizer.encode, texts))
    spoken = message.role == "assistant"
    opening, placeholder = (
        (control.audio_out_bos, control.audio_out) if spoken else (control.audio_bos, control.audio_in)
    )
    for part in message.parts:
        if isinstance(part, TextContent):
            yield next(encoded_texts)
        else:
            yield [opening]
            yield _Clip(part, placeholder)
            yield [control.audio_eos]


def _encode_system(texts: Sequence[str], tokenizer: HiggsTokenizer) -> list[list[int]]:
    """Ids of a system turn's text parts, its scene marks as control tokens; a mark without its partner is text."""
    control = tokenizer.control
    starts = [(part, text.index(_SCENE_START)) for part, text in enumerate(texts) if _SCENE_START in text]
    ends = [(part, text.rindex(_SCENE_END)) for part, text in enumerate(texts) if _SCENE_END in text]
    marks: list[tuple[tuple[int, int], str, int]] = []
    if starts and ends and starts[0] < ends[-1]:
        marks = [(starts[0], _SCENE_START, control.scene_start), (ends[-1], _SCENE_END, control.scene_end)]
    encoded = []
    for index, text in enumerate(texts):
        ids: list[int] = []
        done = 0
        for (part, at), mark, token in marks:
            if part == index:
                ids += [*tokenizer.encode(text[done:at]), token]
                done = at + len(mark)
        encoded.append([*ids, *tokenizer.encode(text[done:])])
    return encoded
