"""The utterances of a live session that are not over, and how much of them may wait."""

from __future__ import annotations

from collections import deque

from higgs_core.errors import RequestError
from serverless.http.live.utterance import Utterance
from serverless.http.live.voicing import Voicing

MAX_UTTERANCES = 256
"""That may wait at a time."""
SCRIPTS_WAITING = 4
"""Scripts of the most characters that may wait to be spoken, those of all utterances together. What is more is refused
and not left unread, as an input.cancel that stands behind it has to be read."""


class Utterances:
    """The first is being spoken, the last may be being written. max_characters: of one of them.

    count: how many there have been in the session.
    """

    def __init__(self, max_characters: int) -> None:
        self.count = 0
        self._max_characters = max_characters
        self._utterances: deque[Utterance] = deque()

    @property
    def first(self) -> Utterance | None:
        return self._utterances[0] if self._utterances else None

    @property
    def waiting(self) -> int:
        """Characters that wait to be spoken."""
        return sum(each.waiting for each in self._utterances)

    @property
    def most_characters(self) -> int:
        """That may be read one after the other, those that are dropped among them, before the session is closed."""
        return (SCRIPTS_WAITING + 1) * self._max_characters

    @property
    def is_written(self) -> bool:
        """Whether the next text begins an utterance."""
        return not self._utterances or self._utterances[-1].complete

    @property
    def has_something_to_speak(self) -> bool:
        return any(each.has_sentence or each.complete for each in self._utterances)

    def add(self, text: str, voicing: Voicing) -> bool:
        """Text of the utterance that is being written, or of a new one in that voicing.

        Returns False when the client writes on and on although no more is taken. Raises RequestError for what is too
        much.
        """
        utterance = self._current(voicing)
        utterance.add(text, SCRIPTS_WAITING * self._max_characters - self.waiting)
        return utterance.dropped <= self._max_characters

    def finish(self, voicing: Voicing) -> None:
        """The text is complete. Raises RequestError where too many utterances wait."""
        self._current(voicing).finish()

    def cancel(self, voicing: Voicing) -> None:
        """Drop all that nobody has begun to speak; where there is nothing, an utterance without a text is cancelled."""
        if not self._utterances:
            self._current(voicing)
        self.drop()

    def drop(self) -> None:
        """Drop all that nobody has begun to speak."""
        for utterance in self._utterances:
            utterance.cancel()

    def end_first(self) -> None:
        """The first is over."""
        self._utterances.popleft()

    def _current(self, voicing: Voicing) -> Utterance:
        if self.is_written:
            if len(self._utterances) >= MAX_UTTERANCES:
                raise RequestError(
                    f"{MAX_UTTERANCES} utterances wait to be spoken; no more are taken.",
                    field="type",
                    hint="Wait for session.done before you begin another one, or send input.cancel.",
                )
            self._utterances.append(Utterance(self.count, voicing, self._max_characters))
            self.count += 1
        return self._utterances[-1]
