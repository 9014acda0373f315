"""Loads the checkpoints of an engine and builds what it runs on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from higgs_core.built_in import BUILT_IN, BuiltIn
from higgs_core.checkpoint.built_in_files import built_in_folders
from higgs_core.checkpoint.identity import CheckpointIdentity, folder_digest
from higgs_core.checkpoint.load import load_model
from higgs_core.checkpoint.locate import locate
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.config import ModelConfig
from higgs_core.engine_config import AUTO, DTYPES, EngineConfig, NumberOrAuto
from higgs_core.errors import ModelLoadError
from higgs_core.failures.watchdog import Heartbeat
from higgs_core.host.cpu_threads import keep_to_quota
from higgs_core.kernels import ops_for
from higgs_core.kernels.linear.quantized_weight import FP8, VALUE_DTYPES
from higgs_core.kernels.linear.weight_tiles import FP8_MIN_CAPABILITY
from higgs_core.memory_plan import PREFIX_SHARE
from higgs_core.model.decoder import Decoder
from higgs_core.model.weights import DecoderWeights
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.runtime.decode_graph import StepRunner, capturer_for
from higgs_core.runtime.decode_step import DecodeStep
from higgs_core.runtime.device_work import DeviceWork
from higgs_core.runtime.postprocess import Postprocess
from higgs_core.runtime.prefill import Prefill
from higgs_core.runtime.prefix_cache import PrefixCache
from higgs_core.runtime.slots import Slots
from higgs_core.runtime.step_output import StepOutputs
from higgs_core.runtime.text_step import TextStep
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import TextSampler
from higgs_core.sampling.text_state import TextState, TextStepTail
from higgs_core.sized_cache import memory_for_weights, sized_cache
from higgs_core.stage_times import StageTimes

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A checkpoint in memory. codec: None when only codes are wanted.  built_in: which one it is, if it is one.

    identity: tells it from other checkpoints; blank for one that does not come from files.
    """

    config: ModelConfig
    weights: DecoderWeights
    tokenizer: HiggsTokenizer
    codec: AudioCodec | None
    built_in: BuiltIn | None = None
    identity: CheckpointIdentity = field(default_factory=CheckpointIdentity)


@dataclass(frozen=True, eq=False)
class EngineParts:
    """Everything that an engine runs on. codec: None when only codes are wanted.  built_in: as in LoadedModel.

    heartbeat: of the thread that will run the steps.
    """

    config: ModelConfig
    weights: DecoderWeights
    tokenizer: HiggsTokenizer
    decoder: Decoder
    state: DecodeState
    runner: StepRunner
    prefixes: PrefixCache
    slots: Slots
    decode_step: DecodeStep
    work: DeviceWork
    postprocess: Postprocess
    heartbeat: Heartbeat
    codec: AudioCodec | None
    device: torch.device
    built_in: BuiltIn | None
    identity: CheckpointIdentity


@dataclass(frozen=True)
class _Folders:
    """Where the files of an engine lie. codec: None without one."""

    model: Path
    tokenizer: Path
    codec: Path | None


def load_parts(config: EngineConfig, times: StageTimes | None = None) -> EngineParts:
    """Load everything. times: gets the seconds of each stage. Raises ModelLoadError."""
    times = times or StageTimes()
    keep_to_quota()
    with times.stage("device"):
        device = _device(config.device)  # refused before anything is downloaded
        kind = _kind(config.weights, device)
    with ExitStack() as stack:
        with times.stage("files"):
            folders = stack.enter_context(_folders(config))
        stack.enter_context(memory_for_weights(device))
        model = _load(config, folders, device, kind, times)
    return build_parts(model, config.max_batch_size, config.max_context, kernels=config.kernels, times=times)


@contextmanager
def _folders(config: EngineConfig) -> Iterator[_Folders]:
    """Find or download the checkpoints. The files of a built-in one last as long as the block."""
    built_in = BUILT_IN.get(config.model)
    if built_in is not None:
        with built_in_folders(built_in) as (model, own_codec):
            log.warning("%s", built_in.description)
            yield _Folders(model, model, _codec_folder(config) or own_codec)
    elif config.tokenizer is None or config.tokenizer == config.model:
        model = locate(config.model, config.revision, also=("tokenizer.json",))
        yield _Folders(model, model, _codec_folder(config))
    else:
        model, tokenizer = locate(config.model, config.revision), locate(config.tokenizer, what="tokenizer")
        yield _Folders(model, tokenizer, _codec_folder(config))


def _codec_folder(config: EngineConfig) -> Path | None:
    """Raises ModelLoadError. None: no codec is named, or a built-in checkpoint's own."""
    if config.audio_tokenizer is None or (config.audio_tokenizer == config.model and config.model in BUILT_IN):
        return None
    return locate(config.audio_tokenizer, config.audio_tokenizer_revision, what="audio tokenizer")


def _load(
    config: EngineConfig, folders: _Folders, device: torch.device, kind: str | None, times: StageTimes
) -> LoadedModel:
    built_in = BUILT_IN.get(config.model)
    show_progress = config.progress and built_in is None  # those load at once
    with times.stage("tokenizer"):
        tokenizer = HiggsTokenizer.from_folder(str(folders.tokenizer))
    with times.stage("weights"):
        dtype = _dtype(config.dtype)
        model_config, weights = load_model(folders.model, device, dtype, kind=kind, progress=show_progress)
    codec = None
    if folders.codec is not None:
        with times.stage("codec"):
            codec = AudioCodec.from_folder(folders.codec, device, kernels=config.kernels)
    identity = CheckpointIdentity(folder_digest(folders.model), folder_digest(folders.codec))
    return LoadedModel(model_config, weights, tokenizer, codec, built_in, identity)


def build_parts(
    model: LoadedModel,
    max_batch_size: NumberOrAuto,
    max_context: int,
    *,
    kernels: bool = EngineConfig.kernels,
    times: StageTimes | None = None,
) -> EngineParts:
    """An engine's parts around a model that is in memory already; everything goes where its weights lie.

    max_batch_size, max_context: as in EngineConfig. times: gets the seconds that kernels and caches took. Raises
    ModelLoadError when the parts do not fit each other or the device.
    """
    times = times or StageTimes()
    config, weights, codec = model.config, model.weights, model.codec
    if codec is not None and codec.num_codebooks != config.num_codebooks:
        raise ModelLoadError(
            f"The audio tokenizer has {codec.num_codebooks} codebooks and the model speaks {config.num_codebooks}."
        )
    device, dtype = weights.norm.device, weights.norm.dtype
    if device.type == "cuda":
        # cuDNN's attention, which torch prefers on Hopper, compiles itself anew for every length of a prompt.
        torch.backends.cuda.enable_cudnn_sdp(False)
    kind = None if weights.kind is None else VALUE_DTYPES[weights.kind]
    with times.stage("kernels"):  # before memory is planned: this loads kernels and libraries
        ops = ops_for(config, device, dtype, kind, kernels=kernels)
    with times.stage("memory"):
        cache = sized_cache(config, weights, max_batch_size, max_context, with_codec=codec is not None)
    count, context = cache.slots, cache.context
    decoder = Decoder(config, weights, cache, ops)
    state = DecodeState.allocate(config, count, cache.dummy_position, device)
    sample = ops.sampler(config.num_codebooks, config.codebook_size, device)
    step_tail = ops.step_tail(config, sample, device)
    control = model.tokenizer.control
    text = TextState.allocate(count, cache.dummy_position, device)
    sample_text = TextSampler(config.vocab_size, (control.audio_in, control.audio_out), device)
    text_tail = TextStepTail(sample_text, (*config.eos_token_ids, control.audio_out_bos), device)
    runner = StepRunner(decoder, state, step_tail, text, text_tail, capturer_for(device))
    per_slot = cache.nbytes_per_slot_position * context
    prefixes = PrefixCache(int(per_slot * count * PREFIX_SHARE))
    slots, outputs, heartbeat = Slots(state, text, cache), StepOutputs(device), Heartbeat()
    postprocess = Postprocess(decoder, model.tokenizer, slots, outputs, heartbeat)
    prefill = Prefill(decoder, slots, prefixes, postprocess)
    text_step = TextStep(slots, text, runner, outputs)
    decode_step = DecodeStep(config, slots, state, runner, outputs)
    work = DeviceWork(slots, prefixes, prefill, text_step, decode_step, heartbeat)
    log.info(
        "Ready on %s: %d slots of %d positions (%.2f GB of KV cache)", device, count, context, per_slot * count / 1e9
    )
    return EngineParts(
        config=config,
        weights=weights,
        tokenizer=model.tokenizer,
        decoder=decoder,
        state=state,
        runner=runner,
        prefixes=prefixes,
        slots=slots,
        decode_step=decode_step,
        work=work,
        postprocess=postprocess,
        heartbeat=heartbeat,
        codec=codec,
        device=device,
        built_in=model.built_in,
        identity=model.identity,
    )


def _device(device: str | torch.device) -> torch.device:
    if device == AUTO:
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
    """None: the checkpoint's own."""
    if dtype == AUTO:
        return None
    if isinstance(dtype, torch.dtype):
        return dtype
    found: torch.dtype = getattr(torch, DTYPES[dtype])
    return found


def _kind(weights: str, device: torch.device) -> str | None:
    """How the layers' matrices are quantised; None: not at all. Raises ModelLoadError where the GPU cannot."""
    if (
        weights == FP8
        and device.type == "cuda"
        and torch.cuda.get_device_capability(device) < divmod(FP8_MIN_CAPABILITY, 10)
    ):
        raise ModelLoadError(
            f"weights is 'fp8', and {torch.cuda.get_device_name(device)} is older than compute capability 8.9, from "
            "which on a GPU reads fp8; use 'int8'."
        )
    return None if weights == AUTO else weights
