"""A sample and its parameters as a Generation that is ready to be queued."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future

from higgs_core.codec.clip_encoder import ClipEncoder
from higgs_core.config import ModelConfig
from higgs_core.errors import PromptTooLongError, RequestError
from higgs_core.params import GenerationParams, draw_seed
from higgs_core.prompt.chatml import AudioContent, ChatMLSample
from higgs_core.prompt.layout import PromptLayout, lay_out
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.rates import FRAMES_PER_SECOND
from higgs_core.runtime.generation import Generation, Timeline

_MIN_STEPS = 16  # that a prompt must leave room for in the context, unless fewer were asked for


class Preparation:
    """Makes generations of samples. Safe to use from any thread.

    max_context: positions for prompt and speech.  writes_text: the checkpoint has a text head.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: HiggsTokenizer,
        encode_clip: ClipEncoder,
        *,
        max_context: int,
        writes_text: bool,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._encode_clip = encode_clip
        self._max_context = max_context
        self._writes_text = writes_text

    def prepare(self, sample: ChatMLSample, params: GenerationParams) -> Generation:
        """Check that the prompt fits, and build it. Slow: clips are decoded and encoded here.

        Raises RequestError and PromptTooLongError.
        """
        timeline = Timeline()
        if not params.force_audio_gen and not self._writes_text:
            raise RequestError(
                "force_audio_gen is false, but this checkpoint has no text head; allowed is true.",
                field="force_audio_gen",
            )
        started = time.perf_counter()
        layout = lay_out(sample, self._tokenizer, self._config, force_audio=params.force_audio_gen)
        clips = [self._encode_clip.loaded(clip) for clip in layout.clips]
        self._check_length(layout, clips, params)  # first: encoding takes time and the device's memory
        prompt = layout.prompt(map(self._encode_clip, clips))
        timeline.reference = time.perf_counter() - started
        seed = draw_seed() if params.seed is None else params.seed
        return Generation(prompt, params, seed, Future(), timeline)

    def _check_length(self, layout: PromptLayout, clips: Sequence[AudioContent], params: GenerationParams) -> None:
        """Raises PromptTooLongError."""
        frames = [self._encode_clip.frames(clip) for clip in clips]
        text, audio = layout.text_positions, layout.clip_positions(frames)
        if self._max_context - text - audio >= min(_MIN_STEPS, params.max_new_tokens):
            return
        seconds = sum(frames) / FRAMES_PER_SECOND
        raise PromptTooLongError(
            f"The prompt takes {text + audio} positions and the context has {self._max_context}: {text} of text "
            f"and {audio} of clips ({len(clips)} with {seconds:.1f} s, {FRAMES_PER_SECOND} positions a second); "
            "shorten the text or use fewer or shorter references."
        )
