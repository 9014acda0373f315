"""`HiggsAudioEngine`: load a checkpoint once, then turn ChatML samples into codes and audio, many at a time."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

import numpy as np
import torch

from higgs_core.build import Assembled, assemble
from higgs_core.codec.clip_encoder import ClipEncoder
from higgs_core.codec.worker import CodecWorker
from higgs_core.errors import GenerationCancelled, HiggsError, PromptTooLongError, RequestError
from higgs_core.params import GenerationParams, draw_seed
from higgs_core.prompt.chatml import ChatMLSample, Message
from higgs_core.prompt.layout import Prompt, build_prompt
from higgs_core.rates import SAMPLING_RATE
from higgs_core.runtime.generation import Generation, GenerationResult, Timeline
from higgs_core.runtime.handles import GenerationFuture
from higgs_core.runtime.scheduler import Scheduler
from higgs_core.runtime.streaming import AudioChunk, AudioStream

__all__ = ["AudioChunk", "AudioStream", "GenerationFuture", "GenerationResult", "HiggsAudioEngine"]

log = logging.getLogger(__name__)

_LEAST_ROOM = 16  # steps that a prompt must leave of the context, unless fewer were asked for


class HiggsAudioEngine:
    """Safe to use from any thread. Make one with `from_pretrained`; end it with `close` or as a `with` block."""

    def __init__(self, parts: Assembled, *, max_waiting: int = 64) -> None:
        self._parts = parts
        self._codec = CodecWorker(parts.codec, parts.device) if parts.codec is not None else None
        self._encode_clip = ClipEncoder(self._codec, parts.config.num_codebooks, self._codes_per_codebook - 1)
        self._scheduler = Scheduler(parts.loop, max_waiting=max_waiting)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        audio_tokenizer: str | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        audio_tokenizer_revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        max_batch_size: int = 8,
        max_context: int = 8192,
        *,
        max_waiting: int = 64,
        progress: bool = False,
    ) -> HiggsAudioEngine:
        """Load a language model and, if named, a codec.

        model: "tiny" (built-in random checkpoint: noise), a folder or a hub id, in Boson's or transformers' format.
        audio_tokenizer: folder or hub id of the codec; without one a real model gives codes only. "tiny" has its own.
        max_batch_size, max_context: slots and positions a slot; fewer if memory does not reach, which the log says.
        max_waiting: requests that may wait for a slot before `submit` raises BusyError.
        progress: show a bar while weights load.
        Raises ModelLoadError.
        """
        parts = assemble(
            str(model),
            None if audio_tokenizer is None else str(audio_tokenizer),
            None if tokenizer is None else str(tokenizer),
            revision,
            audio_tokenizer_revision,
            device,
            dtype,
            max_batch_size,
            max_context,
            progress=progress,
        )
        return cls(parts, max_waiting=max_waiting)

    @property
    def model_name(self) -> str:
        return self._parts.name

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
    def sampling_rate(self) -> int:
        return SAMPLING_RATE

    @property
    def random_weights(self) -> bool:
        """True for "tiny": whatever it speaks is noise."""
        return self._parts.random_weights

    @property
    def healthy(self) -> bool:
        return self._scheduler.healthy and (self._codec is None or self._codec.healthy)

    def stats(self) -> dict[str, int]:
        """Requests waiting and active, slots, and hits and misses of both caches."""
        codec, prefixes = self._parts.codec, self._parts.prefixes
        return {
            "waiting": self._scheduler.waiting,
            "active": self._scheduler.active,
            "slots": self.max_batch_size,
            "cache_hits": codec.cache_hits if codec else 0,
            "cache_misses": codec.cache_misses if codec else 0,
            "prefix_hits": prefixes.hits,
            "prefix_misses": prefixes.misses,
        }

    def count_tokens(self, text: str) -> int:
        """How many positions of the context a text takes. Raises RequestError for text that is not Unicode."""
        return len(self._parts.tokenizer.encode(text))

    def generate(self, sample: ChatMLSample, params: GenerationParams | None = None) -> GenerationResult:
        """Generate and wait. Raises what `submit` raises, and what went wrong on the way."""
        return self.submit(sample, params).result()

    def submit(self, sample: ChatMLSample, params: GenerationParams | None = None) -> GenerationFuture:
        """Queue a generation. Clips are encoded before it returns, so bad ones are refused here.

        Raises RequestError, PromptTooLongError, BusyError, EngineStoppedError.
        """
        future = GenerationFuture()

        def follow(generation: Generation) -> None:
            future.follow(generation, self._scheduler.cancel)

        generation = self._queue(sample, params or GenerationParams(), follow)

        def finished(done: Future[Generation]) -> None:
            error = done.exception()
            if error is not None:
                future.settle(functools.partial(_raise, error))
                return
            self._decode_segments(done.result(), future)

        generation.finished.add_done_callback(finished)
        return future

    def stream(self, sample: ChatMLSample, params: GenerationParams | None = None) -> AudioStream:
        """Generate and iterate over audio as it is spoken; the chunks joined equal `generate`'s audio.

        Raises as `submit` does, and RequestError when the engine has no codec.
        """
        if self._codec is None or self._parts.codec is None:
            raise RequestError("This engine has no audio tokenizer, so it cannot stream audio; load it with one.")
        started: list[Generation] = []
        stream = AudioStream(
            self._codec.decode,
            self._codes_per_codebook,
            self._parts.codec.hop_length,
            cancel=lambda: self._scheduler.cancel(started[0]),
        )

        def hook(generation: Generation) -> None:
            started.append(generation)
            generation.on_columns = stream.on_columns

        generation = self._queue(sample, params or GenerationParams(), hook)

        def finished(done: Future[Generation]) -> None:
            error = done.exception()
            if error is not None:
                stream.on_failed(error)
            else:
                stream.on_finished(done.result(), self._result)

        generation.finished.add_done_callback(finished)
        return stream

    def warm_up(self) -> None:
        """Speak once, so that kernels, graphs and the codec are ready before the first request.

        Raises HiggsError when what comes out is not finite.
        """
        started = time.perf_counter()
        self._scheduler.warm_up()
        sample = ChatMLSample([Message("user", "Ready.")])
        result = self.generate(sample, GenerationParams(max_new_tokens=48, seed=0))
        if result.audio is not None and not np.isfinite(result.audio).all():
            raise HiggsError("The model's first words are not finite numbers; its weights are damaged.")
        log.info("Warmed up in %.2f s", time.perf_counter() - started)

    def close(self) -> None:
        """Stop both threads. Generations under way end in EngineStoppedError."""
        self._scheduler.close()
        if self._codec is not None:
            self._codec.close()

    def __enter__(self) -> HiggsAudioEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _codes_per_codebook(self) -> int:
        return self._parts.config.stream_bos  # real codes come before the two stream tokens

    def _queue(
        self, sample: ChatMLSample, params: GenerationParams, before: Callable[[Generation], None]
    ) -> Generation:
        """Build the prompt and hand it to the scheduler; `before` sees the generation first."""
        timeline = Timeline()
        self._scheduler.reserve()
        try:
            prompt = self._prompt(sample, params, timeline)
            seed = draw_seed() if params.seed is None else params.seed
            generation = Generation(prompt, params, seed, Future(), timeline)
            before(generation)
        except BaseException:
            self._scheduler.release()
            raise
        self._scheduler.submit(generation)
        return generation

    def _prompt(self, sample: ChatMLSample, params: GenerationParams, timeline: Timeline) -> Prompt:
        parts = self._parts
        if not params.force_audio_gen and parts.weights.text_head is None:
            raise RequestError(
                "force_audio_gen is false, but this checkpoint has no text head; allowed is true.",
                field="force_audio_gen",
            )
        started = time.perf_counter()
        prompt = build_prompt(
            sample, parts.tokenizer, parts.config, self._encode_clip, force_audio=params.force_audio_gen
        )
        timeline.reference = time.perf_counter() - started
        if self.max_context - prompt.length < min(_LEAST_ROOM, params.max_new_tokens):
            raise PromptTooLongError(
                f"The prompt takes {prompt.length} positions and the context has {self.max_context}; shorten the text "
                "or use fewer or shorter references (25 positions a second)."
            )
        return prompt

    def _decode_segments(self, generation: Generation, future: GenerationFuture) -> None:
        """Audio of a finished generation, by the codec's thread; then the result."""
        if self._codec is None:
            future.settle(lambda: self._result(generation, None, 0.0))
            return
        started = time.perf_counter()
        try:
            audio = self._codec.decode_joined(
                [segment.codes(self._codes_per_codebook) for segment in generation.segments]
            )
        except HiggsError as stopped:
            future.settle(functools.partial(_raise, stopped))
            return
        audio.add_done_callback(
            lambda done: future.settle(lambda: self._result(generation, done.result(), time.perf_counter() - started))
        )

    def _result(self, generation: Generation, audio: np.ndarray | None, codec_seconds: float) -> GenerationResult:
        assert generation.finish_reason is not None
        return GenerationResult(
            audio=audio,
            sampling_rate=SAMPLING_RATE,
            audio_codes=[segment.codes(self._codes_per_codebook) for segment in generation.segments],
            delayed_audio_columns=[segment.delayed() for segment in generation.segments],
            text=self._parts.tokenizer.decode(generation.text_token_ids),
            text_token_ids=list(generation.text_token_ids),
            prompt_token_ids=list(generation.prompt.token_ids),
            usage=generation.usage(),
            finish_reason=generation.finish_reason,
            seed=generation.seed,
            timings=generation.timeline.seconds(codec_seconds),
        )


def _raise(error: BaseException) -> GenerationResult:
    if isinstance(error, CancelledError):
        raise GenerationCancelled("The request was cancelled.") from error
    raise error
