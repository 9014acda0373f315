"""Silence at the end of a stretch of speech, found while the audio still comes. Imports no torch.

A frame is silent when its energy is far below that of the loudest frame so far. What comes later makes no frame at the
end sound, so a stream can be judged as it is spoken with the same outcome as the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.rates import FRAME_SAMPLES

NATURAL_FRAMES = 15
"""Silence that speech may end in, 0.6 s; what is longer is cut to it."""

LONG_FRAMES = 50
"""Silence of 2 s, after which a model has hardly ended where its text did."""

_SILENT_BELOW_LOUDEST = 0.01  # of the amplitude, -40 dB
_SILENT_AMPLITUDE = 0.001  # -60 dB of full scale: silent whatever came before


class SilenceMeter:
    """Takes in audio piece by piece and knows how much silence it ends in."""

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
        """How many of the samples stay when longer silence at the end is cut. It never falls, whatever comes next."""
        samples = self._frames * FRAME_SAMPLES + len(self._rest)
        return min(samples, (self._sounding + NATURAL_FRAMES) * FRAME_SAMPLES)
