"""Logits in bf16 against fp32 on the same weights, beside transformers' own error in bf16. On a few layers."""

from __future__ import annotations

import torch

from benchmarks.engine_probe import teacher_forced
from benchmarks.harness import random_codes, speech
from benchmarks.models import random_parts
from benchmarks.stage_context import StageContext
from higgs_core.build import EngineParts
from higgs_core.kernels import torch_ops
from higgs_core.model.decoder import Decoder
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.weights import DecoderWeights, allocate, destinations
from higgs_core.prompt.layout import Prompt
from tests.helpers.transformers_twin import prompt_inputs, prompt_of, transformers_twin

_STEPS = 8


def run(context: StageContext) -> None:
    plan = context.plan
    parts = random_parts(plan.checked, plan.device, plan.dtype, slots=1, context=plan.context)
    config, device = parts.config, parts.device
    prompt = prompt_of(parts, speech(random_codes(3.0)))
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(0, config.stream_bos, (_STEPS, config.num_codebooks), generator=generator).to(device)
    with torch.inference_mode():
        exact_cache = KVCache(config, 1, prompt.length + _STEPS, device, torch.float32)
        exact = teacher_forced(Decoder(config, _in_fp32(parts), exact_cache, torch_ops()), prompt, columns)
        ours = teacher_forced(parts.decoder, prompt, columns)
        theirs = _of_transformers(parts, prompt, columns).view(exact.shape)
    our_error, their_error = (float((logits - exact).norm() / exact.norm()) for logits in (ours, theirs))
    context.add(
        "precision",
        what=f"{str(plan.dtype).removeprefix('torch.')} against fp32, {plan.checked.name}",
        error=our_error,
        transformers_error=their_error,
        best_token_agrees=float((ours.argmax(-1) == exact.argmax(-1)).float().mean()),
        passed=our_error <= 1.5 * their_error + 1e-5,
    )


def _of_transformers(parts: EngineParts, prompt: Prompt, columns: torch.Tensor) -> torch.Tensor:
    """The same logits, float32 [steps, Q V], by transformers' model on the same weights."""
    twin = transformers_twin(parts.config, parts.weights, delay_token=parts.config.vocab_size - 1)
    output = twin(**prompt_inputs(prompt, parts.device), use_cache=True, logits_to_keep=1)
    logits = []
    for column in columns:
        output = twin(audio_input_ids=column[None, None], past_key_values=output.past_key_values, use_cache=True)
        logits.append(output.logits[0, -1])
    return torch.stack(logits).float()


def _in_fp32(parts: EngineParts) -> DecoderWeights:
    config = parts.config
    exact = allocate(config, parts.device, torch.float32, text_head=parts.weights.text_head is not None)
    source = destinations(parts.weights, config)
    for name, tensor in destinations(exact, config).items():
        tensor.copy_(source[name])
    return exact
