"""Makes a random model end its speech by itself, as the real traffic of a server does.

A segment of a random model ends by chance: the EOS rows of some codebooks get weights like those of any code, so that
each of these codebooks draws EOS in about one of 1 025 columns. After `<|audio_eos|>` the text head answers with a
token that ends the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.engine_probe import synchronize
from higgs_core.build import EngineParts

_SIZE = 64.0  # of the embedding that the text head recognises, in units of a usual one: no layer hides it
_GAIN = 4.0


@contextmanager
def ending_by_itself(parts: EngineParts, mean_columns: float, seed: int = 0) -> Iterator[None]:
    """Inside the block segments of a random model last `mean_columns` on average, 128 at least.

    Their lengths are as good as geometric, as each column ends the segment with the same chance. Weights change in
    place, also for captured steps; the engine must be idle at both ends of the block.
    """
    config, weights, control = parts.config, parts.weights, parts.tokenizer.control
    if weights.text_head is None:
        raise ValueError("the model has no text head, so its speech could only be cut")
    head = weights.audio_head.view(config.num_codebooks, config.codebook_size, -1)  # [Q, V, H]
    count = max(1, min(config.num_codebooks, round((config.codebook_size - 1) / mean_columns)))
    ends = head[:count, config.stream_eos]  # [count, H]
    spoken = weights.token_embedding[control.audio_eos]  # [H]
    answer = weights.text_head[control.end_of_turn]  # [H]
    generator = torch.Generator().manual_seed(seed)
    scale = head[0, : config.stream_bos].float().std()
    changed = (ends, spoken, answer)
    before = [tensor.clone() for tensor in changed]
    direction = torch.randn(spoken.shape, generator=generator)
    direction /= direction.norm()
    try:
        ends.copy_(torch.randn(ends.shape, generator=generator).to(ends) * scale.to(ends))
        spoken.copy_(_SIZE * spoken.shape[0] ** 0.5 * direction)
        answer.copy_(_GAIN * direction)
        synchronize(parts.device)  # the engine reads them on another stream
        yield
    finally:
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        synchronize(parts.device)
