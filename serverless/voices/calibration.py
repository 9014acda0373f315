"""Speaks a designed voice for the first time; what comes out is its reference from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio import to_pcm16
from higgs_core.audio.silence import SilenceMeter
from higgs_core.errors import NoAudioError
from higgs_core.params import GenerationParams
from higgs_core.speech.request import Speaker, SpeechRequest
from higgs_core.speech.speak import speak
from serverless.config.settings import DEFAULT_SYSTEM_PROMPT

if TYPE_CHECKING:
    from higgs_core.cancellation import CancelToken
    from higgs_core.engine import HiggsAudioEngine
    from higgs_core.speech.voices import VoiceDesign

CALIBRATION_SENTENCE = (
    "The morning air was fresh and clear, and she thought with pleasure of the young boy who played guitar each "
    "evening by the old bridge."
)
"""What a designed voice says: 6 to 10 s of neutral speech with most sounds of English. A change of it is a change of
every designed voice."""

_RETRIES = 2
_STEPS = 1000  # 40 s: far more than the slowest voice takes
_STEPS_OF_NOISE = 50


@dataclass(frozen=True, eq=False)
class Spoken:
    """codes: int16 [8, T].  audio: int16 [N] at 24 kHz, the codes decoded.  warnings: what is wrong with it."""

    codes: NDArray[np.int16]
    audio: NDArray[np.int16]
    warnings: tuple[str, ...] = ()


def speak_design(engine: HiggsAudioEngine, name: str, design: VoiceDesign, cancel: CancelToken) -> Spoken:
    """Let the model say the sentence in a described voice. Blocking.

    Neither the operator's defaults nor a request's fields have a part in it, so a design and a seed are the same voice
    wherever the checkpoint is. It is checked and generated again as the pieces of a request are, with seeds derived
    from its own; the least harmful generation stays. A checkpoint of random weights says two seconds, unchecked: all of
    it is noise.
    Raises NoAudioError where no generation has a sound in it, and what `speak` raises.
    """
    noise = engine.built_in is not None and engine.built_in.random_weights
    request = SpeechRequest(
        script=CALIBRATION_SENTENCE,
        system_prompt=DEFAULT_SYSTEM_PROMPT,
        speakers=(Speaker("SPEAKER0", description=design.description),),
        params=GenerationParams(max_new_tokens=_STEPS_OF_NOISE if noise else _STEPS, seed=design.seed),
        cap_follows_text=not noise,
        chunk_method="none" if noise else "auto",
        retries=0 if noise else _RETRIES,
    )
    try:
        result = speak(engine, request, {}, cancel=cancel)
    except NoAudioError:
        raise _no_sound(name) from None
    meter = SilenceMeter()
    meter.add(result.audio)
    if not meter.sounding_frames:
        raise _no_sound(name)
    warnings: tuple[str, ...] = ()
    if result.faulty_pieces and not noise:
        warnings = (
            f"The voice {name} did not come out well when it was made, and is made again when the worker starts anew; "
            "another seed or description may help.",
        )
    codes = np.concatenate(result.audio_codes, axis=1).astype(np.int16)
    return Spoken(codes, to_pcm16(result.audio), warnings)


def _no_sound(name: str) -> NoAudioError:
    return NoAudioError(
        f"The model made no sound for the voice {name}.", field="voice", hint="Try another seed or description."
    )
