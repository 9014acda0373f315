"""The soak's bookkeeping: every job that was sent has one end, and no job has two."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from tests.soak.answers import Answer
from tests.soak.planned import FINISHED, LEFT, Door, Planned

_MOST_NAMED = 20
"""Problems that are kept in words; the others are counted."""


@dataclass
class Ledger:
    """Of one door. Safe to use from several threads.

    lost: jobs without an answer.  doubled: jobs with more answers than deliveries, or more than one line in the log.
    differing: answers that were not those of an earlier round to the same request.
    """

    door: Door
    sent: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    repeated: int = 0
    differing: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)
    _first: dict[str, Answer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settled(self) -> int:
        """Jobs that have ended, in whatever way."""
        return self.ended.total()

    def send(self, planned: Planned) -> None:
        with self._lock:
            self.sent[planned.kind] += 1

    def settle(self, planned: Planned, answer: Answer) -> None:
        """The job's one end."""
        with self._lock:
            self.ended[planned.kind] += 1
            self.codes[answer.code] += 1
            if answer.code not in planned.expected:
                self._wrong(planned, f"ended with {answer.code!r}, expected was {sorted(planned.expected)}")
            if planned.repeats and answer.code != LEFT:
                first = self._first.setdefault(planned.shape, answer)
                if first is not answer:
                    self.repeated += 1
                    self.differing += not first.equals(answer)

    def break_off(self, planned: Planned, problem: str) -> None:
        """An answer that is not what it says, or none at all."""
        with self._lock:
            self.ended[planned.kind] += 1
            self.codes["broken"] += 1
            self._wrong(planned, problem)

    def lose(self, planned: Planned) -> None:
        with self._lock:
            self.lost += 1
            self._note(f"{self.door}: {planned.shape}: no answer")

    def double(self, what: str) -> None:
        with self._lock:
            self.doubled += 1
            self._note(f"{self.door}: {what}")

    def _wrong(self, planned: Planned, problem: str) -> None:
        self.wrong += 1
        self._note(f"{self.door}: {planned.shape}: {problem}")

    def _note(self, problem: str) -> None:
        if len(self.problems) < _MOST_NAMED:
            self.problems.append(problem)

    def summary(self) -> dict[str, object]:
        return {
            "sent": dict(self.sent),
            "ended": dict(self.codes.most_common()),
            "finished": self.codes[FINISHED],
            "lost": self.lost,
            "doubled": self.doubled,
            "wrong": self.wrong,
            "repeated": self.repeated,
            "differing": self.differing,
            "problems": self.problems,
        }
