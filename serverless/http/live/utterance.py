"""One utterance of a live session: its text as it comes, the sentences that wait, and what has been spoken of it."""

from __future__ import annotations

from collections import deque
from typing import Any

from higgs_core.errors import RequestError
from higgs_core.text.sentences import SentenceCutter
from serverless.http.live.voicing import Voicing


class Utterance:
    """It ends with its last sentence once its text is `complete`.

    index: its number in the session.  characters: of its text so far.  waiting: characters of sentences that nobody
    has begun to speak, and of the one that is being written.  dropped: characters that came after a piece was refused.
    """

    def __init__(self, index: int, voicing: Voicing, max_characters: int) -> None:
        self.index = index
        self.voicing = voicing
        self.characters = 0
        self.dropped = 0
        self.complete = False
        self.cancelled = False
        self._max_characters = max_characters
        self._cutter = SentenceCutter(voicing.speaker_tag)
        self._sentences: deque[str] = deque()
        self._waiting = 0
        self._is_full = False
        self._tag: str | None = None
        self._begun = 0
        self._spoken: list[str] = []
        self._interrupted: str | None = None
        self._seconds = 0.0

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def has_sentence(self) -> bool:
        return bool(self._sentences)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to speak, and nothing will come."""
        return self.complete and not self._sentences

    def add(self, text: str, room: int) -> None:
        """room: characters that may still be taken in.

        Raises RequestError for the first piece that is too much. It and all that follows is dropped, as a text with a
        hole in it would say something else.
        """
        if self._is_full:
            self.dropped += max(1, len(text))
            return
        characters = self.characters + len(text)
        if characters > self._max_characters:
            self._is_full = True
            raise RequestError(
                f"The utterance has {characters} characters; allowed is {self._max_characters}.",
                field="text",
                hint="Send input.done and begin another one.",
            )
        if len(text) > room:
            self._is_full = True
            raise RequestError(
                f"The text is {len(text) - room} characters more than the session keeps waiting to be spoken.",
                field="text",
                hint="Send input.done, and the rest once sentences have been spoken.",
            )
        self.characters = characters
        self._waiting += len(text)
        self._sentences += self._cutter.feed(text)

    def finish(self) -> None:
        """Its text is complete."""
        self._sentences += self._cutter.flush()
        self.complete = True

    def cancel(self) -> None:
        """Drop what nobody has begun to speak."""
        self._sentences.clear()
        self._waiting = 0
        self.complete = self.cancelled = True

    def begin_sentence(self) -> tuple[int, str, dict[str, Any]]:
        """The index of the next sentence, its text and its job."""
        sentence, index = self._sentences.popleft(), self._begun
        job_input = self.voicing.job_input(sentence, index, self._tag)
        self._waiting = max(0, self._waiting - len(sentence)) if self._sentences or not self.complete else 0
        self._begun += 1
        if tags := self.voicing.speaker_tag.findall(sentence):
            self._tag = tags[-1].strip("[]")
        return index, sentence, job_input

    def spoke(self, sentence: str, seconds: float, *, whole: bool) -> None:
        """Note audio that was sent. whole: the sentence's to its end."""
        self._seconds += seconds
        if whole:
            self._spoken.append(sentence)
        else:
            self._interrupted = sentence

    def done(self) -> dict[str, Any]:
        """The message that ends it."""
        message: dict[str, Any] = {
            "type": "session.done",
            "utterance_index": self.index,
            "total_sentences": self._begun,
            "spoken_seconds": round(self._seconds, 3),
        }
        if self.cancelled:
            message |= {
                "cancelled": True,
                "spoken_text": " ".join(self._spoken),
                "interrupted_sentence": self._interrupted,
            }
        return message
