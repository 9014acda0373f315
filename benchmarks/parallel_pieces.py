"""What chunk_parallel gains: a long text spoken piece after piece and with its pieces side by side, in turns.

    python -m benchmarks.parallel_pieces [--model tiny] [--rounds 5] [--device cpu]

Both ways speak the same pieces with the same seeds and steps; without context, so that both have the same prompts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np

from higgs_core import AudioContent, GenerationParams, HiggsAudioEngine
from higgs_core.speech.request import ReferenceSource, SpeechRequest
from higgs_core.speech.speak import speak

_PIECES = 12
_WORDS = 20
_SLOTS = 16
_CLIP = ReferenceSource("references[0]", path="noise", transcript="A clip that gives the voice.")


def request(*, parallel: bool) -> SpeechRequest:
    """Pieces of as many words each."""
    sentence = " ".join(f"word{at}" for at in range(_WORDS - 1)) + " end."
    return SpeechRequest(
        script=" ".join([sentence] * _PIECES),
        references=(_CLIP,),
        chunk_method="sentence",
        chunk_max_word_num=_WORDS,
        generation_chunk_buffer_size=0,
        chunk_parallel=parallel,
        params=GenerationParams(seed=1, max_new_tokens=200, temperature=1.0),
        cap_follows_text=False,
    )


def seconds_of(engine: HiggsAudioEngine, *, parallel: bool) -> float:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 72_000).astype(np.float32)
    before = time.perf_counter()
    result = speak(engine, request(parallel=parallel), {_CLIP: AudioContent(waveform=noise)})
    seconds = time.perf_counter() - before
    assert len(result.pieces) == _PIECES
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Print the median seconds of both ways and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    measured: dict[bool, list[float]] = {False: [], True: []}
    with HiggsAudioEngine.from_pretrained(
        options.model, device=options.device, max_batch_size=_SLOTS, max_context=4096
    ) as engine:
        for parallel in measured:
            seconds_of(engine, parallel=parallel)  # warm
        for _ in range(options.rounds):
            for parallel, seconds in measured.items():
                seconds.append(seconds_of(engine, parallel=parallel))
    one_by_one, together = (statistics.median(measured[parallel]) for parallel in (False, True))
    sys.stdout.write(f"{_PIECES} pieces one after another: {one_by_one:.2f} s; side by side: {together:.2f} s\n")
    sys.stdout.write(f"ratio {one_by_one / together:.2f}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
