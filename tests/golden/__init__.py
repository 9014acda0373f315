"""Outputs of Boson AI's own engine on two tiny random checkpoints (CPU, fp32, greedy, RAS off), and how to replay them.

`boson_tiny_43` and `boson_tiny_47`: 0.6 M parameters in Boson's format with a byte-level tokenizer; their weights are
tuned so that ends of audio, second segments and text between them happen often. `greedy_cases.json` holds the prompts
and every token that came out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_core import AudioContent, ChatMLSample, GenerationParams, GenerationResult, Message, TextContent

CHECKPOINTS = ("boson_tiny_43", "boson_tiny_47")
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class GoldenCase:
    checkpoint: str
    raw: dict[str, Any]

    @property
    def id(self) -> str:
        return f"{self.checkpoint}-{self.raw['name']}"

    @property
    def folder(self) -> Path:
        return FOLDER / self.checkpoint

    @property
    def sample(self) -> ChatMLSample:
        clips = iter(self.raw["audio_codes"])

        def part(raw: dict[str, str]) -> TextContent | AudioContent:
            return TextContent(raw["text"]) if raw["type"] == "text" else AudioContent(codes=next(clips))

        messages = []
        for message in self.raw["messages"]:
            content = message["content"]
            messages.append(
                Message(message["role"], content if isinstance(content, str) else [part(raw) for raw in content])
            )
        return ChatMLSample(messages)

    @property
    def params(self) -> GenerationParams:
        return GenerationParams(
            max_new_tokens=self.raw["max_new_tokens"],
            temperature=0.0,
            ras_win_len=None,
            stop_strings=tuple(self.raw["stop_strings"]),
            force_audio_gen=self.raw["force_audio_gen"],
        )

    def check(self, result: GenerationResult) -> None:
        """Every token of the prompt, of the text and of each segment's columns."""
        assert result.prompt_token_ids == self.raw["prompt_token_ids"]
        assert result.text_token_ids == self.raw["generated_text_tokens"]
        assert result.text == self.raw["generated_text"]
        assert [columns.tolist() for columns in result.delayed_audio_columns] == self.raw["delayed_audio_columns"]


CASES = [
    GoldenCase(checkpoint, raw)
    for checkpoint in CHECKPOINTS
    for raw in json.loads((FOLDER / checkpoint / "greedy_cases.json").read_text())
]
