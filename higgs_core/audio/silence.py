"""Measures the silence at the end of speech while the audio still arrives. Imports no torch.

A frame is silent when its energy is far below that of the loudest frame so far. Later audio never makes a silent frame
count as sound, so measuring a stream piece by piece gives the same result as measuring all of it at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.rates import FRAME_SAMPLES

NATURAL_FRAMES = 15
"""Silence that is kept at the end of speech, 0.6 s; longer silence is cut to it."""

LONG_FRAMES = 50
"""2 s; longer silence at the end suggests that the model stopped before the end of its text."""

_SILENT_BELOW_LOUDEST = 0.01  # of the amplitude, -40 dB
_SILENT_AMPLITUDE = 0.001  # -60 dB of full scale: silent whatever came before


class SilenceMeter:
    """Takes audio piece by piece and tells how much silence it ends with."""

    def __init__(self) -> None:
        self._rest: NDArray[Any] = np.zeros(0, np.float32)  # samples of a frame that is not complete
        self._loudest = 0.0
        self._frames = 0
        self._sounding = 0  # frames up to the last one that is not silent

    def add(self, audio: NDArray[Any]) -> None:
        """audio: float32 [n], what comes next."""
        samples = np.concatenate([self._rest, audio]) if len(self._rest) else audio
        count = len(samples) // FRAME_SAMPLES
        self._rest = samples[count * FRAME_SAMPLES :]
        if count == 0:
            return
        frames = samples[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES).astype(np.float64)
        amplitudes = np.sqrt(np.square(frames).mean(axis=1))
        self._loudest = max(self._loudest, float(amplitudes.max()))
        sounding = np.flatnonzero(amplitudes >= max(self._loudest * _SILENT_BELOW_LOUDEST, _SILENT_AMPLITUDE))
        if len(sounding):
            self._sounding = self._frames + int(sounding[-1]) + 1
        self._frames += count

    @property
    def sounding_frames(self) -> int:
        """Frames up to the end of the last sound; 0 when nothing was heard."""
        return self._sounding

    @property
    def silent_frames(self) -> int:
        """Frames of silence at the end."""
        return self._frames - self._sounding

    @property
    def kept_samples(self) -> int:
        """Samples that are kept when longer silence at the end is cut. Later audio never lowers it."""
        samples = self._frames * FRAME_SAMPLES + len(self._rest)
        return min(samples, (self._sounding + NATURAL_FRAMES) * FRAME_SAMPLES)
