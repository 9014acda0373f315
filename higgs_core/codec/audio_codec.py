"""The audio codec: reference clips to codes, codes to audio. transformers' model in fp32, checked when it is loaded."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import HiggsAudioV2TokenizerConfig
from transformers.utils import logging as transformers_logging

from higgs_core.codec.pieces import pieces
from higgs_core.codec.snake import install_snake
from higgs_core.codec.transformers_codec import HiggsAudioV2TokenizerModel
from higgs_core.errors import ModelLoadError, RequestError
from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.rates import FRAME_SAMPLES, FRAMES_PER_SECOND, SAMPLING_RATE
from higgs_core.repositories import CODEC

log = logging.getLogger(__name__)

MAX_DECODE_FRAMES = 1000
"""Frames decoded at once, over all rows of a batch: 40 s of audio, which take some 0.6 GB of a GPU."""

_LEAST_DECODE_FRAMES = 60
"""Less than this is not tried when memory is short: a third of such a piece is context already."""

_USUAL_CLIP_SECONDS = 30
_LANGUAGE_MODEL_CODES = 1024


class AudioCodec:
    """Q codebooks, T frames of 960 samples, N samples at 24 kHz. Safe to call from any thread."""

    def __init__(self, model: Any, *, cache_bytes: int = 32 << 20, kernels: bool = True) -> None:
        """cache_bytes: of codes of clips.  kernels: whether a GPU may run Triton kernels."""
        self._model = model.eval().float()
        self._device = next(model.parameters()).device
        install_snake(self._model, self._device, kernels=kernels)
        self._codes: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self.num_codebooks: int = model.config.num_quantizers
        self.codebook_size: int = model.config.codebook_size
        self.cache_hits = 0
        self.cache_misses = 0

    @classmethod
    def from_folder(cls, folder: Path, device: torch.device, *, kernels: bool = True) -> AudioCodec:
        """Load a codec in transformers' format. kernels: as above.

        Raises ModelLoadError unless its rates are those of `higgs_core.rates`, its codebooks have the language model's
        size, and every tensor of the model is there.
        """
        started = time.perf_counter()
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise ModelLoadError(
                f"The audio tokenizer is not in transformers' format (config.json and model.safetensors); use {CODEC} "
                "at its default revision, or a folder saved from it."
            )
        torch.backends.cudnn.allow_tf32 = False  # convolutions in fp32 proper, or streamed chunks would not be exact
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # missing tensors are reported as an error below
        transformers_logging.disable_progress_bar()
        try:
            config = HiggsAudioV2TokenizerConfig.from_pretrained(folder, local_files_only=True)
            _check(config)
            loaded: Any = HiggsAudioV2TokenizerModel.from_pretrained(
                folder, config=config, output_loading_info=True, dtype=torch.float32, local_files_only=True
            )
            model, report = loaded
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelLoadError(f"The audio tokenizer cannot be read ({type(error).__name__}).") from error
        finally:
            transformers_logging.set_verbosity(verbosity)
            transformers_logging.enable_progress_bar()
        absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
        if absent:
            raise ModelLoadError(
                f"The audio tokenizer lacks {len(absent)} of its tensors ({', '.join(absent[:6])}"
                f"{', …' if len(absent) > 6 else ''}): it holds another model's weights. Use {CODEC} at its default "
                "revision."
            )
        log.info("Loaded the audio codec on %s in %.2f s", device, time.perf_counter() - started)
        return cls(model.to(device), kernels=kernels)

    @torch.inference_mode()
    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        """Codes of one mono clip, float32 [N], as int64 [Q, T] on the host, T = N // 960.

        The clip is cut to a whole number of frames: on other lengths the known encoders pad differently. Results are
        kept by content. Raises RequestError when the clip is shorter than one frame or not one-dimensional.

        A clip is encoded whole and alone: its semantic half normalises and attends over all of it, so pieces would have
        other codes.
        Peak memory is some 42 MB for each second of the clip, 1.3 GB for 30 s.
        """
        samples = np.ascontiguousarray(waveform, dtype=np.float32)
        if samples.ndim != 1 or samples.shape[0] < FRAME_SAMPLES:
            raise RequestError(
                f"A reference waveform has shape {list(samples.shape)}; allowed is one dimension of at least "
                f"{FRAME_SAMPLES} samples."
            )
        samples = samples[: samples.shape[0] // FRAME_SAMPLES * FRAME_SAMPLES]
        key = hashlib.sha256(samples.tobytes()).digest()
        with self._lock:
            known = self._codes.get(key)
            if known is not None:
                self._codes.move_to_end(key)
                self.cache_hits += 1
                return known
            self.cache_misses += 1
        clip = torch.tensor(samples, device=self._device)  # a copy: the samples may be read-only
        codes = self.encode_on_device(clip).cpu()
        with self._lock:
            self._codes[key] = codes
            while sum(c.numel() * c.element_size() for c in self._codes.values()) > self._cache_bytes:
                self._codes.popitem(last=False)
        return codes

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes int64 [B, Q, T], every entry a codec code, to audio float32 [B, T * 960] on the host.

        What is more than MAX_DECODE_FRAMES in all is decoded a few rows at a time, and a longer row in pieces, each
        with real frames around it: that bounds memory and changes no sample. A single row that does not fit into
        memory is tried again in smaller pieces.
        """
        rows, _, frames = codes.shape
        at_most = MAX_DECODE_FRAMES
        while True:
            try:
                return self._decode_bounded(codes, at_most)
            except RuntimeError as error:
                smaller = min(at_most, frames) // 2
                if rows > 1 or smaller < _LEAST_DECODE_FRAMES or not is_out_of_memory(error):
                    raise
            # Here, and not in the handler, the failed call's tensors are free.
            free_cached_memory()
            at_most = smaller

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Decode and encode as much at once as is usual: loads the kernels and sets the memory aside. For a GPU."""
        self.decode(torch.zeros(1, self.num_codebooks, MAX_DECODE_FRAMES, dtype=torch.int64))
        self.encode_on_device(torch.zeros(_USUAL_CLIP_SECONDS * SAMPLING_RATE, device=self._device)).cpu()

    def encode_on_device(self, samples: torch.Tensor) -> torch.Tensor:
        """float32 [N], whole frames, to codes int64 [Q, N // 960], both on the codec's device."""
        codes: torch.Tensor = self._model.encode(samples[None, None]).audio_codes[0]
        return codes

    def decode_on_device(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 [B, Q, T] to float32 [B, T * 960], both on the codec's device. Never waits for it."""
        audio: torch.Tensor = self._model.decode(codes).audio_values
        return audio[:, 0]

    def _decode_bounded(self, codes: torch.Tensor, at_most: int) -> torch.Tensor:
        frames = codes.shape[-1]
        audio = torch.empty(codes.shape[0], frames * FRAME_SAMPLES)
        together = max(at_most // max(frames, 1), 1)
        for first in range(0, codes.shape[0], together):
            rows = slice(first, first + together)
            for piece in pieces(frames, at_most):
                decoded = self.decode_on_device(codes[rows, :, piece.left : piece.right].to(self._device))
                audio[rows, piece.start * FRAME_SAMPLES : piece.stop * FRAME_SAMPLES] = to_host(decoded)[
                    :, piece.samples
                ]
        return audio


def free_cached_memory() -> None:
    """Give memory that torch keeps for later back to the driver, where CUDA's libraries find it."""
    with contextlib.suppress(RuntimeError):  # torch refuses while another thread captures a graph
        torch.cuda.empty_cache()


def to_host(audio: torch.Tensor) -> torch.Tensor:
    """A tensor of the device on the host, once the current stream has computed it; other streams are not waited for.

    Through pinned memory, which torch keeps for the next time: a copy to other memory would wait inside the driver,
    where it may hold up another thread's launches.
    """
    if audio.device.type != "cuda":
        return audio
    pinned = torch.empty(audio.shape, dtype=audio.dtype, pin_memory=True)
    pinned.copy_(audio, non_blocking=True)
    torch.cuda.current_stream(audio.device).synchronize()
    return pinned


def _check(config: HiggsAudioV2TokenizerConfig) -> None:
    """Raises ModelLoadError for a codec that speaks another rate or other codes than the language model."""
    rates = (config.sample_rate, config.hop_length, config.frame_rate)
    if rates != (SAMPLING_RATE, FRAME_SAMPLES, FRAMES_PER_SECOND):
        raise ModelLoadError(
            f"The audio tokenizer has {rates[0]} samples and {rates[2]} frames of {rates[1]} samples a second; the "
            f"model needs {SAMPLING_RATE} samples and {FRAMES_PER_SECOND} frames of {FRAME_SAMPLES} samples."
        )
    if config.codebook_size != _LANGUAGE_MODEL_CODES:
        raise ModelLoadError(f"The audio tokenizer has {config.codebook_size} codes; the model speaks 1024.")
