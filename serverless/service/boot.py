"""Loads the engine and checks that it speaks."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import numpy as np

from higgs_core.errors import ModelLoadError
from higgs_core.stage_times import StageTimes, process_age

if TYPE_CHECKING:
    from higgs_core.engine import HiggsAudioEngine
    from serverless.config.settings import Settings

logger = logging.getLogger(__name__)

# The service bounds the jobs; a job of several pieces may have several of them waiting.
WAITING_PIECES_PER_JOB = 4
SMOKE_TEST_TEXT = "The quick brown fox jumps over the lazy dog."
SMOKE_TEST_TOKENS = 75  # about 2.5 seconds: past the silence that speech may start with
SILENCE = 1e-4


def boot_engine(settings: Settings) -> HiggsAudioEngine:
    """Load the checkpoint, warm up, and synthesise once. Blocking; seconds to minutes.

    Raises ModelLoadError, also when the smoke test is silent or not finite, and what `load_parts` raises.
    """
    times = StageTimes()
    if (age := process_age()) is not None:
        times.add("entry_point", age)
    with times.stage("imports"):
        from higgs_core.build import load_parts
        from higgs_core.engine import HiggsAudioEngine

    config = settings.engine_config(progress=sys.stderr.isatty())
    parts = load_parts(config, times)
    jobs = parts.slots.count + settings.max_queued_requests  # how many slots there are is known only now
    engine = HiggsAudioEngine(parts, max_waiting=WAITING_PIECES_PER_JOB * jobs, hang_seconds=config.hang_seconds)
    try:
        engine.warm_up(times)
        if engine.built_in is None or not engine.built_in.random_weights:
            with times.stage("smoke_test"):
                smoke_test(engine)
    except BaseException:
        engine.close()
        raise
    logger.info("engine ready: slots=%d context=%d", engine.max_batch_size, engine.max_context)
    logger.info("seconds of the start: %s", times.line())
    return engine


def smoke_test(engine: HiggsAudioEngine) -> None:
    """Speak one sentence and look at the samples. Raises ModelLoadError unless they could be speech."""
    from higgs_core.params import GenerationParams
    from higgs_core.prompt.chatml import ChatMLSample, Message

    sample = ChatMLSample([Message("user", SMOKE_TEST_TEXT)])
    audio = engine.generate(sample, GenerationParams(max_new_tokens=SMOKE_TEST_TOKENS, seed=0)).audio
    if audio is None:
        raise ModelLoadError(
            "The engine has no audio tokenizer, so it could only return codes.",
            hint="Set HIGGS_AUDIO_AUDIO_TOKENIZER_ID to the codec's hub id or folder.",
        )
    if not np.isfinite(audio).all():
        raise ModelLoadError(
            "The loaded model produces samples that are not numbers.",
            hint="Check the checkpoint files, or set HIGGS_AUDIO_TORCH_DTYPE to bf16 or fp32.",
        )
    if audio.size == 0 or float(np.abs(audio).max()) < SILENCE:
        raise ModelLoadError(
            "The loaded model produces silence.",
            hint="Check that model and audio tokenizer belong together and that their files are complete.",
        )
