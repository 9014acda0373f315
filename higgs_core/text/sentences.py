"""Sentences of a text that is still being written: each as soon as it is certain where it ends.

A place is decided by the text around it alone, never by how the text was divided when it came: any division gives the
same sentences. What follows a place is awaited only as far as it matters, a few characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from higgs_core.text.clusters import may_divide
from higgs_core.text.markup import INSTRUCTION_START, UNBROKEN
from higgs_core.text.pauses import end_of_pause, has_pause, may_become_pause
from higgs_core.text.sentence_marks import (
    SPACED_CLAUSE_ENDS,
    SPACED_ENDS,
    WIDE_CLAUSE_ENDS,
    WIDE_ENDS,
    full_stop_ends_sentence,
)
from higgs_core.text.speaker_tags import TAG
from higgs_core.text.speech_length import spoken_words

LEAST_WORDS = 3
"""A shorter sentence is spoken with the next one: in very short texts the model tends to generate extra speech."""
CLAUSE_WORDS = (4, 8, 14)
"""From how many words on a clause is spoken by itself: the first of an utterance, the second, and every later one. The
first sound comes early; what follows may be longer, as audio is being played meanwhile."""
MAX_CHARACTERS = 320
"""A longer stretch without a place to cut is cut between two words. A tag or a sound counts as MARKUP_CHARACTERS."""
MARKUP_CHARACTERS = 16

_REACH = MAX_CHARACTERS + 16  # what has to be known before a stretch is cut for its length
_MAX_SPACE = 64
_MAX_EVENT = 96
_MAX_INSTRUCTION = 1000
_MAX_PAUSES = 500  # of the pauses that a sentence takes along

_CLOSING = "\"'”’)\\]}»」』】》）"
_QUOTES = "\"'”’»」』"
_WIDE = frozenset(WIDE_ENDS + WIDE_CLAUSE_ENDS)


def _place(marks: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<marks>[{marks}]{{1,64}})(?P<closing>[{_CLOSING}]{{0,16}})(?P<space>\s{{0,{_MAX_SPACE}}})")


_END = _place(SPACED_ENDS + WIDE_ENDS)
_CLAUSE_END = _place(SPACED_CLAUSE_ENDS + WIDE_CLAUSE_ENDS)
_SPACE = re.compile(rf"(?P<space>\s{{1,{_MAX_SPACE}}})")
_MARK = re.compile(rf"[\s\[<{SPACED_ENDS}{WIDE_ENDS}{SPACED_CLAUSE_ENDS}{WIDE_CLAUSE_ENDS}]")
_BRACKETED = re.compile(r"\[[^\[\]\n]{0,64}\]")
_OPEN_BRACKET = re.compile(r"\[[^\[\]\n]{0,64}")
_UNSPOKEN = re.compile(rf"[^\w<\[【]{{0,{_MAX_SPACE}}}")
_ITEM = re.compile(r"\W{0,8}\d{1,3}\.")
_MARKUP_STARTS = ("<SE>", "<SE_s>", "<SE_e>", INSTRUCTION_START)
_HIGH_SURROGATE = re.compile("[\ud800-\udbff]")


class SentenceCutter:
    """Feed it a text as it is written, and `flush` it at the end of an utterance.

    It gives whole sentences, clauses of at least CLAUSE_WORDS, and turns of speakers, as they were written but for the
    space around them, each with the pauses behind it. A tag, a sound event and an instruction are never divided. What
    it keeps is bounded, some 1500 characters, and its time is linear in the text.

    speaker_tag: what a tag that begins another speaker's turn looks like, brackets and all.
    """

    def __init__(self, speaker_tag: re.Pattern[str] = TAG) -> None:
        self._speaker_tag = speaker_tag
        self._text = ""  # from the beginning of the sentence that is being written
        self._half = ""  # the first half of a surrogate pair
        self._given = 0  # sentences of this utterance
        self._begin()

    def _begin(self) -> None:
        self._at = 0  # every place before is decided
        self._length = 0  # of what is before, in characters
        self._words = 0.0
        self._sounds = False
        self._last_space = self._last_clause = 0

    def feed(self, text: str) -> list[str]:
        """The sentences that are certain now, in order."""
        text = self._half + text
        self._half = text[-1:] if _HIGH_SURROGATE.fullmatch(text[-1:]) else ""
        self._text += _whole_pairs(text[: len(text) - len(self._half)])
        return list(self._sentences(ended=False))

    def flush(self) -> list[str]:
        """The rest of the utterance; the next text begins another one. A rest without words, sounds or pauses is
        dropped."""
        sentences = list(self._sentences(ended=True))
        if (self._words or self._sounds or has_pause(self._text)) and _can_be_spoken(self._text):
            sentences.append(self._text.strip())
        self.clear()
        return sentences

    def clear(self) -> None:
        """Forget the rest of the utterance."""
        self._text = self._half = ""
        self._given = 0
        self._begin()

    def _sentences(self, *, ended: bool) -> Iterator[str]:
        while True:
            if not self._at:
                self._text = self._text.lstrip()
            cut = self._next_cut(ended)
            if cut is None or (cut := self._behind_pauses(cut, ended)) is None:
                return
            sentence, self._text = self._text[:cut].strip(), self._text[cut:]
            self._begin()
            if _can_be_spoken(sentence):
                self._given += 1
                yield sentence

    def _next_cut(self, ended: bool) -> int | None:
        """Where the first sentence ends; None if that is not certain yet."""
        text = self._text
        while True:
            found = _MARK.search(text, self._at)
            at = found.start() if found else len(text)
            if self._length + at - self._at > _REACH:
                return self._forced_cut(ended)
            if found is None and not ended:
                return None
            self._words += spoken_words(text[self._at : at])
            self._length += at - self._at
            self._at = at
            if found is None:
                return None
            if text[at] in "[<":
                end = self._markup_end(ended)
                if end is None:
                    return None
                if end == at + 1:  # no markup after all
                    self._length += 1
                elif not self._speaker_tag.fullmatch(text, at, end):
                    self._length += MARKUP_CHARACTERS
                    self._sounds |= end_of_pause(text, at) is None
                elif self._words:
                    return at  # a turn of another speaker
                else:
                    self._length += MARKUP_CHARACTERS
                self._at = end
                continue
            place = _END.match(text, at) or _CLAUSE_END.match(text, at) or _SPACE.match(text, at)
            assert place is not None  # each mark begins one of them
            follower = text[place.end() : place.end() + 1]
            if len(place["space"]) == _MAX_SPACE:
                follower = ""  # so far nobody looks
            elif not follower and not ended:
                return None
            if (cut := self._cut_at(place, follower)) is not None:
                return cut
            self._length += place.end() - at
            self._at = place.end()

    def _behind_pauses(self, cut: int, ended: bool) -> int | None:
        """The end of the last of the pauses that follow a cut, with nothing to speak between them; the cut itself where
        there are none. None if that is not certain yet."""
        text, last = self._text, cut + _MAX_PAUSES
        while cut < last:
            found = _UNSPOKEN.match(text, cut)
            assert found is not None  # it may be empty
            at = found.end()
            if (end := end_of_pause(text, at)) is None:
                goes_on = at == len(text) and at < cut + _MAX_SPACE
                may_come = goes_on or may_become_pause(text[at : at + _MAX_EVENT])
                return None if may_come and not ended else cut
            cut = end
        return cut

    def _cut_at(self, place: re.Match[str], follower: str) -> int | None:
        """The end of the sentence if this place ends one. Notes the places that a forced cut may use."""
        after, space = place.end(), place["space"]
        if space:
            self._last_space = after
        if place.re is _SPACE:
            ends = space.count("\n") > 1 or ("\n" in space and not follower.islower())
            return after if ends and self._words >= LEAST_WORDS else None
        is_wide = not _WIDE.isdisjoint(place["marks"])
        if not space and not is_wide:
            return None
        if place.re is _CLAUSE_END:
            self._last_clause = after
            return after if self._words >= CLAUSE_WORDS[min(self._given, len(CLAUSE_WORDS) - 1)] else None
        if self._words < LEAST_WORDS or not (is_wide or self._ends_sentence(place, follower)):
            return None
        opens = place["closing"].startswith('"') and self._text.count('"', 0, place.start()) % 2 == 0
        return place.start("closing") if opens and not space else after

    def _ends_sentence(self, place: re.Match[str], follower: str) -> bool:
        """Whether marks with a space behind them end a sentence."""
        marks = place["marks"]
        goes_on = "…" in marks or ".." in marks or any(mark in _QUOTES for mark in place["closing"])
        if goes_on and follower.islower() and "\n" not in place["space"]:
            return False  # "I… do not know", or: "Why?" he asked
        if marks != ".":
            return True
        start = max(self._text.rfind(white, 0, place.start()) for white in " \n\t") + 1
        word = self._text[start : place.end("marks")]
        begins_line = start == 0 or self._text[start - 1] == "\n"
        is_item = begins_line and _ITEM.fullmatch(word) is not None
        return not is_item and full_stop_ends_sentence(self._text, start, place.end("marks"), follower)

    def _forced_cut(self, ended: bool) -> int | None:
        """A place for a stretch that is too long: behind its last clause, between words, or else between any two
        characters. None if what follows is needed to tell one character from the next; markup, which is longer than it
        counts, may be the last that is known."""
        if self._last_clause > MAX_CHARACTERS // 2:
            return self._last_clause
        if self._last_space:
            return self._last_space
        text, at = self._text, self._at + max(0, MAX_CHARACTERS - self._length)
        for place in range(max(at, 1), at + _REACH - MAX_CHARACTERS):
            if place >= len(text):
                return len(text) if ended else None
            if may_divide(text, place):
                return place
        return max(at, 1)

    def _markup_end(self, ended: bool) -> int | None:
        """The end of the tag, event or instruction that begins here; behind its first character if there is none, and
        None if that is not certain yet."""
        text, at = self._text, self._at
        if text[at] == "[":
            if found := _BRACKETED.match(text, at):
                return found.end()
            is_open = _OPEN_BRACKET.match(text, at)
            return None if not ended and is_open and is_open.end() == len(text) else at + 1
        limit = _MAX_INSTRUCTION if text.startswith(INSTRUCTION_START, at) else _MAX_EVENT
        if found := UNBROKEN.match(text, at, at + limit):
            return found.end()
        rest = text[at : at + limit]
        may_come = len(rest) < limit and any(rest.startswith(start[: len(rest)]) for start in _MARKUP_STARTS)
        return None if may_come and not ended else at + 1


def _can_be_spoken(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _whole_pairs(text: str) -> str:
    """Halves of surrogate pairs, which two messages may bring, as the characters that they are together."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
