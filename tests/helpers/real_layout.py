"""A small tokenizer laid out as the released one: merged words, and 256 added tokens in its order behind them.

The released vocabulary has 128 000 words and then these tokens from 128 000 on, most of them reserved, so that those
which matter have gaps between them; encoding adds a `<|begin_of_text|>` unless it is told not to.
"""

from __future__ import annotations

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from higgs_core.prompt.tokenizer import HiggsTokenizer

ADDED_TOKENS = 256
PLACES = {
    "<|begin_of_text|>": 0,
    "<|end_of_text|>": 1,
    "<|start_header_id|>": 6,
    "<|end_header_id|>": 7,
    "<|eom_id|>": 8,
    "<|eot_id|>": 9,
    "<|python_tag|>": 10,
    "<|audio_bos|>": 11,
    "<|audio_eos|>": 12,
    "<|audio_out_bos|>": 13,
    "<|AUDIO|>": 15,
    "<|AUDIO_OUT|>": 16,
    "<|scene_desc_start|>": 17,
    "<|scene_desc_end|>": 18,
    "<|recipient|>": 19,
    "<|generation_instruction_start|>": 20,
    "<|generation_instruction_end|>": 21,
    "<SE>": 22,
    "</SE>": 23,
    "<SE_s>": 24,
    "</SE_s>": 25,
    "<SE_e>": 26,
    "</SE_e>": 27,
}
_CORPUS = [
    "Generate audio following instruction. Audio is recorded from a quiet room. SPEAKER0: feminine SPEAKER1: masculine",
    "You are an AI assistant designed to convert text into speech. [SPEAKER0] Hello there. [SPEAKER1] And to you!",
    "system user assistant\n\n <SE>[Laughter]</SE> <SE_s>[Humming]</SE_s> <|eot_id|> <|audio_out_bos|> <|AUDIO_OUT|>",
]


@cache
def tokenizers_of_real_layout() -> tuple[PreTrainedTokenizerFast, HiggsTokenizer]:
    """transformers' own, and ours around it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(_CORPUS * 20, trainer)
    names = {place: name for name, place in PLACES.items()}
    added = [names.get(at, f"<|reserved_special_token_{at}|>") for at in range(ADDED_TOKENS)]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in added])
    begin = "<|begin_of_text|>"
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=backend)
    return fast, HiggsTokenizer(fast)
