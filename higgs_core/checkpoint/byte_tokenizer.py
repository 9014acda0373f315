"""The tokenizer of the built-in checkpoints: a token for each byte, and the control tokens of Higgs Audio v2."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from higgs_core.prompt.tokenizer import CONTROL_TOKENS
from higgs_core.text.markup import TEXT_TOKENS

_OTHER_TOKENS = ("<|end_of_text|>", "<|recipient|>", "<|speaker_id_start|>", "<|speaker_id_end|>")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A new tokenizer: ids 0 to 255 are bytes, then come the control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    control = [*CONTROL_TOKENS.values(), *_OTHER_TOKENS, *TEXT_TOKENS]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|end_of_text|>"
    )
