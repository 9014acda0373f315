"""`HiggsAudioEngine`: load a checkpoint once, then turn ChatML samples into codes and audio, many at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from higgs_core.build import EngineParts, load_parts
from higgs_core.built_in import BuiltIn
from higgs_core.checkpoint.identity import CheckpointIdentity
from higgs_core.codec.clip_encoder import ClipEncoder
from higgs_core.codec.worker import CodecWorker
from higgs_core.engine_config import AUTO, EngineConfig, NumberOrAuto, SecondsOrAuto
from higgs_core.errors import EngineStoppedError, HiggsError, RequestError
from higgs_core.failures.failure_latch import FailureLatch
from higgs_core.failures.watchdog import Watchdog
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import AudioContent, ChatMLSample, Message
from higgs_core.rates import SAMPLING_RATE
from higgs_core.runtime.generation import GenerationResult
from higgs_core.runtime.handles import GenerationFuture
from higgs_core.runtime.preparation import Preparation
from higgs_core.runtime.results import Results
from higgs_core.runtime.scheduler import Scheduler
from higgs_core.runtime.streaming import AudioChunk, AudioStream, stream_lengths
from higgs_core.stage_times import StageTimes

__all__ = ["AudioChunk", "AudioStream", "GenerationFuture", "GenerationResult", "HiggsAudioEngine"]

CLOSE_SECONDS = 30.0
"""How long `close` waits for each thread. One that is still in a call then is left behind."""

_HANG_SECONDS = {"cuda": 120.0, "cpu": 3600.0}  # of the slowest machine: a CPU may prefill for minutes


class HiggsAudioEngine:
    """Safe to use from any thread. Made by `from_pretrained` or `from_config`; ended by `close` or a `with` block."""

    def __init__(
        self,
        parts: EngineParts,
        *,
        max_waiting: int = EngineConfig.max_waiting,
        hang_seconds: SecondsOrAuto = EngineConfig.hang_seconds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """max_waiting, hang_seconds: as in EngineConfig.  clock: the watchdog's, in seconds."""
        self._parts = parts
        self._failure = FailureLatch()
        self._codec = CodecWorker(parts.codec, parts.device, self._failure) if parts.codec is not None else None
        self._encode_clip = ClipEncoder(self._codec, parts.config.num_codebooks, self._codes_per_codebook - 1)
        self._preparation = Preparation(
            parts.config,
            parts.tokenizer,
            self._encode_clip,
            max_context=self.max_context,
            writes_text=parts.weights.text_head is not None,
        )
        self._results = Results(self._codec, parts.tokenizer, self._codes_per_codebook)
        self._scheduler = Scheduler(
            parts.slots,
            parts.work,
            parts.postprocess,
            parts.device,
            max_waiting=max_waiting,
            heartbeat=parts.heartbeat,
            failure=self._failure,
        )
        usual = _HANG_SECONDS["cuda" if parts.device.type == "cuda" else "cpu"]
        limit = usual if hang_seconds == AUTO else hang_seconds
        watched = [self._scheduler.watched, *([self._codec.watched] if self._codec is not None else [])]
        self._watchdog = Watchdog(watched, self._failure, limit, clock=clock)
        self._watchdog.start()

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        audio_tokenizer: str | None = EngineConfig.audio_tokenizer,
        tokenizer: str | None = EngineConfig.tokenizer,
        revision: str | None = EngineConfig.revision,
        audio_tokenizer_revision: str | None = EngineConfig.audio_tokenizer_revision,
        device: str | torch.device = EngineConfig.device,
        dtype: str | torch.dtype = EngineConfig.dtype,
        max_batch_size: NumberOrAuto = EngineConfig.max_batch_size,
        max_context: int = EngineConfig.max_context,
        *,
        max_waiting: int = EngineConfig.max_waiting,
        hang_seconds: SecondsOrAuto = EngineConfig.hang_seconds,
        progress: bool = EngineConfig.progress,
        weights: str = EngineConfig.weights,
        kernels: bool = EngineConfig.kernels,
    ) -> HiggsAudioEngine:
        """Load a language model and, if named, a codec; `EngineConfig` says what the arguments mean.

        Raises ModelLoadError.
        """
        return cls.from_config(
            EngineConfig(
                model=str(model),
                audio_tokenizer=None if audio_tokenizer is None else str(audio_tokenizer),
                tokenizer=None if tokenizer is None else str(tokenizer),
                revision=revision,
                audio_tokenizer_revision=audio_tokenizer_revision,
                device=device,
                dtype=dtype,
                max_batch_size=max_batch_size,
                max_context=max_context,
                max_waiting=max_waiting,
                hang_seconds=hang_seconds,
                progress=progress,
                weights=weights,
                kernels=kernels,
            )
        )

    @classmethod
    def from_config(cls, config: EngineConfig) -> HiggsAudioEngine:
        """Load what the config names. Raises ModelLoadError."""
        return cls(load_parts(config), max_waiting=config.max_waiting, hang_seconds=config.hang_seconds)

    @property
    def device(self) -> torch.device:
        return self._parts.device

    @property
    def max_batch_size(self) -> int:
        return self._parts.decoder.cache.slots

    @property
    def max_context(self) -> int:
        return self._parts.decoder.cache.context

    @property
    def max_piece_words(self) -> int:
        """Words of a long text that the checkpoint speaks well in one generation; `higgs_core.speech` cuts by it."""
        return self._parts.config.max_piece_words

    @property
    def sampling_rate(self) -> int:
        """Of every waveform that it takes and gives, in Hz; the chunks of a stream do not say it themselves."""
        return SAMPLING_RATE

    @property
    def built_in(self) -> BuiltIn | None:
        """Which built-in checkpoint it runs, if it runs one; that says what is to be told to whoever listens."""
        return self._parts.built_in

    @property
    def identity(self) -> CheckpointIdentity:
        """Tells its model and its codec from others, so that codes may be kept for a later engine."""
        return self._parts.identity

    @property
    def healthy(self) -> bool:
        return self._scheduler.healthy and (self._codec is None or self._codec.healthy)

    @property
    def failure(self) -> EngineStoppedError | None:
        """What ended the engine for good; None while it works, and when it was closed."""
        return self._failure.error

    def on_failure(self, listener: Callable[[EngineStoppedError], object]) -> None:
        """Call `listener` once when the engine fails for good, from any thread, after its requests were told."""
        self._failure.on_trip(listener)

    def stats(self) -> dict[str, int]:
        """Requests waiting and active, slots, hits and misses of both caches, and the decoder's weights in bytes."""
        codec, prefixes = self._parts.codec, self._parts.prefixes
        return {
            "waiting": self._scheduler.waiting,
            "active": self._scheduler.active,
            "slots": self.max_batch_size,
            "cache_hits": codec.cache_hits if codec else 0,
            "cache_misses": codec.cache_misses if codec else 0,
            "prefix_hits": prefixes.hits,
            "prefix_misses": prefixes.misses,
            "weights_bytes": self._parts.weights.nbytes,
        }

    def count_tokens(self, text: str) -> int:
        """How many positions of the context a text takes. Raises RequestError for text that is not Unicode."""
        return len(self._parts.tokenizer.encode(text))

    def encode(self, clip: AudioContent) -> np.ndarray:
        """A clip's codes, int64 [8, T]; codes themselves are checked. Blocking.

        Raises RequestError for codes of another shape or range, ReferenceAudioError, EngineStoppedError.
        """
        return self._encode_clip(clip).numpy()

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The audio of codes, integers [8, T]: float32 [T * 960]. Blocking.

        Raises RequestError for codes of another shape or range, or without a codec, and EngineStoppedError.
        """
        if self._codec is None:
            raise RequestError("This engine has no audio tokenizer, so it cannot decode codes; load it with one.")
        return self._codec.decode_joined([self.encode(AudioContent(codes=codes))]).result()

    def generate(self, sample: ChatMLSample, params: GenerationParams | None = None) -> GenerationResult:
        """Generate and wait. Raises what `submit` raises, and what went wrong on the way."""
        return self.submit(sample, params).result()

    def submit(self, sample: ChatMLSample, params: GenerationParams | None = None) -> GenerationFuture:
        """Queue a generation. Clips are encoded before it returns, so bad ones are refused here.

        Raises RequestError, PromptTooLongError, BusyError, EngineStoppedError.
        """
        with self._scheduler.reserve() as place:
            generation = self._preparation.prepare(sample, params or GenerationParams())
            future = GenerationFuture(generation, self._scheduler.cancel)
            place.submit(generation)
        generation.finished.add_done_callback(lambda _: self._results.deliver(generation, future))
        return future

    def stream(self, sample: ChatMLSample, params: GenerationParams | None = None) -> AudioStream:
        """Generate and iterate over the audio while it is generated; the chunks joined equal `generate`'s audio.

        Raises as `submit` does, and RequestError when the engine has no codec.
        """
        if self._codec is None:
            raise RequestError("This engine has no audio tokenizer, so it cannot stream audio; load it with one.")
        with self._scheduler.reserve() as place:
            generation = self._preparation.prepare(sample, params or GenerationParams())
            stream = AudioStream(
                generation,
                self._codec.decode,
                self._codes_per_codebook,
                self._scheduler.cancel,
                self._results.result,
                self._codec.captured_lengths,
            )
            generation.on_columns = stream.on_columns
            place.submit(generation)
        generation.finished.add_done_callback(stream.on_finished)
        return stream

    def warm_up(self, times: StageTimes | None = None) -> None:
        """Stream once, so that kernels, graphs and the codec are ready before the first request.

        times: gets the seconds of each part. Raises HiggsError when what comes out is not finite.
        """
        times = times or StageTimes()
        with times.stage("steps"):
            self._scheduler.warm_up()
        if self._codec is not None:
            with times.stage("codec_warm_up"):  # last: what it has set aside would not outlast others' captures
                self._codec.warm_up(stream_lengths())
        sample = ChatMLSample([Message("user", "Ready.")])
        params = GenerationParams(max_new_tokens=48, seed=0)
        with times.stage("first_stream"):
            result = self._streamed(sample, params) if self._codec is not None else self.generate(sample, params)
        if result.audio is not None and not np.isfinite(result.audio).all():
            raise HiggsError("The model's output is not finite; its weights are damaged.")

    def _streamed(self, sample: ChatMLSample, params: GenerationParams) -> GenerationResult:
        """As `generate`, chunk by chunk: the codec meets the lengths that the first listener will ask it for."""
        with self.stream(sample, params) as stream:
            for _ in stream:
                pass
        assert stream.result is not None
        return stream.result

    def close(self) -> bool:
        """Stop the threads. Generations under way end in EngineStoppedError.

        Returns whether all have ended: a thread that hangs in a call is left behind after CLOSE_SECONDS, and only the
        end of the process frees what it uses.
        """
        self._watchdog.close()
        ended = self._scheduler.close(CLOSE_SECONDS)
        return (self._codec is None or self._codec.close(CLOSE_SECONDS)) and ended

    def __enter__(self) -> HiggsAudioEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _codes_per_codebook(self) -> int:
        return self._parts.config.stream_bos  # real codes come before the two stream tokens
