"""Text to token ids, so that no text can become a control token; control tokens have names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers
from transformers import PreTrainedTokenizerFast

from higgs_core.errors import ModelLoadError, RequestError
from higgs_core.text.markup import TEXT_TOKENS

CONTROL_TOKENS = {
    "begin_of_text": "<|begin_of_text|>",
    "start_header": "<|start_header_id|>",
    "end_header": "<|end_header_id|>",
    "end_of_turn": "<|eot_id|>",
    "end_of_message": "<|eom_id|>",
    "scene_start": "<|scene_desc_start|>",
    "scene_end": "<|scene_desc_end|>",
    "audio_bos": "<|audio_bos|>",
    "audio_out_bos": "<|audio_out_bos|>",
    "audio_eos": "<|audio_eos|>",
    "audio_in": "<|AUDIO|>",
    "audio_out": "<|AUDIO_OUT|>",
}


@dataclass(frozen=True)
class ControlTokens:
    """Ids of the control tokens that the prompt layout and the runtime use."""

    begin_of_text: int
    start_header: int
    end_header: int
    end_of_turn: int
    end_of_message: int
    scene_start: int
    scene_end: int
    audio_bos: int
    audio_out_bos: int
    audio_eos: int
    audio_in: int
    audio_out: int


class HiggsTokenizer:
    """Wraps a checkpoint's fast tokenizer.

    `encode` uses a copy of the tokenizer without any added tokens, so that no spelling of a control token, escaped or
    split over parts, can become one. The tokens of `markup.TEXT_TOKENS` are inserted by their ids: a copy with these
    alone would assign new ids. Raises ModelLoadError when a control token is
    missing.
    """

    def __init__(self, fast: PreTrainedTokenizerFast) -> None:
        definition = json.loads(fast.backend_tokenizer.to_str())
        added = {token["content"]: token["id"] for token in definition["added_tokens"]}
        missing = [text for text in CONTROL_TOKENS.values() if text not in added]
        if missing:
            raise ModelLoadError(
                f"The tokenizer has no control token {', '.join(missing)}; it is not Higgs Audio v2's."
            )
        self.control = ControlTokens(**{name: added[text] for name, text in CONTROL_TOKENS.items()})
        self._text_tokens = {text: added[text] for text in TEXT_TOKENS if text in added}
        # A group around the choice makes `split` return the tokens between the words; (?!) matches nothing.
        self._text_token = re.compile(f"({'|'.join(map(re.escape, self._text_tokens)) or '(?!)'})")
        definition.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
        self._plain = tokenizers.Tokenizer.from_str(json.dumps(definition))
        self._fast = fast

    @classmethod
    def from_folder(cls, folder: str) -> HiggsTokenizer:
        try:
            return cls(PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True))
        except (OSError, ValueError, KeyError) as error:
            raise ModelLoadError(
                f"The tokenizer cannot be read ({type(error).__name__}); the folder must hold tokenizer.json."
            ) from error

    def encode(self, text: str) -> list[int]:
        """Ids of words and of the event and instruction tokens among them; never a control token.

        Like every fast tokenizer, it encodes the text before and after such a token separately. A token that the
        vocabulary lacks is plain text. Raises RequestError for text that is not Unicode.
        """
        ids: list[int] = []
        for at, piece in enumerate(self._text_token.split(text)):
            if at % 2:
                ids.append(self._text_tokens[piece])
            elif piece:
                ids += self._encode_words(piece)
        return ids

    def _encode_words(self, text: str) -> list[int]:
        try:
            return self._plain.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError):
            raise RequestError("The text holds half of a surrogate pair; send whole characters.") from None

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens spelled out."""
        return str(self._fast.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def save(self, folder: Any) -> None:
        self._fast.save_pretrained(folder)
