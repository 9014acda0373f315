"""What the pieces of a stream say, in the order of their audio: each is told once, with the audio that begins it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from higgs_core.speech.speak import SpeechChunk


class PieceTexts:
    """Notes where pieces begin in the speech, before its speed is changed, and tells their texts in what comes of it.

    A stage in between may hold audio back, but what it gives out was noted before.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._paused = 0  # samples so far, which last as long at any speed
        self._waiting: deque[tuple[int, str]] = deque()  # first sample at that speed, and text

    def noted(self, chunks: Iterator[SpeechChunk]) -> Iterator[SpeechChunk]:
        """The same chunks. Closing it closes `chunks`."""
        try:
            for chunk in chunks:
                if chunk.is_pause:
                    self._paused += len(chunk.audio)
                if chunk.text is not None:
                    begins = self._paused + int((chunk.start_sample - self._paused) / self._speed)
                    self._waiting.append((begins, chunk.text))
                yield chunk
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def cut(self, first: int, last: int, at_most: int) -> Iterator[tuple[int, int]]:
        """The samples from `first` to `last` (exclusive) in stretches of `at_most`, of which none goes on into the next
        piece. Take the texts of each before the next is asked for."""
        while first < last:
            begins = (begin for begin, _ in self._waiting if begin > first)
            end = min(last, first + at_most, next(begins, last))
            yield first, end
            first = end

    def take(self, sample: float) -> list[str]:
        """The texts of the pieces that have begun by the sample, each once."""
        texts = []
        while self._waiting and self._waiting[0][0] <= sample:
            texts.append(self._waiting.popleft()[1])
        return texts
