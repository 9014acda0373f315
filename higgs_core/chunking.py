"""Long text in pieces that the model speaks well: whole turns and sentences, evenly long.

A script is seen as *atoms*, the smallest stretches that may stand at the edge of a piece: a word with its punctuation
and the speaker tag before it, or one character of Chinese or Japanese. A piece is the script from one atom to another,
untouched, so whatever the method, no word is lost or moved; only white space at a cut is dropped.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise

from higgs_core.errors import RequestError
from higgs_core.request import ChunkMethod
from higgs_core.script import TAG, speaker_tags

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_SOUTH_EAST_ASIAN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
_OPENING = "\\[({<“‘《「『【（"
_HAS_CJK = re.compile(f"[{_CJK}]")
_CJK_ATOM = re.compile(f"[{_OPENING}]*(?:[{_CJK}]|[^{_CJK}{_OPENING}]+)|[{_OPENING}]+")
_PHRASE_SCRIPT = re.compile(f"[{_SOUTH_EAST_ASIAN}]")

# Two Chinese or Japanese characters take about as long to say as one English word, so do four Thai ones.
_CJK_WORDS = 0.5
_PHRASE_WORDS = 0.25

_CLOSING = "\"'”’)]}>»」』】》）"
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "…", "؟", "۔", "।")
_CLAUSE_ENDS = (",", ";", ":", "，", "、", "；", "：", "،", "؛", "—", "–", "</SE>", "</SE_e>")
_INITIALS = re.compile(r"\W*(?:[A-Za-zÀ-ʯΑ-ԯ]\.)+")
_ABBREVIATIONS = frozenset(
    (
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "jr",
        "sr",
        "vs",
        "gen",
        "sen",
        "gov",
        "capt",
        "lt",
        "col",
        "sgt",
        "rev",
        "approx",
    )
)


Span = tuple[int, int]
"""From, to; of characters or of atoms."""


class _Cut(IntEnum):
    """How good a place between two atoms is for a cut; each level has all places of the levels above it."""

    WORD = 0
    CLAUSE = 1
    SENTENCE = 2
    TURN = 3


@dataclass(frozen=True, slots=True)
class _Atom:
    start: int
    end: int
    words: float


def cut(script: str, method: ChunkMethod = "auto", max_words: int = 100, max_turns: int = 1) -> list[str]:
    """Pieces of a script, in order. A script that needs no cut is one piece, verbatim.

    none: one piece.  word: as many words a piece as allowed.  sentence: whole sentences; one that is too long by itself
    is cut at commas, then between words.  speaker: up to `max_turns` turns a piece.  auto: whole turns where several
    speakers have tags, else whole sentences, and only if the script has more than `max_words`.
    max_words bounds a piece of every method but none.

    Raises RequestError when a bound is below 1.
    """
    for field, bound in (("chunk_max_word_num", max_words), ("chunk_max_num_turns", max_turns)):
        if bound < 1:
            raise RequestError(f"{field} is {bound}; it must be at least 1.", field=field)
    atoms = _atoms(script)
    if method == "none" or not atoms:
        return [script]
    cutter = _Cutter(script, atoms, max_words)
    everything = (0, len(atoms))
    if method == "word":
        spans = cutter.fill([(at, at + 1) for at in range(len(atoms))], max_words)
    elif method == "speaker":
        turns = [span for turn in cutter.split(everything, _Cut.TURN) for span in cutter.fit(turn, _Cut.SENTENCE)]
        spans = cutter.fill(turns, max_words, max_turns)
    elif method == "auto" and len(speaker_tags(script)) > 1:
        spans = cutter.fit(everything, _Cut.TURN)
    else:
        spans = cutter.fit(everything, _Cut.SENTENCE)
    return [cutter.text(span) for span in spans] if len(spans) > 1 else [script]


def count_words(text: str) -> float:
    """Length of a text in words, Chinese and the like counted by what a speaker needs for them."""
    return sum(atom.words for atom in _atoms(text))


class _Cutter:
    def __init__(self, script: str, atoms: list[_Atom], max_words: int) -> None:
        self.script = script
        self.atoms = atoms
        self.max_words = max_words
        self.words_before = list(accumulate((atom.words for atom in atoms), initial=0.0))
        self.cut_before = [_Cut.TURN, *(_place(script, *pair) for pair in pairwise(atoms))]

    def text(self, span: Span) -> str:
        return self.script[self.atoms[span[0]].start : self.atoms[span[1] - 1].end]

    def words(self, span: Span) -> float:
        return self.words_before[span[1]] - self.words_before[span[0]]

    def split(self, span: Span, level: _Cut) -> list[Span]:
        """The span at every place of this level or a better one."""
        first, last = span
        inner = (at for at in range(first + 1, last) if self.cut_before[at] >= level)
        return list(pairwise((first, *inner, last)))

    def fit(self, span: Span, level: _Cut) -> list[Span]:
        """Spans within max_words: cut at this level, what is still too long one level down, then packed evenly."""
        if self.words(span) <= self.max_words or span[1] - span[0] == 1:
            return [span]
        parts = self.split(span, level)
        if level > _Cut.WORD:
            parts = [fitting for part in parts for fitting in self.fit(part, _Cut(level - 1))]
        return self.pack(parts)

    def pack(self, parts: list[Span]) -> list[Span]:
        """As few spans as max_words allows, and as even as that many can be: a last piece of two words is one that
        the model tends to babble on."""
        fewest = len(self.fill(parts, self.max_words))
        limits = range(1, self.max_words + 1)
        tightest = limits[
            bisect_left(limits, -fewest, hi=len(limits) - 1, key=lambda limit: -len(self.fill(parts, limit)))
        ]
        return self.fill(parts, tightest)

    def fill(self, parts: list[Span], limit: float, max_parts: int | None = None) -> list[Span]:
        """Neighbours joined for as long as they stay within the limits."""
        spans: list[Span] = []
        count = 0
        for part in parts:
            joined = (spans[-1][0], part[1]) if spans else part
            if spans and self.words(joined) <= limit and (max_parts is None or count < max_parts):
                spans[-1] = joined
                count += 1
            else:
                spans.append(part)
                count = 1
        return spans


def _atoms(script: str) -> list[_Atom]:
    """Everything but white space, in order."""
    atoms: list[_Atom] = []
    tag_start: int | None = None
    for start, end in _tokens(script):
        token = script[start:end]
        if TAG.fullmatch(token):
            tag_start = start if tag_start is None else tag_start
            continue
        words = _words(token)
        if words == 0 and atoms and tag_start is None:  # a lone dash or dots belong to the word before
            atoms[-1] = _Atom(atoms[-1].start, end, atoms[-1].words)
        else:
            atoms.append(_Atom(start if tag_start is None else tag_start, end, words))
            tag_start = None
    if tag_start is not None:
        atoms.append(_Atom(tag_start, len(script.rstrip()), 0.0))
    return atoms


def _tokens(script: str) -> Iterator[Span]:
    """Speaker tags, words between spaces, and single characters of scripts that may be cut anywhere."""
    for match in re.finditer(r"\S+", script):
        edges = [match.start(), match.end()]
        for tag in TAG.finditer(script, *match.span()):
            edges += tag.span()
        for start, end in pairwise(sorted(set(edges))):
            if _HAS_CJK.search(script, start, end):
                yield from (atom.span() for atom in _CJK_ATOM.finditer(script, start, end))
            else:
                yield start, end


def _words(token: str) -> float:
    if not any(character.isalnum() for character in token):
        return 0.0
    if _HAS_CJK.search(token):
        return _CJK_WORDS
    return max(1.0, _PHRASE_WORDS * len(_PHRASE_SCRIPT.findall(token)))


def _place(script: str, left: _Atom, right: _Atom) -> _Cut:
    if TAG.match(script, right.start):
        return _Cut.TURN
    if "\n" in script[left.end : right.start]:
        return _Cut.SENTENCE
    word = script[left.start : left.end]
    bare = word.rstrip(_CLOSING)
    if bare.endswith(_SENTENCE_ENDS):
        return _Cut.WORD if bare.endswith(".") and _is_abbreviation(bare) else _Cut.SENTENCE
    return _Cut.CLAUSE if bare.endswith(_CLAUSE_ENDS) or word.endswith(_CLAUSE_ENDS) else _Cut.WORD


def _is_abbreviation(word: str) -> bool:
    """`J.`, `U.S.`, `Dr.`: their full stop ends no sentence."""
    return bool(_INITIALS.fullmatch(word)) or word.strip(_CLOSING + _OPENING + ".").lower() in _ABBREVIATIONS
