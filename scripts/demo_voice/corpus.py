"""What the source voice speaks for the inventory: sentences of the domain and rows of random words, analysed."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.demo_voice import domain
from scripts.demo_voice.analysis import amplitudes
from scripts.demo_voice.source import Segment, speak
from scripts.demo_voice.vocabulary import words

SEED = 1
DOMAIN_SENTENCES, WORD_ROWS = 500, 2100


@dataclass(frozen=True)
class Spoken:
    """amplitudes: float32 [steps, 2, bands], see `analysis.amplitudes`."""

    segments: tuple[Segment, ...]
    amplitudes: NDArray[np.float32]


def sentences() -> list[str]:
    rng = random.Random(SEED)
    vocabulary = words()[:20_000]
    lines = [domain.sentence(rng) for _ in range(DOMAIN_SENTENCES)]
    for _ in range(WORD_ROWS):
        row = [vocabulary[int(len(vocabulary) * rng.random() ** 2)] for _ in range(rng.randint(5, 11))]
        if len(row) > 8 and rng.random() < 0.5:
            row[4] += ","
        lines.append(" ".join(row) + rng.choice("...?"))
    return lines


def spoken(folder: Path) -> list[Spoken]:
    """Every sentence spoken and analysed, on every core; kept in `folder`."""
    kept = folder / "corpus.pickle"
    if not kept.is_file():
        with ProcessPoolExecutor() as pool:
            result = list(pool.map(_analyse, sentences(), chunksize=20))
        folder.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(result))
    return pickle.loads(kept.read_bytes())


def _analyse(text: str) -> Spoken:
    utterance = speak(text)
    return Spoken(utterance.segments, amplitudes(utterance))
