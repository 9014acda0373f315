"""A ChatML sample as positions of the language model, in Boson's layout.

Every part (turn prefix, each content part, turn suffix, generation postfix) is tokenised separately; control tokens are
inserted by id. Inside a system turn the first `<|scene_desc_start|>` and the last `<|scene_desc_end|>` after it are the
scene block's own marks; every other spelling of a control token, there or elsewhere, is plain text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from higgs_core.config import ModelConfig
from higgs_core.prompt.chatml import AudioContent, ChatMLSample, Message, TextContent
from higgs_core.prompt.delay_pattern import delay
from higgs_core.prompt.tokenizer import CONTROL_TOKENS, HiggsTokenizer

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


@dataclass
class _Builder:
    num_codebooks: int
    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    columns: list[torch.Tensor] = field(default_factory=list)
    history: list[torch.Tensor] = field(default_factory=list)

    def text(self, ids: Sequence[int]) -> None:
        self.token_ids += ids
        self.positions += ids

    def clip(self, placeholder: int, columns: torch.Tensor, *, spoken_by_assistant: bool) -> None:
        self.token_ids.append(placeholder)
        self.positions += [placeholder] * columns.shape[1]
        self.columns.append(columns)
        if spoken_by_assistant:
            self.history.append(columns)

    def joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts, dim=1) if parts else torch.empty(self.num_codebooks, 0, dtype=torch.long)


def build_prompt(
    sample: ChatMLSample, tokenizer: HiggsTokenizer, config: ModelConfig, encode_clip: EncodeClip, *, force_audio: bool
) -> Prompt:
    """The prompt of one generation. `force_audio` opens the assistant's audio at once."""
    control = tokenizer.control
    builder = _Builder(config.num_codebooks)
    prefix_length = 0
    shared = len(sample.messages) - 1 if sample.shared_turns is None else sample.shared_turns
    for index, message in enumerate(sample.messages):
        if index == shared:
            prefix_length = len(builder.positions)
        builder.text(_turn_prefix(message.role, tokenizer, first=index == 0))
        _add_content(builder, message, tokenizer, config, encode_clip)
        following = sample.messages[index + 1] if index + 1 < len(sample.messages) else None
        goes_on = message.role == "assistant" and following is not None and following.role == "assistant"
        builder.text([control.end_of_message if goes_on else control.end_of_turn])
    builder.text(_turn_prefix("assistant", tokenizer, first=False))
    if force_audio:
        builder.text([control.audio_out_bos])
    positions = torch.tensor(builder.positions, dtype=torch.long)
    return Prompt(
        token_ids=builder.token_ids,
        positions=positions,
        is_audio=(positions == control.audio_in) | (positions == control.audio_out),
        columns=builder.joined(builder.columns),
        history=builder.joined(builder.history),
        prefix_length=prefix_length,
    )


def _turn_prefix(role: str, tokenizer: HiggsTokenizer, *, first: bool) -> list[int]:
    control = tokenizer.control
    opening = [control.begin_of_text] if first else []
    return [*opening, control.start_header, *tokenizer.encode(role), control.end_header, *tokenizer.encode("\n\n")]


def _add_content(
    builder: _Builder, message: Message, tokenizer: HiggsTokenizer, config: ModelConfig, encode_clip: EncodeClip
) -> None:
    control = tokenizer.control
    texts = [part.text for part in message.parts if isinstance(part, TextContent)]
    encoded_texts = iter(_encode_system(texts, tokenizer) if message.role == "system" else map(tokenizer.encode, texts))
    spoken = message.role == "assistant"
    opening, placeholder = (
        (control.audio_out_bos, control.audio_out) if spoken else (control.audio_bos, control.audio_in)
    )
    for part in message.parts:
        if isinstance(part, TextContent):
            builder.text(next(encoded_texts))
        else:
            builder.text([opening])
            columns = delay(encode_clip(part), config.stream_bos, config.stream_eos)
            builder.clip(placeholder, columns, spoken_by_assistant=spoken)
            builder.text([control.audio_eos])


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
