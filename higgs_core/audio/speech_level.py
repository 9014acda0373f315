"""What a clip of speech measures: its level, its noise, where it is silent, how much of it is clipped. Loads no torch.

The level is the active speech level of ITU-T P.56, method B, on frames of 10 ms: pauses do not lower it. The noise is
the quietest that the smoothed level becomes, as in minimum statistics (R. Martin, 2001). What is near the noise, or far
below the speech, is silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from higgs_core.rates import SAMPLING_RATE

MARGIN_DB = 15.9
"""P.56: how far below the active speech level speech still counts as active."""
CLIPPED_AMPLITUDE = 0.99
"""Of full scale; a clipped peak that was resampled swings around 1."""

_FRAME = SAMPLING_RATE // 100
_HANGOVER_FRAMES = 20  # P.56: 200 ms after a sound belong to it
_SMOOTHED_FRAMES = 5
_STEP_DB = 0.5  # between two thresholds that are tried
_LOWEST_DB = -100.0  # digital silence
_FLOOR_PERCENTILE = 2
_ABOVE_FLOOR_DB = 6.0
_BELOW_SPEECH_DB = 40.0


@dataclass(frozen=True)
class ClipMeasures:
    """speech_db: active level, dBFS.  noise_db: dBFS, of the smoothed level's quietest frames.
    sounds: (start, end) in samples of each stretch that is not silent, in order; never empty.
    clipped: the share of samples at full scale, 0 to 1.
    """

    samples: int
    speech_db: float
    noise_db: float
    sounds: tuple[tuple[int, int], ...]
    clipped: float

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLING_RATE

    @property
    def sounding_seconds(self) -> float:
        return sum(end - start for start, end in self.sounds) / SAMPLING_RATE

    @property
    def pauses(self) -> tuple[tuple[int, int], ...]:
        """(start, end) of the silence between two sounds."""
        return tuple((end, start) for (_, end), (start, _) in zip(self.sounds, self.sounds[1:], strict=False))


def measure(waveform: NDArray[np.float32]) -> ClipMeasures:
    """waveform: float32 [N], N > 0, at 24 kHz, without a constant offset."""
    energies = _frame_energies(waveform)
    speech_db = active_level(energies)
    smoothed = _decibels(_smoothed(energies))
    noise_db = float(np.percentile(smoothed, _FLOOR_PERCENTILE))
    silent_below = max(speech_db - _BELOW_SPEECH_DB, noise_db + _ABOVE_FLOOR_DB)
    silent_below = min(silent_below, speech_db - MARGIN_DB, float(smoothed.max()))
    samples = len(waveform)
    return ClipMeasures(
        samples=samples,
        speech_db=speech_db,
        noise_db=noise_db,
        sounds=_runs(smoothed >= silent_below, samples),
        clipped=float(np.count_nonzero(np.abs(waveform) >= CLIPPED_AMPLITUDE)) / samples,
    )


def active_level(energies: NDArray[np.float64]) -> float:
    """dBFS of the speech in frames of these mean squares [F]: the energy of all, over the time that is active.

    ITU-T P.56, method B: a frame is active if one within the 200 ms up to it reaches a threshold, and the threshold is
    the one that lies MARGIN_DB below the level that it leads to.
    """
    total = energies.sum()
    padded = np.concatenate([np.full(_HANGOVER_FRAMES - 1, 0.0), energies])
    recent = _decibels(np.lib.stride_tricks.sliding_window_view(padded, _HANGOVER_FRAMES).max(axis=1))
    thresholds = np.arange(_LOWEST_DB, recent.max() + _STEP_DB, _STEP_DB)
    active = len(recent) - np.searchsorted(np.sort(recent), thresholds)
    levels = _decibels(total / np.maximum(active, 1))
    within = np.flatnonzero(levels - thresholds <= MARGIN_DB)
    return float(levels[within[0]] if len(within) else levels[-1])


def level_of(samples: NDArray[np.float32]) -> float:
    """dBFS of all samples [N] together."""
    return float(_decibels(np.square(samples, dtype=np.float64).mean(keepdims=True))[0])


def _frame_energies(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean squares [F]; the last frame may have fewer samples."""
    starts = np.arange(0, len(waveform), _FRAME)
    sums: NDArray[np.float64] = np.add.reduceat(np.square(waveform, dtype=np.float64), starts)
    means: NDArray[np.float64] = sums / np.diff(np.append(starts, len(waveform)))
    return means


def _smoothed(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(energies, _SMOOTHED_FRAMES // 2, mode="edge")
    means: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHED_FRAMES).mean(axis=1)
    return means


def _decibels(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = np.maximum(10 * np.log10(np.maximum(energies, 1e-12)), _LOWEST_DB)
    return levels


def _runs(sounding: NDArray[np.bool_], samples: int) -> tuple[tuple[int, int], ...]:
    """(start, end) in samples of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sounding, [False]]).astype(np.int8)))
    bounds = np.minimum(edges * _FRAME, samples).reshape(-1, 2)
    return tuple((int(start), int(end)) for start, end in bounds)
