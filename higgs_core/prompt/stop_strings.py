"""Stop strings: generation ends as soon as the text written so far holds one of them."""

from __future__ import annotations

from collections.abc import Sequence

from higgs_core.prompt.tokenizer import HiggsTokenizer

_TOKENS_PER_CHARACTER = 4  # a character is at most four bytes, and a byte is at most one token


def ends_text(ids: Sequence[int], stop_strings: Sequence[str], tokenizer: HiggsTokenizer) -> bool:
    """Whether the end of the generated text contains a stop string.

    Called after every token, so it decodes only as many tokens as the longest stop string can take.
    """
    if not stop_strings:
        return False
    longest = max(map(len, stop_strings))
    tail = tokenizer.decode(ids[-(longest * _TOKENS_PER_CHARACTER + 1) :])
    return any(stop in tail for stop in stop_strings)
