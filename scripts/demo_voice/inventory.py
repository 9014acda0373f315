"""The codes of the demo voice, made so that they are easy to predict: units of speech instead of learnt clusters.

A phone lasts a whole number of frames, which follows from its stress and from the pause after it. A frame has four
codes that say something; the other codebooks hold 0.

* codebook 0, the unit: phone, its length in frames, the frame's number in it, whether the phone begins a word;
* codebook 1, what the phone before adds to the phone's first two frames;
* codebook 2, voice and pitch: LEVELS x voice + pitch level;
* codebook 7, what the phone after adds to the last two. In the delay pattern it comes seven columns after codebook 0,
  when the next phone is known.

T frames, Q = 8 codebooks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scripts.demo_voice.bands import STEP
from scripts.demo_voice.clustering import clustered
from scripts.demo_voice.codes import CODEBOOKS, LEFT, RIGHT, UNIT
from scripts.demo_voice.source import PAUSE, Segment

if TYPE_CHECKING:  # `corpus` imports pyworld, which training and tests do without
    from scripts.demo_voice.corpus import Spoken

FRAME_SECONDS = 0.04
STEPS = 4
"""Analysis steps of a frame."""
LONGEST = 5
"""Frames of a phone, at most."""
PAUSES = {"start": 2, "comma": 4, "sentence": 7, "end": 3}
"""Frames."""
_CONTEXT_FRAMES = 2


@dataclass(frozen=True)
class Sound:
    """A phone or a pause of `frames` frames; 0 for a phone, whose length the inventory knows."""

    phone: str
    stressed: bool = False
    starts_word: bool = False
    frames: int = 0


@dataclass(frozen=True)
class FrameContext:
    """One frame: the number of its sound, the frame's number in it and the sound's length in frames; the sound, and
    the phones before and after it."""

    sound_at: int
    frame: int
    length: int
    sound: Sound
    before: str
    after: str

    @property
    def unit(self) -> str:
        return f"{self.sound.phone} {self.length} {self.frame} {int(self.sound.starts_word)}"

    @property
    def left(self) -> tuple[str, str] | None:
        """The group of a context code and the phone in it; None where the phone before adds nothing."""
        return (f"{self.sound.phone} {self.frame}", self.before) if self.frame < _CONTEXT_FRAMES else None

    @property
    def right(self) -> tuple[str, str] | None:
        remaining = self.length - 1 - self.frame
        return (f"{self.sound.phone} {remaining}", self.after) if remaining < _CONTEXT_FRAMES else None


class Inventory:
    """lengths: frames of a phone by `_length_key`, with the phone alone for combinations that were never met.

    units: codes of codebook 0.  left, right: codes of codebooks 1 and 7 by "group|phone"; 0 for what is not listed.
    """

    def __init__(
        self, lengths: dict[str, int], units: dict[str, int], left: dict[str, int], right: dict[str, int]
    ) -> None:
        self.lengths, self.units, self.left, self.right = lengths, units, left, right
        self._codes = lru_cache(maxsize=None)(self._codes_of_sound)

    def save(self, path: Path) -> None:
        kept = {"lengths": self.lengths, "units": self.units, "left": self.left, "right": self.right}
        path.write_text(json.dumps(kept))

    @classmethod
    def load(cls, path: Path) -> Inventory:
        raw = json.loads(path.read_text())
        return cls(raw["lengths"], raw["units"], raw["left"], raw["right"])

    def length(self, sounds: Sequence[Sound], at: int) -> int:
        """Frames of a sound."""
        return sounds[at].frames or _look_up(self.lengths, sounds, at)

    def frames(self, sounds: Sequence[Sound]) -> list[FrameContext]:
        """[T], the frames of sounds one after the other."""
        return list(_frames(sounds, self.lengths))

    def codes(self, sounds: Sequence[Sound]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes [T, Q] without pitch, and the number of the sound of each frame, [T]."""
        parts, owners = [], []
        for at, sound in enumerate(sounds):
            before, after = _neighbours(sounds, at)
            codes = self._codes(sound, self.length(sounds, at), before, after)
            parts.append(codes)
            owners += [at] * len(codes)
        return np.concatenate(parts), np.array(owners)

    def _codes_of_sound(self, sound: Sound, length: int, before: str, after: str) -> NDArray[np.int64]:
        codes = np.zeros((length, CODEBOOKS), np.int64)
        for frame in range(length):
            context = FrameContext(0, frame, length, sound, before, after)
            codes[frame, UNIT] = self.units[context.unit]
            codes[frame, LEFT] = self.left.get("|".join(context.left), 0) if context.left else 0
            codes[frame, RIGHT] = self.right.get("|".join(context.right), 0) if context.right else 0
        return codes


def sounds_of(segments: Iterable[Segment]) -> list[Sound]:
    """The sounds of a spoken utterance, pauses as long as `PAUSES` says."""
    segments = list(segments)
    sounds, word = [], -1
    for at, segment in enumerate(segments):
        if segment.phone == PAUSE:
            place = "start" if at == 0 else "end" if at == len(segments) - 1 else "comma"
            sounds.append(Sound(PAUSE, frames=PAUSES[place]))
        else:
            sounds.append(Sound(segment.phone, segment.stressed, segment.word != word))
            word = segment.word
    return sounds


def build(corpus: Sequence[Spoken]) -> Inventory:
    """Lengths are means; a context code is a cluster of neighbours that change a phone alike (Ward's method)."""
    lengths = _lengths(corpus)
    contexts, vectors = [], []
    for spoken in corpus:
        frames = list(_frames(sounds_of(spoken.segments), lengths))
        contexts += frames
        vectors.append(warped(spoken, frames))
    flat = np.concatenate(vectors).reshape(len(contexts), -1)
    pauses = [f"{PAUSE} {length} {frame} 0" for length in PAUSES.values() for frame in range(length)]
    phones = {context.sound.phone for context in contexts} - {PAUSE}
    seen = {context.unit for context in contexts}
    # Every length of every phone has codes, met at the beginning of a word or not.
    possible = {
        f"{phone} {length} {frame} {first}"
        for phone in phones
        for length in {int(unit.split()[1]) for unit in seen if unit.startswith(f"{phone} ")}
        for frame in range(length)
        for first in (0, 1)
    }
    units = {unit: code for code, unit in enumerate([*pauses, *sorted(possible)])}
    group = np.array([units[context.unit] for context in contexts])
    rest = flat - _means(flat, group)[group]
    left = clustered([context.left for context in contexts], rest)
    codes = np.array([left.get("|".join(context.left), 0) if context.left else 0 for context in contexts])
    rest = rest - _means(rest, codes)[codes]
    return Inventory(lengths, units, left, clustered([context.right for context in contexts], rest))


def warped(spoken: Spoken, frames: Sequence[FrameContext]) -> NDArray[np.float32]:
    """The spoken amplitudes at the times of the inventory's frames: float32 [T, STEPS, 2, bands]."""
    starts = [0.0, *(segment.end for segment in spoken.segments)]
    times = np.empty((len(frames), STEPS))
    for row, frame in enumerate(frames):
        start, end = starts[frame.sound_at], starts[frame.sound_at + 1]
        times[row] = start + (end - start) * (frame.frame + (np.arange(STEPS) + 0.5) / STEPS) / frame.length
    position = np.clip(times / STEP, 0, len(spoken.amplitudes) - 1)
    low = position.astype(int)
    high, share = np.minimum(low + 1, len(spoken.amplitudes) - 1), (position - low)[..., None, None]
    mixed: NDArray[np.float32] = (spoken.amplitudes[low] * (1 - share) + spoken.amplitudes[high] * share).astype("f4")
    return mixed


def _frames(sounds: Sequence[Sound], lengths: dict[str, int]) -> Iterable[FrameContext]:
    for at, sound in enumerate(sounds):
        length = sound.frames or _look_up(lengths, sounds, at)
        before, after = _neighbours(sounds, at)
        for frame in range(length):
            yield FrameContext(at, frame, length, sound, before, after)


def _neighbours(sounds: Sequence[Sound], at: int) -> tuple[str, str]:
    before = sounds[at - 1].phone if at else PAUSE
    return before, sounds[at + 1].phone if at + 1 < len(sounds) else PAUSE


def _length_key(sounds: Sequence[Sound], at: int) -> str:
    """Phone, stress, and whether a pause follows at once or after one more phone."""
    pauses = [at + ahead >= len(sounds) or sounds[at + ahead].phone == PAUSE for ahead in (1, 2)]
    return f"{sounds[at].phone} {int(sounds[at].stressed)} {int(pauses[0])} {int(pauses[1])}"


def _look_up(lengths: dict[str, int], sounds: Sequence[Sound], at: int) -> int:
    found = lengths.get(_length_key(sounds, at))
    return lengths[sounds[at].phone] if found is None else found


def _lengths(corpus: Sequence[Spoken]) -> dict[str, int]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for spoken in corpus:
        sounds, start = sounds_of(spoken.segments), 0.0
        for at, segment in enumerate(spoken.segments):
            seconds[segment.phone].append(segment.end - start)
            seconds[_length_key(sounds, at)].append(segment.end - start)
            start = segment.end
    return {key: int(np.clip(round(np.mean(values) / FRAME_SECONDS), 1, LONGEST)) for key, values in seconds.items()}


def _means(values: NDArray[np.float32], group: NDArray[np.int64]) -> NDArray[np.float32]:
    sums = np.zeros((group.max() + 1, values.shape[1]), np.float32)
    np.add.at(sums, group, values)
    return sums / np.maximum(np.bincount(group, minlength=len(sums)), 1)[:, None]
