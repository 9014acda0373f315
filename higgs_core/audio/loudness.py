"""Speech at a loudness that the caller names: ITU-R BS.1770-4, measured by pyloudnorm, which is loaded when called.

Loudness is in LUFS. A gain is in decibels here and never lets a true peak pass CEILING_DB.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.true_peak import true_peak
from higgs_core.rates import SAMPLING_RATE

CEILING_DB = -1.0
"""The highest true peak that is let through, in dB of full scale: room for what a lossy encoder adds."""

_BLOCK = SAMPLING_RATE * 2 // 5  # the meter's, 0.4 s
_STEP = _BLOCK // 4  # from one block to the next
_STRETCH = 600 * _STEP  # measured at once, a minute
_SILENCE_LUFS = -70.0  # the absolute gate: blocks below it are not heard
_RELATIVE_GATE_DB = -10.0
_OFFSET_DB = -0.691
_SAMPLES_AT_ONCE = 2**20
_METERING = threading.Lock()  # the meter changes the process's filters of warnings for a moment


def integrated_loudness(audio: NDArray[Any]) -> float | None:
    """The loudness of audio [N] at 24 kHz in LUFS; None where all of it is silence, or a sample is not a number.

    Audio that is shorter than a block of the meter is one block. Memory is that of a minute, whatever N is.
    """
    if not len(audio):
        return None
    powers = np.concatenate(
        [
            _block_powers(audio[start : start + _STRETCH + _BLOCK - _STEP])
            for start in range(0, max(1, len(audio) - _BLOCK + 1), _STRETCH)
        ]
    )
    if not np.isfinite(powers).all():
        return None
    heard = powers[_decibels(powers) >= _SILENCE_LUFS]
    if not len(heard):
        return None
    gate = max(float(_decibels(heard.mean())) + _RELATIVE_GATE_DB, _SILENCE_LUFS)
    return float(_decibels(heard[_decibels(heard) > gate].mean()))


def _block_powers(audio: NDArray[Any]) -> NDArray[np.float64]:
    """The power of each block of K-weighted audio."""
    from pyloudnorm import Meter

    samples = audio.astype(np.float64)
    if len(samples) < _BLOCK:
        samples = np.append(samples, 0.0)  # the meter asks for more than a block
    meter = Meter(SAMPLING_RATE, block_size=min(_BLOCK, len(audio)) / SAMPLING_RATE)
    with _METERING:
        meter.integrated_loudness(samples)
    loudness = np.asarray(meter.blockwise_loudness, np.float64)
    powers: NDArray[np.float64] = np.power(10.0, (loudness - _OFFSET_DB) / 10)
    return powers


def _decibels(power: Any) -> Any:
    with np.errstate(divide="ignore"):
        return _OFFSET_DB + 10 * np.log10(power)


def gain_to(audio: NDArray[Any], target: float) -> tuple[float, float] | None:
    """How many dB of gain bring audio [N] to `target` LUFS, and by how much less than that is given for its peaks.

    None where nothing is heard in it.
    """
    loudness = integrated_loudness(audio)
    if loudness is None:
        return None
    peak = true_peak(audio)
    wanted = target - loudness
    given = min(wanted, CEILING_DB - 20 * math.log10(peak)) if peak > 0 else wanted
    return given, wanted - given


def amplified(audio: NDArray[np.float32], gain_db: float) -> NDArray[np.float32]:
    """float32 [N], each sample times the gain; computed in double precision."""
    louder = np.empty_like(audio)
    for first in range(0, len(audio), _SAMPLES_AT_ONCE):
        part = audio[first : first + _SAMPLES_AT_ONCE].astype(np.float64)
        louder[first : first + _SAMPLES_AT_ONCE] = part * amplitude(gain_db)
    return louder


def amplitude(decibels: float) -> float:
    return float(10 ** (decibels / 20))
