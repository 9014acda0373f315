"""Times the engine and transformers' `generate` on the same weights, alternately in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from benchmarks.engine_probe import synchronize
from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.build import EngineParts
from tests.helpers.transformers_twin import prompt_inputs, prompt_of, transformers_twin

SECONDS_PER_FRAME = 0.04
TEMPERATURE, TOP_P, TOP_K, RAS_WINDOW, RAS_REPEATS = 1.0, 0.95, 50, 7, 2
WORDS = "The sun rises in the east and sets in the west. This simple fact has been observed for thousands of years."


@dataclass(frozen=True)
class Speed:
    """ms_per_step: a step of the whole batch, prefill apart.  wall: seconds from first submit to last result."""

    ms_per_step: float
    steps: int
    wall: float


def speech(reference: AudioContent | None = None) -> ChatMLSample:
    """A prompt of about 140 positions, and 25 a second more for a reference clip."""
    turns = [Message("system", "Generate audio following instruction.")]
    if reference is not None:
        turns += [Message("user", "A clip of the voice."), Message("assistant", reference)]
    return ChatMLSample([*turns, Message("user", WORDS)])


def prompt_of_length(parts: EngineParts, positions: int, seed: int) -> ChatMLSample:
    """A prompt of text alone, so many positions long; another text for every seed.

    The tokenizer of random models makes one position of a letter.
    """
    frame = prompt_of(parts, ChatMLSample([Message("user", "a")])).length - 1
    letters = np.random.default_rng(seed).choice(list("abcdefghijklmnopqrstuvwxyz "), max(positions - frame, 1))
    return ChatMLSample([Message("user", "".join(letters))])


def sampled(steps: int, seed: int = 0) -> GenerationParams:
    """The sampling that both sides use."""
    return GenerationParams(
        max_new_tokens=steps,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=TOP_K,
        ras_win_len=RAS_WINDOW,
        ras_win_max_num_repeat=RAS_REPEATS,
        seed=seed,
    )


def random_codes(seconds: float, seed: int = 0) -> AudioContent:
    codes = np.random.default_rng(seed).integers(0, 1024, (8, round(seconds / SECONDS_PER_FRAME)))
    return AudioContent(codes=codes)


def engine_speed(engine: HiggsAudioEngine, sample: ChatMLSample, batch: int, steps: int) -> Speed:
    """`batch` requests at once, each of `steps` steps.

    A step's time is that of the request which began to speak last, so that it includes no prefill.
    """
    started = time.perf_counter()
    futures = [engine.submit(sample, sampled(steps, seed)) for seed in range(batch)]
    results = [future.result() for future in futures]
    wall = time.perf_counter() - started
    for result in results:
        if result.finish_reason != "length" or result.delayed_audio_columns[0].shape[1] != steps:
            raise RuntimeError("a request of the benchmark ended early, so its time is not valid")
    decoding = min(result.timings["decode"] for result in results)
    # One step samples nothing, and decoding is timed from the next one's column on.
    return Speed(1000 * decoding / (steps - 2), steps, wall)


class _StepClock(StoppingCriteria):
    """Notes when each step of `generate` ends; its tokens have been read by then, so the device has finished it."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.BoolTensor:
        self.ends.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]


class TransformersSide:
    """transformers' model on the engine's weights, with the same prompt and the same sampling."""

    def __init__(self, parts: EngineParts, sample: ChatMLSample) -> None:
        self.model: Any = transformers_twin(parts.config, parts.weights, delay_token=parts.config.vocab_size - 1)
        self._inputs = prompt_inputs(prompt_of(parts, sample), parts.device)

    def speed(self, batch: int, steps: int) -> Speed:
        clock = _StepClock()
        inputs = {name: tensor.expand(batch, *tensor.shape[1:]).clone() for name, tensor in self._inputs.items()}
        settings = GenerationConfig(
            max_new_tokens=steps,
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            top_k=TOP_K,
            ras_win_len=RAS_WINDOW,
            ras_win_max_num_repeat=RAS_REPEATS,
            pad_token_id=0,
            eos_token_id=None,
        )
        started = time.perf_counter()
        with torch.inference_mode():
            self.model.generate(**inputs, generation_config=settings, stopping_criteria=StoppingCriteriaList([clock]))
        wall = time.perf_counter() - started
        warm = min(4, steps // 4)
        counted = len(clock.ends) - 1 - warm
        return Speed(1000 * (clock.ends[-1] - clock.ends[warm]) / counted, steps, wall)


def in_turns(sides: dict[str, Callable[[], Speed]], rounds: int) -> dict[str, float]:
    """Medians of ms per step, measured alternately (A B A B …) after one warm-up round."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            speed = side()
            if turn:
                measured[name].append(speed.ms_per_step)
    return {name: statistics.median(values) for name, values in measured.items()}


def audio_seconds_per_second(ms_per_step: float, batch: int) -> float:
    return 1000 * SECONDS_PER_FRAME * batch / ms_per_step


def step_nbytes(parts: EngineParts, batch: int, positions: int) -> int:
    """Bytes that one step of `batch` rows must read: the weights once and every row's keys and values."""
    cache = parts.decoder.cache
    return parts.weights.audio_step_nbytes + batch * positions * cache.nbytes_per_slot_position


def copy_bandwidth(device: torch.device, nbytes: int) -> float:
    """Bytes read and written per second by a large copy: of `nbytes`, or what a quarter of the free memory holds."""
    if device.type == "cuda":
        nbytes = min(nbytes, torch.cuda.mem_get_info(device)[0] // 4)
    source = torch.randint(0, 255, (nbytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(12):
        synchronize(device)
        started = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        times.append(time.perf_counter() - started)
    return 2 * nbytes / statistics.median(times[2:])
