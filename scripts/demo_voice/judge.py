"""A judge of speech: what the speech recogniser pocketsphinx hears, and how much of it is wrong.

    python -m scripts.demo_voice.judge --folder output        # what `make run` spoke
    python -m scripts.demo_voice.judge --texts FILE A.wav …   # a line of FILE for each clip

pocketsphinx makes errors of its own: compare with what it makes of the voice that the model learned from.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from pocketsphinx import Decoder

from scripts.demo_voice import domain
from scripts.demo_voice.bigram import arpa
from scripts.demo_voice.scoring import word_errors

LanguageModel = Literal["default", "domain"]
RATE = 16_000
"""Samples a second that the recogniser's acoustic model takes."""
MARGIN_SECONDS = 0.3
CUT_SECONDS = 0.25
"""Silence of this length ends an utterance."""
QUIET = 0.02
"""A frame is silent below this part of the loudest frame's level."""
_WEIGHT = 5.0
"""How much the default model's expectation counts beside the sound; with pocketsphinx' own 6.5 it hears worse."""
_FRAME = RATE // 50
_SENTENCES = 20_000


class Judge:
    """Hears English. lm: "default" expects any English, "domain" only words of the domain's sentences."""

    def __init__(self, lm: LanguageModel = "default") -> None:
        options = {"lm": _domain_model()} if lm == "domain" else {"lw": _WEIGHT}
        self._decoder = Decoder(loglevel="FATAL", **options)

    def hear(self, audio: NDArray[Any], rate: int) -> list[str]:
        """The words of mono `audio`, [N] float in [-1, 1] or int16, with `rate` samples a second."""
        samples = audio.astype(np.float64) / (32768 if audio.dtype == np.int16 else 1)
        return [word for part in utterances(resampled(samples, rate, RATE)) for word in self._words_of(part)]

    def _words_of(self, part: NDArray[np.float64]) -> list[str]:
        margin = np.zeros(int(MARGIN_SECONDS * RATE))
        samples = np.concatenate([margin, part, margin])
        self._decoder.start_utt()
        self._decoder.process_raw((samples.clip(-1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr.split() if hypothesis else []


@cache
def _domain_model() -> str:
    """Path of the domain's language model, which goes away with the process."""
    handle, path = tempfile.mkstemp(suffix=".arpa")
    with open(handle, "w", encoding="utf-8") as file:
        file.write(arpa(domain.bigram_corpus(_SENTENCES)))
    atexit.register(os.unlink, path)
    return path


def resampled(samples: NDArray[np.float64], rate: int, target: int) -> NDArray[np.float64]:
    """`samples` [N] at `target` samples a second: their spectrum, cut off or filled up with nothing."""
    if rate == target or not len(samples):
        return samples
    length = round(len(samples) * target / rate)
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return np.fft.irfft(spectrum, length) * (length / len(samples))


def utterances(samples: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """`samples` [N] at RATE, cut in the middle of each silence of CUT_SECONDS; all silent: none."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(level > QUIET * level.max(initial=0))
    if not len(loud):
        return []
    gaps = np.flatnonzero(np.diff(loud) > CUT_SECONDS * RATE / _FRAME)
    cuts = [(loud[gap] + loud[gap + 1]) // 2 * _FRAME for gap in gaps]
    return np.split(samples, cuts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is heard in the files of the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo_voice.judge", description="Hear audio files.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="audio that soundfile reads")
    parser.add_argument("--texts", type=Path, help="a text file with what each FILE should say on a line of its own")
    parser.add_argument("--folder", type=Path, help="what `make run` wrote: audio, and JSON with the script beside it")
    parser.add_argument("--lm", choices=["default", "domain"], default="default", help="what words are expected")
    options = parser.parse_args(arguments)
    texts = options.texts.read_text(encoding="utf-8").splitlines() if options.texts else [""] * len(options.files)
    if len(texts) != len(options.files):
        parser.error(f"{len(options.files)} files and {len(texts)} texts")
    clips = [*zip(options.files, texts, strict=True), *(_spoken_in(options.folder) if options.folder else [])]
    judge = Judge(options.lm)
    sys.stdout.write("| file | script | heard | word errors |\n|---|---|---|---|\n")
    for file, text in clips:
        audio, rate = soundfile.read(file, dtype="float32", always_2d=True)
        heard = judge.hear(audio.mean(axis=1), rate)
        errors = "{} of {}".format(*word_errors(text, heard)) if text else ""
        sys.stdout.write(f"| {file.name} | {' '.join(text.split())} | {' '.join(heard)} | {errors} |\n")
    return 0


def _spoken_in(folder: Path) -> list[tuple[Path, str]]:
    """Audio files of a folder and what they should say. Bare samples (pcm) say nothing of themselves: left out."""
    about = {file: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
    clips = {file.with_suffix(f".{job['audio_format']}"): job for file, job in about.items()}
    return [
        (audio, " ".join(piece["text"] for piece in job["chunks"]))
        for audio, job in clips.items()
        if audio.suffix != ".pcm"
    ]


if __name__ == "__main__":
    sys.exit(main())
