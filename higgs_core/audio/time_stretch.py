"""Changes how fast speech is spoken and leaves its pitch alone: WSOLA, while the audio still arrives. Imports no torch.

W. Verhelst and M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
modification of speech", ICASSP 1993. Windows of the input are overlapped and added at a fixed distance; each is moved
by a few milliseconds to where it goes on like the window before it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_WINDOW = 720  # 30 ms: two periods of a low voice
_HOP = _WINDOW // 2  # of the output
_REACH = 240  # how far a window may be moved, 10 ms either way: together a period of 50 Hz
_FFT = 1024  # at least _HOP + 2 * _REACH, so that no lag that is looked at wraps around
_NEAR = 1 - 0.01 * np.square(np.arange(-_REACH, _REACH + 1) / _REACH)  # of places that fit equally well, the nearest
_TOO_QUIET = 1e-10  # the mean square below which nothing is compared, -100 dB of full scale

_RISE = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_HOP) / _WINDOW)
_FALL = 1 - _RISE

_NONE = np.zeros(0, np.float32)


class TimeStretch:
    """float32 [n] at 24 kHz in, the same speech `speed` times as fast out: round(n / speed) samples, at least one.

    What comes out does not depend on how the input is divided. It lags behind the input by 40 ms at the most, and the
    sample at second t of the input comes out at second t / speed. A factor of 0.25 to 4 leaves speech intelligible.
    """

    def __init__(self, speed: float) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"speed is {speed}; it must be above 0")
        self._speed = speed
        # Zeros stand before the input: the first window is centred at its first sample, and the next may be moved back.
        self._input = np.zeros(_HOP + _REACH)
        self._start = -len(self._input)  # where `_input` begins
        self._received = 0
        self._windows = 0
        self._sent = 0
        self._following = np.zeros(_HOP)  # what followed the last window's first half in the input
        self._falling = np.zeros(_HOP)  # the last window's second half, faded out

    def write(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples that are ready by now, float32 [m], possibly none."""
        self._input = np.concatenate([self._input, audio])
        self._received += len(audio)
        return self._take(self._ready())

    def finish(self) -> NDArray[np.float32]:
        """The samples that are left."""
        if not self._received:
            return _NONE
        left = max(1, round(self._received / self._speed)) - self._sent
        hops = -(-left // _HOP)
        reach = self._place(self._windows + hops) + _REACH + _WINDOW
        self._input = np.concatenate([self._input, np.zeros(max(0, reach - self._start - len(self._input)))])
        return self._take(hops + (self._windows == 0))[:left]

    def _place(self, window: int) -> int:
        """Where in the input a window begins that is not moved: its centre is `speed` times as far as in the output."""
        return round(window * _HOP * self._speed) - _HOP

    def _ready(self) -> int:
        """How many windows the input suffices for, wherever each of them is moved."""
        end = self._start + len(self._input) - _REACH - _WINDOW
        count = 0
        while self._place(self._windows + count) <= end:
            count += 1
        return count

    def _take(self, windows: int) -> NDArray[np.float32]:
        hops = [self._next_hop() for _ in range(windows)]
        if self._windows == windows:  # the first window's first half lies before the beginning
            hops = hops[1:]
        ready = np.concatenate([_NONE, *hops]).astype(np.float32)
        self._sent += len(ready)
        unused = min(self._place(self._windows) - _REACH - self._start, len(self._input))
        self._input, self._start = self._input[unused:].copy(), self._start + unused
        return ready

    def _next_hop(self) -> NDArray[np.float64]:
        place = self._place(self._windows)
        at = (place if self._windows == 0 else self._best_place(place)) - self._start
        self._windows += 1
        window = self._input[at : at + _WINDOW]
        hop: NDArray[np.float64] = self._falling + _RISE * window[:_HOP]
        self._following = window[_HOP:]
        self._falling = _FALL * window[_HOP:]
        return hop

    def _best_place(self, place: int) -> int:
        """Where near `place` the input is most like what followed the last window: highest normalised correlation."""
        near = self._input[place - _REACH - self._start :][: 2 * _REACH + _HOP]
        if np.square(self._following).mean() < _TOO_QUIET:
            return place
        spectrum = np.fft.rfft(near, _FFT) * np.conj(np.fft.rfft(self._following, _FFT))
        likeness = np.fft.irfft(spectrum, _FFT)[: 2 * _REACH + 1]
        before = np.concatenate([[0.0], np.cumsum(np.square(near))])
        energy = before[_HOP:] - before[:-_HOP]
        score = likeness / np.sqrt(np.maximum(energy, _TOO_QUIET * _HOP))
        return place - _REACH + int(np.argmax(score * _NEAR))
