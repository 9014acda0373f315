"""One request on its way through the engine: what the host knows of it, and the result made of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

import numpy as np
import torch

from higgs_core.params import GenerationParams
from higgs_core.prompt.delay_pattern import complete_frames
from higgs_core.prompt.layout import Prompt

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, eq=False)
class GenerationResult:
    """What one generation gave. Q codebooks, 25 frames a second, 24 000 samples a second.

    audio: float32 [N], the segments joined; None when the engine has no codec.
    audio_codes: int64 [Q, T] a segment, complete frames only (empty where a segment was too short).
    delayed_audio_columns: int64 [Q, columns] a segment, exactly as generated, the synthetic column first.
    usage: prompt_tokens (a clip counts one), completion_tokens, total_tokens, cached_tokens.
    timings: seconds spent in queue, reference, prefill (with the first step), decode and codec, until first_audio (the
    first that could be heard: a stream's first chunk, else the whole), and in total.
    """

    audio: np.ndarray | None
    sampling_rate: int
    audio_codes: list[np.ndarray]
    delayed_audio_columns: list[np.ndarray]
    text: str
    text_token_ids: list[int]
    prompt_token_ids: list[int]
    usage: dict[str, int]
    finish_reason: FinishReason
    seed: int
    timings: dict[str, float]


@dataclass(eq=False)
class Segment:
    """An audio segment while it is spoken: columns of int64 [Q], the synthetic one first."""

    columns: list[np.ndarray]
    ended: bool = False

    def delayed(self) -> np.ndarray:
        """int64 [Q, columns]."""
        return np.stack(self.columns, axis=1)

    def codes(self, codes_per_codebook: int) -> np.ndarray:
        """int64 [Q, T], complete frames."""
        delayed = torch.from_numpy(self.delayed())
        return complete_frames(delayed, codes_per_codebook, ended=self.ended).numpy()

    @property
    def complete_frames(self) -> int:
        """Frames whose eight codes are there: without the BOS frame and, once the segment ended, the EOS frame."""
        return max(len(self.columns) - len(self.columns[0]) - int(self.ended), 0)

    def frames(self, start: int, stop: int, codes_per_codebook: int) -> np.ndarray:
        """int64 [Q, stop - start], some of the complete frames."""
        behind = len(self.columns[0])  # the BOS frame and a delay of Q - 1
        delayed = torch.from_numpy(np.stack(self.columns[start : stop + behind], axis=1))
        return complete_frames(delayed, codes_per_codebook, ended=False).numpy()


@dataclass(eq=False)
class Timeline:
    """Moments of a request, in seconds of `time.perf_counter`. Written as `Generation` says of its fields."""

    submitted: float = field(default_factory=time.perf_counter)
    reference: float = 0.0  # seconds spent encoding clips
    queued: float | None = None
    admitted: float | None = None
    prefilled: float | None = None
    decoded: float | None = None

    def seconds(self, codec: float, first_audio: float | None) -> dict[str, float]:
        """The durations of `GenerationResult.timings`, up to now.

        codec: seconds spent decoding.  first_audio: when the first audio was decoded; None if there is none.
        """
        now = time.perf_counter()
        admitted = self.admitted or now
        prefilled = self.prefilled or now
        return {
            "queue": max(admitted - (self.queued or admitted), 0.0),
            "reference": self.reference,
            "prefill": prefilled - admitted,
            "first_audio": (first_audio or now) - self.submitted,
            "decode": (self.decoded or now) - prefilled,
            "codec": codec,
            "total": now - self.submitted,
        }


class Status(Enum):
    """Where a request is. It has a slot unless it is WAITING or FINISHED."""

    WAITING = auto()
    PREFILLING = auto()
    """Its prompt is being prefilled."""
    SPEAKING = auto()
    """Decode steps sample the columns of a segment."""
    WRITING = auto()
    """Text steps sample its text tokens, before a segment or after it."""
    OPENING = auto()
    """It speaks from the next decode step on; a text step before it reads `next_text`, if there is one."""
    FINISHED = auto()
    """It ended, was cancelled or failed."""


@dataclass(eq=False)
class Generation:
    """Host state of one request.

    Until the request is queued only the thread that builds it writes its fields; afterwards only the engine's thread
    does. `prompt`, `params`, `seed` and `on_columns` never change once it is queued.
    Any thread may read `columns_generated` at any time, and everything when `finished` is done. To cancel a request,
    ask the scheduler.

    finished: resolved with this object, or with the error that ended it.
    on_columns: called by the engine's thread after each column.
    position: cache positions filled, as far as the outcome of steps is known.
    step: steps taken, as far as their outcome is known; keys the noise.  launched: those enqueued too.  step_limit:
    how many the request may take. Only these count its steps: the device runs whatever is launched.
    next_text: the text id that its next text step has to be told to read; None once the device goes on by itself.
    """

    prompt: Prompt
    params: GenerationParams
    seed: int
    finished: Future[Generation]
    timeline: Timeline
    on_columns: Callable[[], None] | None = None
    status: Status = Status.WAITING
    slot: int = -1  # its row, while it has one
    position: int = 0
    step: int = 0
    launched: int = 0
    step_limit: int = 0
    cached_positions: int = 0
    next_text: int | None = None
    segments: list[Segment] = field(default_factory=list)
    text_token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def columns_generated(self) -> int:
        return sum(len(segment.columns) for segment in self.segments)

    @property
    def next_position(self) -> int:
        """Where the input of the next step goes; a row that has ended meanwhile stays at a lower one."""
        return self.position + self.launched - self.step

    @property
    def may_launch(self) -> bool:
        """Whether a step is left that was not launched yet."""
        return self.launched < self.step_limit

    @property
    def reads_text(self) -> bool:
        """Whether a text step has something to read for it."""
        if self.status is Status.WRITING:
            return self.may_launch
        return self.status is Status.OPENING and self.next_text is not None

    @property
    def out_of_steps(self) -> bool:
        """Whether every step was taken."""
        return self.step >= self.step_limit

    def begin_segment(self, stream_bos: int, audio_out: int) -> None:
        """AUDIO_INIT: a step that writes the placeholder and the synthetic column and samples nothing."""
        num_codebooks = self.prompt.columns.shape[0]
        self.step += 1
        self.launched = self.step
        self.text_token_ids.append(audio_out)
        self.segments.append(Segment([np.full(num_codebooks, stream_bos, dtype=np.int64)]))

    def ras_history(self) -> torch.Tensor:
        """int64 [Q, any]: assistant clips of the prompt, then every column generated so far."""
        generated = [torch.from_numpy(segment.delayed()) for segment in self.segments]
        return torch.cat([self.prompt.history, *generated], dim=1)

    def append_column(self, column: np.ndarray) -> None:
        self._take_step()
        self.segments[-1].columns.append(column)

    def append_text(self, token: int) -> None:
        """A token that a text step sampled."""
        self._take_step()
        self.text_token_ids.append(token)

    def forget_surplus_steps(self) -> None:
        """Of a row that has ended by itself: steps launched behind its end emit nothing and do not count."""
        self.launched = self.step

    def _take_step(self) -> None:
        """A step has read one position and sampled what comes next."""
        self.step += 1
        self.position += 1

    def usage(self) -> dict[str, int]:
        prompt = len(self.prompt.token_ids)
        completion = len(self.text_token_ids) + self.columns_generated
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "cached_tokens": self.cached_positions,
        }
