"""Puts an engine's parts together: finds and loads the checkpoints, sizes slots from free memory, builds the loop."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from higgs_core.checkpoint.load import load_model
from higgs_core.checkpoint.locate import locate
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.config import ModelConfig
from higgs_core.errors import ModelLoadError
from higgs_core.kernels import ops_for
from higgs_core.model.decoder import Decoder
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.weights import DecoderWeights
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.runtime.decode_graph import StepRunner
from higgs_core.runtime.decode_loop import DecodeLoop
from higgs_core.runtime.prefix_cache import PrefixCache
from higgs_core.sampling.decode_state import DecodeState

log = logging.getLogger(__name__)

TINY = "tiny"
DTYPES = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "fp16": torch.float16,
    "float16": torch.float16,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
}
_SHARE_OF_FREE_MEMORY = 0.8  # the rest: activations of prefill, the codec's work, the allocator's slack
_PREFIX_SHARE = 0.1  # of the KV cache's bytes, for prefixes that come again


@dataclass(frozen=True, eq=False)
class Assembled:
    """Everything that an engine runs on. codec is None when only codes are wanted."""

    config: ModelConfig
    weights: DecoderWeights
    tokenizer: HiggsTokenizer
    decoder: Decoder
    loop: DecodeLoop
    runner: StepRunner
    prefixes: PrefixCache
    codec: AudioCodec | None
    device: torch.device
    name: str
    random_weights: bool


def assemble(
    model: str,
    audio_tokenizer: str | None,
    tokenizer: str | None,
    revision: str | None,
    audio_tokenizer_revision: str | None,
    device: str | torch.device,
    dtype: str | torch.dtype,
    max_batch_size: int,
    max_context: int,
    *,
    progress: bool,
) -> Assembled:
    """Load everything. Raises ModelLoadError, also for arguments that cannot work."""
    if max_batch_size < 1 or max_context < 64:
        raise ModelLoadError(
            f"max_batch_size is {max_batch_size} and max_context {max_context}; allowed are at least 1 and at least 64."
        )
    where = _device(device)
    kind = _dtype(dtype)
    if model == TINY:
        with tempfile.TemporaryDirectory(prefix="higgs-tiny-") as scratch:
            folder, codec_folder = write_tiny(Path(scratch))
            log.warning("The checkpoint 'tiny' has random weights: what it speaks is noise")
            codec: Path | None = codec_folder
            if audio_tokenizer is not None and audio_tokenizer != TINY:
                codec = locate(audio_tokenizer, audio_tokenizer_revision, what="audio tokenizer")
            return _load(TINY, folder, codec, folder, where, kind, max_batch_size, max_context, progress=False)
    if tokenizer is None or tokenizer == model:
        folder = texts = locate(model, revision, also=("tokenizer.json",))
    else:
        folder, texts = locate(model, revision), locate(tokenizer, what="tokenizer")
    codec = None
    if audio_tokenizer is not None:
        codec = locate(audio_tokenizer, audio_tokenizer_revision, what="audio tokenizer")
    return _load(model, folder, codec, texts, where, kind, max_batch_size, max_context, progress=progress)


def _load(
    name: str,
    folder: Path,
    codec_folder: Path | None,
    tokenizer_folder: Path,
    device: torch.device,
    dtype: torch.dtype | None,
    slots: int,
    context: int,
    *,
    progress: bool,
) -> Assembled:
    started = time.perf_counter()
    tokenizer = HiggsTokenizer.from_folder(str(tokenizer_folder))
    config, weights = load_model(folder, device, dtype, progress=progress)
    codec = AudioCodec.from_folder(codec_folder, device) if codec_folder is not None else None
    parts = build(name, config, weights, tokenizer, codec, slots, context, random_weights=name == TINY)
    log.info("Everything loaded and in place in %.2f s", time.perf_counter() - started)
    return parts


def build(
    name: str,
    config: ModelConfig,
    weights: DecoderWeights,
    tokenizer: HiggsTokenizer,
    codec: AudioCodec | None,
    slots: int,
    context: int,
    *,
    random_weights: bool = False,
) -> Assembled:
    """An engine's parts around a model that is in memory already; everything goes where its weights lie.

    slots, context: fewer if memory does not reach. Raises ModelLoadError when the parts do not fit each other.
    """
    if codec is not None and codec.num_codebooks != config.num_codebooks:
        raise ModelLoadError(
            f"The audio tokenizer has {codec.num_codebooks} codebooks and the model speaks {config.num_codebooks}."
        )
    device, dtype = weights.norm.device, weights.norm.dtype
    slots, context = size_for_memory(config, dtype, device, slots, context)
    cache = KVCache(config, slots, context, device, dtype)
    if device.type == "cuda":
        # cuDNN's attention, which torch prefers on Hopper, compiles itself anew for every length of a prompt.
        torch.backends.cuda.enable_cudnn_sdp(False)
    ops = ops_for(config, device, dtype)
    decoder = Decoder(config, weights, cache, ops)
    state = DecodeState.allocate(config, slots, cache.scratch, device)
    sample = ops.sampler(config.num_codebooks, config.codebook_size, device)
    advance = ops.advance(config, sample, device)
    runner = StepRunner(decoder, state, advance, capture=device.type == "cuda")
    per_slot = cache.nbytes_per_slot_position * context
    prefixes = PrefixCache(int(per_slot * slots * _PREFIX_SHARE))
    loop = DecodeLoop(decoder, state, advance, runner, tokenizer, prefixes)
    log.info(
        "Ready on %s: %d slots of %d positions (%.2f GB of KV cache)", device, slots, context, per_slot * slots / 1e9
    )
    return Assembled(config, weights, tokenizer, decoder, loop, runner, prefixes, codec, device, name, random_weights)


def size_for_memory(
    config: ModelConfig, dtype: torch.dtype, device: torch.device, slots: int, context: int
) -> tuple[int, int]:
    """As many of the wanted slots as fit what memory is free, then as much of the wanted context.

    Raises ModelLoadError when not even one slot of 1024 positions fits.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_host_memory()
    per_position = KVCache.nbytes_per_position(config, dtype)
    positions = int(free * _SHARE_OF_FREE_MEMORY / (1 + _PREFIX_SHARE)) // per_position
    fitting_slots = min(slots, max(positions // (context + 1), 1))
    fitting_context = min(context, positions // fitting_slots - 1)
    if fitting_context < min(context, 1024):
        raise ModelLoadError(
            f"Only {free / 1e9:.1f} GB of memory are free beside the weights, too little for one request; use a larger "
            "device or a smaller dtype."
        )
    if (fitting_slots, fitting_context) != (slots, context):
        log.warning(
            "Memory for %d slots of %d positions instead of %d of %d (%.1f GB free)",
            fitting_slots,
            fitting_context,
            slots,
            context,
            free / 1e9,
        )
    return fitting_slots, fitting_context


def _free_host_memory() -> int:
    """Bytes that can be had: page cache counts as free, a container's own limit counts too."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not Linux: assume half is taken
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return free
    return min(free, max(limit - used, 0))


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ModelLoadError(f"device is {device!r}; allowed is 'auto', 'cpu', 'cuda' or 'cuda:N'.") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ModelLoadError("device is 'cuda' but torch sees no GPU; check the driver or use device 'cpu'.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ModelLoadError(f"device is {device!r}; torch sees {torch.cuda.device_count()} GPUs, the first is cuda:0.")
    return found


def _dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        raise ModelLoadError(f"dtype is {dtype!r}; allowed is 'auto' or one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]
