"""What waits for the codec's thread, and what it does next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import torch

from higgs_core.codec.audio_codec import MAX_DECODE_FRAMES
from higgs_core.codec.pieces import Piece, pieces
from higgs_core.failures.resolving import resolve

MAX_PASSED_OVER = 4
"""Turns that less urgent work is passed over before it has one."""


class Urgency(IntEnum):
    """Most urgent first."""

    STREAM = 0  # somebody is listening
    ENCODE = 1  # a generation waits for its prompt
    WHOLE = 2  # audio of a request that is delivered when all of it is there


@dataclass(eq=False)
class Task:
    """Something to be called on the thread."""

    work: Callable[[], Any]
    future: Future[Any]


class DecodeJob:
    """Codes of one clip, decoded in one or more pieces."""

    def __init__(self, codes: torch.Tensor, urgency: Urgency) -> None:
        """codes: int64 [Q, T], T > 0."""
        self.future: Future[np.ndarray] = Future()
        self.urgency = urgency
        self._codes = codes
        self._pieces = deque(pieces(codes.shape[1], MAX_DECODE_FRAMES))
        self._audio: list[np.ndarray] = []

    @property
    def next_piece(self) -> Piece:
        return self._pieces[0]

    def next_codes(self) -> torch.Tensor:
        """int64 [Q, next_piece.decoded_frames]."""
        return self._codes[:, self.next_piece.left : self.next_piece.right]

    def add(self, decoded: torch.Tensor) -> bool:
        """Take the audio of the next piece, float32 [decoded_frames * 960]. True when that was the last one."""
        # A copy: a row of a batch would keep the other rows in memory.
        self._audio.append(decoded[self._pieces.popleft().samples].numpy().copy())
        if self._pieces:
            return False
        resolve(self.future, self._audio[0] if len(self._audio) == 1 else np.concatenate(self._audio))
        return True


class JobQueue:
    """Jobs in the order of their urgency, then of their arrival. Not safe to use from several threads at once.

    Nothing waits for ever: what was passed over MAX_PASSED_OVER times in succession is next.
    """

    def __init__(self) -> None:
        self._decodes: dict[Urgency, deque[DecodeJob]] = {Urgency.STREAM: deque(), Urgency.WHOLE: deque()}
        self._tasks: deque[Task] = deque()
        self._passed_over = dict.fromkeys(Urgency, 0)

    def __bool__(self) -> bool:
        return any(self._waiting(urgency) for urgency in Urgency)

    def add_task(self, task: Task) -> None:
        self._tasks.append(task)

    def add_decode(self, job: DecodeJob) -> None:
        """Also a job of which a piece is done: its next one comes after what has arrived meanwhile."""
        self._decodes[job.urgency].append(job)

    def pop(self) -> Task | list[DecodeJob]:
        """What to do next: a task, or decodes whose next pieces are equally long and fit into one batch."""
        urgency = self._next_urgency()
        for other in Urgency:
            self._passed_over[other] += other > urgency and self._waiting(other)
        self._passed_over[urgency] = 0
        return self._tasks.popleft() if urgency is Urgency.ENCODE else self._batch(urgency)

    def clear(self) -> Iterator[Future[Any]]:
        """Drop everything; returns the futures."""
        while self._tasks:
            yield self._tasks.popleft().future
        for waiting in self._decodes.values():
            while waiting:
                yield waiting.popleft().future

    def _waiting(self, urgency: Urgency) -> bool:
        return bool(self._tasks if urgency is Urgency.ENCODE else self._decodes[urgency])

    def _next_urgency(self) -> Urgency:
        waiting = [urgency for urgency in Urgency if self._waiting(urgency)]
        overdue = [urgency for urgency in waiting if self._passed_over[urgency] >= MAX_PASSED_OVER]
        return max(overdue, key=lambda urgency: self._passed_over[urgency], default=waiting[0])

    def _batch(self, urgency: Urgency) -> list[DecodeJob]:
        frames = self._decodes[urgency][0].next_piece.decoded_frames
        batch: list[DecodeJob] = []
        others: deque[DecodeJob] = deque()
        for job in self._decodes[urgency]:
            alike = job.next_piece.decoded_frames == frames and (len(batch) + 1) * frames <= MAX_DECODE_FRAMES
            (batch if alike or not batch else others).append(job)
        self._decodes[urgency] = others
        return batch
