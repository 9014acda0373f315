"""Splits a long text into pieces of similar length that the model speaks well: whole turns and sentences.

A script is a sequence of *atoms*, the smallest units that a cut never divides: a word with its punctuation,
the speaker tag or instruction before it and the sound events written onto it, or one character of Chinese or Japanese.
A piece is the unchanged script from one atom to another, so no method loses or moves a word; only white space at a cut
is dropped.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import Literal

from higgs_core.errors import RequestError
from higgs_core.text.clusters import may_divide
from higgs_core.text.markup import EVENT, INSTRUCTION, UNBROKEN
from higgs_core.text.sentence_marks import (
    CLOSING,
    OPENING,
    SPACED_CLAUSE_ENDS,
    SPACED_ENDS,
    WIDE_CLAUSE_ENDS,
    WIDE_ENDS,
    full_stop_ends_sentence,
)
from higgs_core.text.speaker_tags import TAG, speaker_tags
from higgs_core.text.speech_length import CJK, CJK_WORDS, MAX_PIECE_WORDS, SOUTH_EAST_ASIAN, SOUTH_EAST_ASIAN_WORDS

ChunkMethod = Literal["auto", "none", "word", "sentence", "speaker"]

_OPENING = re.escape(OPENING)
_RUN = re.compile(rf"(?:{UNBROKEN.pattern}|\S)+")  # white space stands between words, or inside markup
_TAG_OR_UNBROKEN = re.compile(rf"(?P<tag>{TAG.pattern})|{UNBROKEN.pattern}")
_HAS_CJK = re.compile(f"[{CJK}]")
_BEHIND_CJK = ".,!?;:\"'”’)\\]}»」』】》）…" + WIDE_ENDS + WIDE_CLAUSE_ENDS  # marks that belong to the character before
_CJK_ATOM = re.compile(f"[{_OPENING}]*(?:[{CJK}]|[{_BEHIND_CJK}]+|[^{CJK}{_OPENING}]+)|[{_OPENING}]+")
_PHRASE_SCRIPT = re.compile(f"[{SOUTH_EAST_ASIAN}]")

_SENTENCE_ENDS = tuple(SPACED_ENDS + WIDE_ENDS)
_CLAUSE_ENDS = (*SPACED_CLAUSE_ENDS, *WIDE_CLAUSE_ENDS, "</SE>", "</SE_e>")


Span = tuple[int, int]
"""Start and end (exclusive), of characters or of atoms."""


class _Cut(IntEnum):
    """How well a place between two atoms suits a cut; a cut at one level may also use the places of higher levels."""

    WORD = 0
    CLAUSE = 1
    SENTENCE = 2
    TURN = 3


@dataclass(frozen=True, slots=True)
class _Atom:
    start: int
    end: int
    words: float


Measure = Callable[[str], float]
"""The length in words of a token: a stretch without white space, a speaker tag or an instruction."""


def written_words(token: str) -> float:
    """Words of a token: 1, or by its characters in a script without spaces, such as Chinese; 0 for punctuation."""
    if not any(character.isalnum() for character in token):
        return 0.0
    if _HAS_CJK.search(token):
        return CJK_WORDS
    return max(1.0, SOUTH_EAST_ASIAN_WORDS * len(_PHRASE_SCRIPT.findall(token)))


def cut(
    script: str,
    method: ChunkMethod = "auto",
    max_words: int = MAX_PIECE_WORDS,
    max_turns: int = 1,
    *,
    measure: Measure = written_words,
    inside_words: bool = False,
) -> list[str]:
    """Pieces of a script, in order. A script that needs no cut is one piece, verbatim.

    none: one piece.  word: as many words a piece as allowed.  sentence: whole sentences; one that is too long by itself
    is cut at commas, then between words.  speaker: up to `max_turns` turns a piece.  auto: whole turns where several
    speakers have tags, else whole sentences, and only if the script has more than `max_words`.
    max_words bounds a piece of every method but none; `measure` says what a word is.
    inside_words: what is longer than max_words by itself, such as a page of Thai without spaces, is cut between two
    characters; otherwise it is a piece.

    Raises RequestError when a bound is below 1.
    """
    for field, bound in (("chunk_max_word_num", max_words), ("chunk_max_num_turns", max_turns)):
        if bound < 1:
            raise RequestError(f"{field} is {bound}; it must be at least 1.", field=field)
    atoms = _atoms(script, measure)
    if method == "none" or not atoms:
        return [script]
    if inside_words:
        atoms = [part for atom in atoms for part in _within(script, atom, measure, max_words)]
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


def count_words(text: str, measure: Measure = written_words) -> float:
    """Length of a text in words of a measure."""
    return sum(atom.words for atom in _atoms(text, measure))


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
        """As few spans as max_words allows, as equal in length as possible.

        A last piece of only two words is one for which the model tends to generate extra speech.
        """
        fewest = len(self.fill(parts, self.max_words))
        limits = range(1, self.max_words + 1)
        tightest = limits[
            bisect_left(limits, -fewest, hi=len(limits) - 1, key=lambda limit: -len(self.fill(parts, limit)))
        ]
        return self.fill(parts, tightest)

    def fill(self, parts: list[Span], limit: float, max_parts: int | None = None) -> list[Span]:
        """Neighbouring parts joined as long as they stay within the limits."""
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


def _atoms(script: str, measure: Measure) -> list[_Atom]:
    """The atoms of a script, in order; together they hold everything but white space."""
    atoms: list[_Atom] = []
    opening: int | None = None  # start of the tags and instructions before the next word
    for start, end in _tokens(script):
        token = script[start:end]
        if TAG.fullmatch(token) or INSTRUCTION.fullmatch(token) or not token.strip(OPENING):
            opening = start if opening is None else opening
            continue
        words = measure(token)
        written_on = bool(atoms) and atoms[-1].end == start and EVENT.fullmatch(token) is not None
        if atoms and opening is None and (words == 0 or written_on):  # a lone dash belongs to the word before
            atoms[-1] = _Atom(atoms[-1].start, end, atoms[-1].words + words)
        else:
            atoms.append(_Atom(start if opening is None else opening, end, words))
            opening = None
    if opening is not None:
        atoms.append(_Atom(opening, len(script.rstrip()), 0.0))
    return atoms


def _within(script: str, atom: _Atom, measure: Measure, most: int) -> Iterator[_Atom]:
    """The atom, divided into parts of at most `most` words if it is longer."""
    if atom.words <= most:
        yield atom
        return
    edges = [*_edges_inside(script, atom), atom.end]
    start, first = atom.start, 0
    while first < len(edges):
        reach = 1  # doubled each time, so that the time is nearly linear in the length of the run
        while first + reach < len(edges) and measure(script[start : edges[first + reach]]) <= most:
            reach *= 2
        candidates = range(first + 1, min(first + reach, len(edges)))
        last = first + bisect_right(candidates, float(most), key=lambda at: measure(script[start : edges[at]]))
        yield _Atom(start, edges[last], measure(script[start : edges[last]]))
        start, first = edges[last], last + 1


def _edges_inside(script: str, atom: _Atom) -> Iterator[int]:
    """Places between two grapheme clusters, outside of tags and markup."""
    at = atom.start
    for whole in _TAG_OR_UNBROKEN.finditer(script, atom.start, atom.end):
        yield from _between_characters(script, at, whole.start())
        at = whole.end()
        if at < atom.end and not whole["tag"]:
            yield at
    yield from _between_characters(script, at, atom.end)


def _between_characters(script: str, start: int, end: int) -> Iterator[int]:
    for at in range(start + 1, end):
        if may_divide(script, at):
            yield at


def _tokens(script: str) -> Iterator[Span]:
    """Speaker tags, words between spaces, and single characters of scripts that may be cut anywhere."""
    for run in _RUN.finditer(script):
        tags = [found.span() for found in _TAG_OR_UNBROKEN.finditer(script, *run.span()) if found["tag"]]
        edges = {run.start(), run.end(), *(edge for tag in tags for edge in tag)}
        for start, end in pairwise(sorted(edges)):
            if _HAS_CJK.search(script, start, end):
                yield from _cjk_tokens(script, start, end)
            else:
                yield start, end


def _cjk_tokens(script: str, start: int, end: int) -> Iterator[Span]:
    for whole in UNBROKEN.finditer(script, start, end):
        yield from (atom.span() for atom in _CJK_ATOM.finditer(script, start, whole.start()))
        yield whole.span()
        start = whole.end()
    yield from (atom.span() for atom in _CJK_ATOM.finditer(script, start, end))


def _place(script: str, left: _Atom, right: _Atom) -> _Cut:
    if TAG.match(script, right.start):
        return _Cut.TURN
    if "\n" in script[left.end : right.start]:
        return _Cut.SENTENCE
    word = script[left.start : left.end]
    bare = word.rstrip(CLOSING)
    if bare.endswith(_SENTENCE_ENDS):
        stop = left.start + len(bare)
        goes_on = bare.endswith(".") and not full_stop_ends_sentence(script, left.start, stop, script[right.start])
        return _Cut.WORD if goes_on else _Cut.SENTENCE
    return _Cut.CLAUSE if bare.endswith(_CLAUSE_ENDS) or word.endswith(_CLAUSE_ENDS) else _Cut.WORD
