"""Correctness on the device: golden tokens, kernels against torch, captured against plain steps, bf16 against fp32.

Each check is a generator of rows for the report; a row's `passed` says whether it held.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import torch

from benchmarks.harness import random_codes, sampled, speech
from higgs_core import GenerationParams, HiggsAudioEngine
from higgs_core.build import EngineParts
from higgs_core.kernels import ops_for, torch_ops
from higgs_core.kernels.quantized_weight import dense
from higgs_core.model.decoder import Decoder
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.prompt_span import PromptSpan
from higgs_core.model.weights import DecoderWeights, allocate, destinations
from higgs_core.prompt.layout import Prompt
from higgs_core.runtime.decode_graph import StepRunner, capturer_for
from higgs_core.sampling.sampler import FAST_TOP_K
from tests.golden import CASES, CHECKPOINTS, FOLDER
from tests.helpers.patience import PATIENCE
from tests.helpers.transformers_twin import prompt_inputs, prompt_of, transformers_twin

Row = dict[str, Any]
_GPU_PATIENCE = 120.0  # seconds; a GPU that hangs must leave time for the other stages
ROWS = (1, 2, 3, 8)


def golden_tokens(device: torch.device) -> Iterator[Row]:
    """Boson's own greedy tokens in fp32, all cases of a checkpoint at once."""
    for checkpoint in CHECKPOINTS:
        wrong = []
        with HiggsAudioEngine.from_pretrained(
            str(FOLDER / checkpoint), device=device, dtype="fp32", max_context=2048
        ) as engine:
            cases = [case for case in CASES if case.checkpoint == checkpoint]
            futures = [engine.submit(case.sample, case.params) for case in cases]
            wait = PATIENCE if device.type == "cpu" else _GPU_PATIENCE
            for case, future in zip(cases, futures, strict=True):
                try:
                    case.check(future.result(timeout=wait))
                except AssertionError:
                    wrong.append(case.raw["name"])
        yield {"what": checkpoint, "cases": len(cases), "wrong": ", ".join(wrong) or "none", "passed": not wrong}


def kernels(parts: EngineParts) -> Iterator[Row]:
    """Whole decode steps with the device's kernels against plain torch, at several batch sizes and lengths."""
    config, device, dtype = parts.config, parts.device, parts.weights.norm.dtype
    with _warnings() as switched_off:
        ours = ops_for(config, device, dtype)
    plain = torch_ops()
    own = [field.name for field in fields(ours) if getattr(ours, field.name) is not getattr(plain, field.name)]
    yield {"what": "at boot", "own": ", ".join(own) or "none", "switched_off": "; ".join(switched_off) or "none"}
    limit = {torch.float32: 1e-4}.get(dtype, 3e-2)
    cache = parts.decoder.cache
    with torch.inference_mode():
        for rows in [rows for rows in ROWS if rows <= cache.slots]:
            _random_cache(cache)
            before = cache._all.clone()
            columns, positions = _random_inputs(parts, rows)
            outcome = []
            for ops in (plain, ours):
                cache._all.copy_(before)
                decoder = Decoder(config, parts.weights, cache, ops)
                active = torch.ones_like(positions, dtype=torch.bool)
                logits = decoder.decode_step(columns, positions, active, max_kv_length=int(positions.max()) + 1)
                outcome.append((logits, cache._all.clone()))
            (expected, their_cache), (found, our_cache) = outcome
            error = _relative(found, expected)
            written = (slice(None), slice(None), torch.arange(rows, device=device), slice(None), positions)
            cache_error = _relative(our_cache[written].float(), their_cache[written].float())
            our_cache[written] = their_cache[written]
            yield {
                "what": f"{str(dtype).removeprefix('torch.')} step of {rows}",
                "error": error,
                "cache_error": cache_error,
                "rest_untouched": torch.equal(our_cache, their_cache),
                "passed": error < limit and cache_error < limit and torch.equal(our_cache, their_cache),
            }


def captured_steps(parts: EngineParts, steps: int = 24) -> Iterator[Row]:
    """Captured steps give the same columns as plain ones, also when rows become inactive on the way."""
    runner, cache, state = parts.runner, parts.decoder.cache, parts.state
    made_of = runner._decoder, state, runner._step_tail, runner._text, runner._text_tail
    plain, captured = StepRunner(*made_of, None), StepRunner(*made_of, capturer_for(parts.device))
    with torch.inference_mode():
        captured.prepare()
        for rows in [rows for rows in ROWS if rows <= cache.slots]:
            _random_cache(cache)
            columns, positions = _random_inputs(parts, rows)
            kv = cache._all.clone()
            emitted = []
            for tried in (plain, captured):
                cache._all.copy_(kv)
                for slot in range(cache.slots):
                    state.deactivate(slot, cache.dummy_position)
                _activate(parts, rows, columns, positions, steps)
                max_kv_length = int(positions.max()) + steps + 1
                columns_out = []
                for step in range(steps):
                    if step == steps // 2 and rows > 1:  # the last row ends before the others
                        state.deactivate(rows - 1, cache.dummy_position)
                    tried.run(rows, max_kv_length, FAST_TOP_K)
                    columns_out.append(state.emitted[:rows].clone())
                emitted.append(torch.stack(columns_out))
            same = (emitted[0] == emitted[1]).all(-1).float().mean()
            for slot in range(cache.slots):
                state.deactivate(slot, cache.dummy_position)
            yield {"what": f"{rows} rows", "steps": steps, "same": float(same), "passed": bool(same == 1)}


def low_precision(parts: EngineParts, steps: int = 8) -> Iterator[Row]:
    """Logits in the model's dtype against fp32 on the same weights, beside transformers' own error in that dtype."""
    config, device = parts.config, parts.device
    prompt = prompt_of(parts, speech(random_codes(3.0)))
    columns = torch.randint(0, config.stream_bos, (steps, config.num_codebooks)).to(device)
    with torch.inference_mode():
        exact_weights = _in_fp32(parts)
        exact_cache = KVCache(config, 1, prompt.length + steps, device, torch.float32)
        exact = _teacher_forced(Decoder(config, exact_weights, exact_cache, torch_ops()), prompt, columns)
        ours = _teacher_forced(parts.decoder, prompt, columns)
        twin = transformers_twin(config, parts.weights, delay_token=config.vocab_size - 1)
        output = twin(**prompt_inputs(prompt, device), use_cache=True, logits_to_keep=1)
        theirs = []
        for column in columns:
            output = twin(audio_input_ids=column[None, None], past_key_values=output.past_key_values, use_cache=True)
            theirs.append(output.logits[0, -1])
    our_error = _relative(ours, exact)
    their_error = _relative(torch.stack(theirs).float().view(exact.shape), exact)
    agreeing = (ours.argmax(-1) == exact.argmax(-1)).float().mean()
    yield {
        "what": f"{str(parts.weights.norm.dtype).removeprefix('torch.')} against fp32",
        "error": our_error,
        "transformers_error": their_error,
        "best_token_agrees": float(agreeing),
        "passed": bool(our_error <= 1.5 * their_error + 1e-5),
    }


def _teacher_forced(decoder: Decoder, prompt: Prompt, columns: torch.Tensor) -> torch.Tensor:
    """Logits [steps, Q, V] of given columns after a prompt."""
    device = columns.device
    decoder.prefill([PromptSpan(0, 0, prompt.positions, prompt.is_audio, prompt.columns)])
    logits = []
    for step, column in enumerate(columns):
        position = torch.tensor([prompt.length + step], device=device)
        active = torch.ones_like(position, dtype=torch.bool)
        logits.append(decoder.decode_step(column[None], position, active, max_kv_length=prompt.length + step + 1)[0])
    return torch.stack(logits).float()


def _in_fp32(parts: EngineParts) -> DecoderWeights:
    config = parts.config
    exact = allocate(config, parts.device, torch.float32, text_head=parts.weights.text_head is not None)
    source = destinations(parts.weights, config)
    for name, destination in destinations(exact, config).items():
        assert isinstance(destination, torch.Tensor)
        destination.copy_(dense(source[name], torch.float32))
    return exact


def _random_cache(cache: KVCache) -> None:
    cache._all.normal_()


def _random_inputs(parts: EngineParts, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns [rows, Q] and positions [rows] spread over the context."""
    cache, config = parts.decoder.cache, parts.config
    columns = torch.randint(0, config.stream_bos, (rows, config.num_codebooks), device=parts.device)
    positions = torch.linspace(7, cache.context * 3 // 4, rows + 1)[1:].long().to(parts.device)
    return columns, positions


def _activate(parts: EngineParts, rows: int, columns: torch.Tensor, positions: torch.Tensor, steps: int) -> None:
    """Make rows active in the middle of a segment, with different parameters."""
    state = parts.runner._state
    for row in range(rows):
        params = sampled(steps) if row != 1 else GenerationParams(temperature=0.0)
        state.begin(row, params, 1234 + row)
        state.begin_segment(row, columns[row][:, None], int(positions[row]), 9)
        state.column[row] = columns[row]
        state.sampled[row] = 8


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Warnings that the kernels' loggers emit inside."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collect(logging.WARNING)
    logger = logging.getLogger("higgs_core.kernels")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
