"""Slots and context from a device's memory: an explicit budget of what an engine allocates beside its weights.

Slots and positions a slot are allocated once, at boot, so everything that is allocated later has its room set aside
before. All of it is arithmetic on numbers of bytes; `higgs_core/sized_cache.py` reads them from the device.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch

from higgs_core.codec.audio_codec import MAX_DECODE_FRAMES
from higgs_core.config import ModelConfig
from higgs_core.engine_config import USUAL_SLOTS, EngineConfig, NumberOrAuto
from higgs_core.errors import ModelLoadError
from higgs_core.model.kv_cache import KVCache
from higgs_core.runtime.prefill import PREFILL_CHUNK
from higgs_core.sampling.text_state import TEXT_LANES

PREFIX_SHARE = 0.1
"""Bytes of the prefix cache, as a share of the KV cache's."""
MOST_AUTO_SLOTS = 64
"""More are used only if they are asked for. With more than 33 rows of 1500 positions, a step of the released model in
bf16 reads more bytes of keys and values than of weights. Twice 64 rows would add a fifth to the audio a second and take
two fifths off the speed of each request."""
SHORT_CONTEXT = 2048
"""Down to so many positions, 80 s of prompt and speech, a context is shortened before slots are given up."""

_SLOT_STEP = 8  # so that cards of one kind, whose free memory differs a little, mostly get the same number
_LEAST_CONTEXT = 1024  # of the last slot

_MEGABYTE = 10**6
_BYTES_PER_GRAPH = 4 * _MEGABYTE  # what the driver keeps of each, apart from its tensors
_STEP_GRAPHS = 10
_CODEC_GRAPHS = 16
_CODEC_GRAPH_FRAMES = 4 * 84  # rows by frames of the largest decode of a stream; its memory serves nothing else
_LIBRARY_BYTES = 400 * _MEGABYTE  # cuDNN's kernels, and workspaces of cuBLAS and cuDNN for the threads of both models
_CODEC_BYTES_PER_FRAME = 600_000  # of a decode in fp32; the live tensors alone are 579 kB
_ENCODE_BYTES = 1300 * _MEGABYTE  # of a clip of 30 s; the live tensors alone are 31 MB a second
_LEAST_MARGIN = 256 * _MEGABYTE
_MARGIN_OF_GPU = 0.02  # of its memory, for fragmentation; clips of more than 30 s use it too
_MARGIN_OF_HOST = 0.2  # of its free memory; what a CPU allocates later is small, and it shares the rest with others
_TEXT_BYTES_PER_ENTRY = 40  # of the vocabulary, for one row: fp32 logits, sorted scores, probabilities, masks
_AUDIO_BYTES_PER_ENTRY = 64  # of all codebooks, for one row: fp32 logits, scores, two draws of noise, masks


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of a device. free: beside the weights, which are loaded.  is_gpu: of a GPU; else the host's."""

    total: int
    free: int
    is_gpu: bool


@dataclass(frozen=True)
class Reserve:
    """Bytes that are set aside for what is allocated after the caches, by what allocates it.

    prefill: activations of one chunk.  decode_steps: activations of a step with all slots, and its captured graphs.
    codec: one decode of the most frames, or one clip; and its captured decodes.  libraries: kernels and workspaces of
    CUDA's libraries.
    """

    prefill: int
    decode_steps: int
    codec: int
    libraries: int
    margin: int

    @property
    def total(self) -> int:
        return sum(astuple(self))


@dataclass(frozen=True)
class MemoryPlan:
    """slots, context: what fits.  kv_cache, prefix_cache: their bytes.  memory: what it was planned for."""

    slots: int
    context: int
    kv_cache: int
    prefix_cache: int
    reserve: Reserve
    memory: DeviceMemory

    @property
    def left(self) -> int:
        """Free bytes that nothing is planned for."""
        return self.memory.free - self.kv_cache - self.prefix_cache - self.reserve.total


def plan_memory(
    config: ModelConfig,
    dtype: torch.dtype,
    memory: DeviceMemory,
    slots: NumberOrAuto,
    context: int,
    *,
    with_codec: bool,
) -> MemoryPlan:
    """As many slots of as much context as fit, at most the given ones.

    dtype: of the activations and the KV cache.  slots: "auto" takes `USUAL_SLOTS`, and on a GPU as many more as fit
    with all of the context, up to `MOST_AUTO_SLOTS`.  with_codec: whether an audio codec shares the device.

    Where memory does not reach, the context is shortened down to `SHORT_CONTEXT`, then there are fewer slots, then the
    last slot is shortened to 1024 positions. More free memory never gives fewer slots.
    Raises ModelLoadError when not even that fits.
    """

    def planned(count: int) -> MemoryPlan:
        reserve = reserve_for(config, dtype, memory, count, context, with_codec=with_codec)
        per_position = count * KVCache.nbytes_per_position(config, dtype)
        room = max(memory.free - reserve.total, 0)
        positions = min(int(room / (1 + PREFIX_SHARE)) // per_position, context + 1)  # the dummy position included
        kv_cache = positions * per_position
        return MemoryPlan(count, positions - 1, kv_cache, int(kv_cache * PREFIX_SHARE), reserve, memory)

    if isinstance(slots, int):
        wanted = slots
    else:
        usual = max(min(USUAL_SLOTS, USUAL_SLOTS * EngineConfig.max_context // context), 1)
        beyond = range(MOST_AUTO_SLOTS, USUAL_SLOTS, -_SLOT_STEP) if memory.is_gpu else ()
        candidates = (*beyond, *range(USUAL_SLOTS, usual, -1))
        wanted = next((count for count in candidates if planned(count).context == context), usual)
    for count in range(wanted, 0, -1):
        plan = planned(count)
        if plan.context >= min(context, SHORT_CONTEXT if count > 1 else _LEAST_CONTEXT):
            return plan
    raise ModelLoadError(
        f"Only {memory.free / 1e9:.1f} GB of memory are free beside the weights, and {plan.reserve.total / 1e9:.1f} GB "
        "are needed beside the KV cache, which is too little for one request.",
        hint="Use a larger device or smaller weights, or end what else uses its memory.",
    )


def reserve_for(
    config: ModelConfig, dtype: torch.dtype, memory: DeviceMemory, slots: int, context: int, *, with_codec: bool
) -> Reserve:
    """What has to stay free beside the caches. On the host it is a share of what is free."""
    if not memory.is_gpu:
        return Reserve(0, 0, 0, 0, int(memory.free * _MARGIN_OF_HOST))
    codec = max(MAX_DECODE_FRAMES * _CODEC_BYTES_PER_FRAME, _ENCODE_BYTES)  # its thread does one at a time
    codec += _CODEC_GRAPH_FRAMES * _CODEC_BYTES_PER_FRAME + _CODEC_GRAPHS * _BYTES_PER_GRAPH
    return Reserve(
        prefill=prefill_nbytes(config, dtype, slots, context),
        # Once for the captured steps, which have a pool of their own, and once for those that run uncaptured.
        decode_steps=2 * decode_step_nbytes(config, dtype, slots) + _STEP_GRAPHS * _BYTES_PER_GRAPH,
        codec=codec if with_codec else 0,
        libraries=_LIBRARY_BYTES,
        margin=max(int(memory.total * _MARGIN_OF_GPU), _LEAST_MARGIN),
    )


def prefill_nbytes(config: ModelConfig, dtype: torch.dtype, slots: int, context: int) -> int:
    """Peak of the activations of a prefill chunk and of the text logits of a text step. An upper bound."""
    length = PREFILL_CHUNK + 1  # N, with the synthetic column
    group = config.num_heads // config.num_kv_heads
    residuals = 5 * config.hidden_size  # [N, H]: the residual, normed, gathered and scattered rows, and the output
    mlp = 4 * config.intermediate_size  # [N, 2 I], and SwiGLU's factor and product
    attention = 3 * config.qkv_size  # [N, (Hq + 2 Hkv) D] before RoPE, its terms and the result
    mask = group * context * (1 + 1 / dtype.itemsize)  # [G N, C] as bool and as what is added to the scores
    activations = int(length * (residuals + mlp + attention + mask) * dtype.itemsize)
    # No fused kernel takes fp32 queries in groups, so there are scores [Hq, N, N], masked scores and probabilities.
    scores = 3 * config.num_heads * length**2 * dtype.itemsize if dtype.itemsize > 2 else 0
    return activations + scores + min(slots, TEXT_LANES) * config.vocab_size * _TEXT_BYTES_PER_ENTRY


def decode_step_nbytes(config: ModelConfig, dtype: torch.dtype, slots: int) -> int:
    """Peak of the activations of a decode step with every slot. An upper bound."""
    layer = 5 * config.hidden_size + 4 * config.intermediate_size + 3 * config.qkv_size
    entries = config.num_codebooks * config.codebook_size
    return slots * (layer * dtype.itemsize + entries * _AUDIO_BYTES_PER_ENTRY)
