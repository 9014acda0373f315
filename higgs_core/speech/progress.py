"""Progress of a request, as `speak` and `stream_speech` report it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from higgs_core.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from higgs_core.speech.session import SpeechSession

_COLUMNS_WITHOUT_SOUND = 9  # the first and the last frame, and seven of the delay pattern


@dataclass(frozen=True)
class Progress:
    """share: 0 to 1, never falling; exact between pieces and a guess inside one.  audio_seconds: spoken so far."""

    share: float
    audio_seconds: float


OnProgress = Callable[[Progress], None]


class ProgressTracker:
    """Calls `on_progress` when there is progress to report."""

    def __init__(self, session: SpeechSession, on_progress: OnProgress | None) -> None:
        self._session = session
        self._on_progress = on_progress
        self._reported = Progress(0.0, 0.0)

    def report(self, columns: Sequence[int] = ()) -> None:
        """columns: generated so far of the next pieces."""
        if self._on_progress is None:
            return
        running = sum(max(so_far - _COLUMNS_WITHOUT_SOUND, 0) for so_far in columns)
        samples = self._session.speech_samples + self._session.paused_samples
        progress = Progress(
            max(self._session.share(columns), self._reported.share),
            max(samples / SAMPLING_RATE + running / FRAMES_PER_SECOND, self._reported.audio_seconds),
        )
        if progress != self._reported:
            self._reported = progress
            self._on_progress(progress)
