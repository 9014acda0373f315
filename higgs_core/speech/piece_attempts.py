"""The generations of a piece: what is kept of the audio of each, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.silence import SilenceMeter
from higgs_core.errors import ModelLoadError
from higgs_core.rates import FRAME_SAMPLES, FRAMES_PER_SECOND
from higgs_core.speech.piece_faults import Fault, faults_of
from higgs_core.speech.plan import Piece
from higgs_core.text.speech_length import SpeechLength

if TYPE_CHECKING:
    from higgs_core.engine import GenerationResult


@dataclass(frozen=True, eq=False)
class Attempt:
    """A generation of a piece and what became of it.

    audio: float32 [N], and codes: int64 [8, T] a segment of audio, without the silence that was cut.
    silent_seconds: how much silence it ended in.  faults: the worst first.
    """

    result: GenerationResult
    audio: NDArray[np.float32]
    codes: list[NDArray[Any]]
    silent_seconds: float
    faults: tuple[Fault, ...]


@dataclass(frozen=True, eq=False)
class FinishedPiece:
    """A piece that is generated no more. attempts: every generation of it, of which one is kept.

    sent_too_early: it went wrong and would have been generated again, had none of its audio been sent yet.
    """

    piece: Piece
    attempts: tuple[Attempt, ...]
    kept: Attempt
    sent_too_early: bool


def check_generation(result: GenerationResult, length: SpeechLength | None, *, ras: bool, trim: bool) -> Attempt:
    """Look for faults in a generation, and cut the silence at its end.

    length: the frames that the piece's text allows.  ras: repetition-aware sampling was on.
    trim: cut silence that is longer than natural.
    Raises ModelLoadError when the engine generated codes but has no codec to decode them.
    """
    codes = result.audio_codes
    frames = sum(segment.shape[1] for segment in codes)
    if frames and result.audio is None:
        raise ModelLoadError("The engine was loaded without an audio tokenizer, so it cannot make audio of its codes.")
    audio = np.zeros(0, np.float32) if result.audio is None else result.audio
    meter = SilenceMeter()
    meter.add(audio)
    faults = faults_of(
        np.concatenate(codes, axis=1) if codes else np.zeros((0, 0), np.int64),
        sounding_frames=meter.sounding_frames,
        silent_frames=meter.silent_frames,
        cut_off=result.finish_reason == "length",
        length=length,
        ras=ras,
    )
    if trim:
        audio = audio[: meter.kept_samples]
        codes = _cut(codes, -(-meter.kept_samples // FRAME_SAMPLES))
    return Attempt(result, audio, codes, meter.silent_frames / FRAMES_PER_SECOND, faults)


def _cut(segments: list[NDArray[Any]], frames: int) -> list[NDArray[Any]]:
    """The first frames of several segments, those that have none left out."""
    kept = []
    for segment in segments:
        if frames > 0:
            kept.append(segment[:, :frames])
        frames -= segment.shape[1]
    return kept
