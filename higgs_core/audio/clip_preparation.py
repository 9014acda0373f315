"""A reference clip made ready for the codec: what would be copied along with the voice is mended. Loads no torch.

The model imitates all of a clip: its pauses, its level, the click where it was cut off. So a constant offset is taken
off, long silence is shortened, a level far from that of usual speech is set, and an end in mid-sound is faded out. What
lies within the tolerances below is left alone: a good clip keeps every sample, and so its codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.decode import SILENT_PEAK, silent_clip
from higgs_core.audio.speech_level import MARGIN_DB, ClipMeasures, level_of, measure
from higgs_core.rates import SAMPLING_RATE

LEAST_OFFSET = 2e-3
"""A smaller constant offset is left, as is one below OFFSET_OF_SPEECH times the amplitude of the speech."""
OFFSET_OF_SPEECH = 0.05
LONGEST_EDGE_SECONDS, KEPT_EDGE_SECONDS = 0.5, 0.2
"""Silence before the first and after the last sound: more than the one is cut to the other."""
LONGEST_PAUSE_SECONDS, KEPT_PAUSE_SECONDS = 1.0, 0.6
"""The same of silence between two sounds."""
TARGET_DB, TOLERANCE_DB = -23.0, 10.0
"""Active speech level in dBFS, the programme level of EBU R 128, and how far from it a clip may be."""
HIGHEST_PEAK = 0.891
"""-1 dBFS: no gain leads above it."""
FADE_SECONDS = 0.03

_JOIN_SECONDS = 0.01  # a cross-fade where silence was taken out
_END_SECONDS = 0.01  # the stretch at the end that tells whether the clip stops in mid-sound
_LEAST_GAIN_DB = 1.0


@dataclass(frozen=True)
class PreparedClip:
    """waveform: float32 [N] at 24 kHz; the very array that came where nothing was changed.
    done: what was changed, a clause each.  found: what the clip measured before.
    """

    waveform: NDArray[np.float32]
    done: tuple[str, ...]
    found: ClipMeasures


def prepare_clip(waveform: NDArray[np.float32], *, origin: str) -> PreparedClip:
    """Mend one clip: float32 [N], mono, 24 kHz, N > 0, finite. The same samples always give the same result.

    origin: what the payload calls the clip, for the error's sentence.
    Raises ReferenceAudioError for a clip that is silent once its offset is taken off.
    """
    done: list[str] = []
    clip = _without_offset(waveform)
    if np.abs(clip).max() < SILENT_PEAK:
        raise silent_clip(origin)
    found = measure(clip)
    if _has_offset(waveform, found):
        done.append("a constant offset was removed")
    else:
        clip = waveform
    kept = _kept_stretches(found)
    if kept != ((0, len(clip)),):
        before = len(clip)
        clip = _joined(clip, kept)
        done.append(f"{(before - len(clip)) / SAMPLING_RATE:.1f} s of silence were cut")
    gain_db = _gain(clip, found.speech_db)
    if gain_db:
        clip = clip * np.float32(10 ** (gain_db / 20))
        done.append(f"its level was {'raised' if gain_db > 0 else 'lowered'} by {abs(gain_db):.0f} dB")
    if level_of(clip[-int(_END_SECONDS * SAMPLING_RATE) :]) > found.speech_db + gain_db - MARGIN_DB:
        clip = _faded(clip)
        done.append("its end was faded out")
    return PreparedClip(clip, tuple(done), found)


def unprepared_clip(waveform: NDArray[np.float32]) -> PreparedClip:
    """The same clip, measured and left as it is."""
    return PreparedClip(waveform, (), measure(_without_offset(waveform)))


def _without_offset(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Around its mean."""
    return waveform - np.float32(waveform.mean(dtype=np.float64))


def _has_offset(waveform: NDArray[np.float32], found: ClipMeasures) -> bool:
    offset = abs(float(waveform.mean(dtype=np.float64)))
    return offset >= max(LEAST_OFFSET, OFFSET_OF_SPEECH * 10 ** (found.speech_db / 20))


def _kept_stretches(found: ClipMeasures) -> tuple[tuple[int, int], ...]:
    """(start, end) in samples of what is kept, in order; neighbours are joined with a cross-fade."""
    first, last = found.sounds[0][0], found.sounds[-1][1]
    edge = int(KEPT_EDGE_SECONDS * SAMPLING_RATE)
    longest = LONGEST_EDGE_SECONDS * SAMPLING_RATE
    start = first - edge if first > longest else 0
    end = last + edge if found.samples - last > longest else found.samples
    kept, half = [], int(KEPT_PAUSE_SECONDS * SAMPLING_RATE) // 2
    for before, after in found.pauses:
        if after - before > LONGEST_PAUSE_SECONDS * SAMPLING_RATE:
            kept.append((start, before + half))
            start = after - half
    return (*kept, (start, end))


def _joined(clip: NDArray[np.float32], stretches: tuple[tuple[int, int], ...]) -> NDArray[np.float32]:
    """The stretches one after the other; at each join the last 10 ms of one fade into the first 10 ms of the next."""
    length = int(_JOIN_SECONDS * SAMPLING_RATE)
    rising = np.linspace(0, 1, length, dtype=np.float32)
    parts: list[NDArray[np.float32]] = []
    for start, end in stretches:
        part = clip[start:end].copy()
        if parts:
            part[:length] = part[:length] * rising + parts[-1][-length:] * (1 - rising)
            parts[-1] = parts[-1][:-length]
        parts.append(part)
    return np.concatenate(parts)


def _gain(clip: NDArray[np.float32], speech_db: float) -> float:
    """dB that bring the speech to the target; 0 within the tolerance, and where its peaks leave no room."""
    wanted = TARGET_DB - speech_db
    if abs(wanted) <= TOLERANCE_DB:
        return 0.0
    room = 20 * float(np.log10(HIGHEST_PEAK / np.abs(clip).max()))
    gain = min(wanted, room)
    return gain if gain * wanted > 0 and abs(gain) >= _LEAST_GAIN_DB else 0.0


def _faded(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """The end under a falling half of a Hann window."""
    length = min(int(FADE_SECONDS * SAMPLING_RATE), len(clip))
    falling = 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, length))
    faded = clip.copy()
    faded[-length:] *= falling.astype(np.float32)
    return faded
