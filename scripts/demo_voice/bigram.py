"""A bigram language model in ARPA's text format."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

START, END = "<s>", "</s>"
_NEVER = -99.0
"""The logarithm that stands for impossible in ARPA files."""


def arpa(sentences: Iterable[Sequence[str]], discount: float = 0.5) -> str:
    """Back-off bigrams with absolute discounting (Ney, Essen and Kneser, 1994) as the text of an ARPA file.

    sentences: their words. discount: what is taken off each pair's count, 0 to 1, for pairs that were not seen.
    """
    unigrams: Counter[str] = Counter()
    following: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words in sentences:
        unigrams.update([*words, END])
        for left, right in pairwise([START, *words, END]):
            following[left][right] += 1
    total = unigrams.total()
    probability = {word: count / total for word, count in unigrams.items()}
    singles, pairs = [], []
    for word in sorted({START, *unigrams}):
        after = following.get(word, Counter())
        unseen = 1 - sum(probability[right] for right in after)
        freed = discount * len(after) / max(after.total(), 1)
        back_off = math.log10(freed / unseen) if after and unseen > 1e-9 else 0.0
        log_probability = math.log10(probability[word]) if word in probability else _NEVER
        singles.append(f"{log_probability:.4f}\t{word}\t{back_off:.4f}")
        for right in sorted(after):
            pairs.append(f"{math.log10((after[right] - discount) / after.total()):.4f}\t{word} {right}")
    head = ["\\data\\", f"ngram 1={len(singles)}", f"ngram 2={len(pairs)}"]
    return "\n".join([*head, "", "\\1-grams:", *singles, "", "\\2-grams:", *pairs, "", "\\end\\", ""])
