"""Generations that have ended, as results: their codes decoded, handed to whoever waits."""

from __future__ import annotations

import time
from concurrent.futures import Future

import numpy as np

from higgs_core.codec.worker import CodecWorker
from higgs_core.errors import EngineStoppedError
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.rates import SAMPLING_RATE
from higgs_core.runtime.generation import Generation, GenerationResult
from higgs_core.runtime.handles import GenerationFuture


class Results:
    """Makes the results of generations. Safe to use from any thread.

    codec: None leaves the codes undecoded.  codes_per_codebook: real codes; the stream tokens come after them.
    """

    def __init__(self, codec: CodecWorker | None, tokenizer: HiggsTokenizer, codes_per_codebook: int) -> None:
        self._codec = codec
        self._tokenizer = tokenizer
        self._codes_per_codebook = codes_per_codebook

    def deliver(self, generation: Generation, future: GenerationFuture) -> None:
        """Of a generation that has ended: have the codec decode its segments, then resolve the future.

        A future's callback raises into a log at best, so whatever fails is told to whoever waits.
        """
        try:
            self._decode_and_settle(generation, future)
        except Exception as error:
            future.fail(error)
        except BaseException:
            future.fail(EngineStoppedError("The engine's thread was ended; this worker is being replaced."))
            raise

    def _decode_and_settle(self, generation: Generation, future: GenerationFuture) -> None:
        error = generation.finished.exception()
        if error is not None:
            future.fail(error)
            return
        if self._codec is None:
            future.settle(lambda: self.result(generation, None, 0.0, None))
            return
        started = time.perf_counter()
        audio = self._codec.decode_joined([segment.codes(self._codes_per_codebook) for segment in generation.segments])

        def decoded(done: Future[np.ndarray]) -> None:
            now = time.perf_counter()
            future.settle(lambda: self.result(generation, done.result(), now - started, now))

        audio.add_done_callback(decoded)

    def result(
        self, generation: Generation, audio: np.ndarray | None, codec_seconds: float, first_audio: float | None
    ) -> GenerationResult:
        """audio: float32 [N] or None.  codec_seconds: that decoding took.  first_audio: when it was there, by
        time.perf_counter; None where there is no audio."""
        assert generation.finish_reason is not None
        return GenerationResult(
            audio=audio,
            sampling_rate=SAMPLING_RATE,
            audio_codes=[segment.codes(self._codes_per_codebook) for segment in generation.segments],
            delayed_audio_columns=[segment.delayed() for segment in generation.segments],
            text=self._tokenizer.decode(generation.text_token_ids),
            text_token_ids=list(generation.text_token_ids),
            prompt_token_ids=list(generation.prompt.token_ids),
            usage=generation.usage(),
            finish_reason=generation.finish_reason,
            seed=generation.seed,
            timings=generation.timeline.seconds(codec_seconds, first_audio),
        )
