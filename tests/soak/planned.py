"""One job of the soak as it is planned: what is sent, how its client behaves, and what the answer may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["valid", "clip", "stream", "invalid", "hostile", "cancelled", "duplicate"]
Door = Literal["queue", "http"]

FINISHED = "finished"
LEFT = "left"
"""The client did not wait for its answer."""

SPOKEN = frozenset({FINISHED, "no_audio"})
"""What a valid job may end with: random weights say nothing at times, which is an error with a code of its own."""


@dataclass(frozen=True)
class Leaving:
    """When a client goes away or tells the platform to stop the job: after so many seconds, or bytes of the answer."""

    seconds: float = 0.0
    answer_bytes: int = 0


@dataclass(frozen=True)
class Planned:
    """shape: its name in reports.  repeats: whether every round sends the same, so that its answers must be equal.

    raw: a body for the HTTP server that need not be JSON; `job_input` is not sent then.  slow: a client that reads a
    few kB at a time and pauses.
    """

    shape: str
    kind: Kind
    job_input: Any = None
    expected: frozenset[str] = SPOKEN
    repeats: bool = False
    leaving: Leaving | None = None
    slow: bool = False
    route: str = "/generate"
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def streams(self) -> bool:
        return isinstance(self.job_input, dict) and self.job_input.get("stream") is True
