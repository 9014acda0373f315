"""How many connections there may be, which one has to make room for a new one, and when one is given up."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from serverless.config.settings import Settings

RESERVED = 8
"""Connections that no job may take, so that /ping always finds one."""
STOPPING_SECONDS = 10.0
"""For a client that takes nothing while the server is about to stop, where `stalled` allows more."""
_LINGER_SECONDS = 30.0
_MOST_SECONDS_BETWEEN_LOOKS = 1.0


class Phase(IntEnum):
    """What a connection waits for. The lower ones are the first to make room for others."""

    REQUEST = 0  # the next request, or a part of its headers
    DISCARDING = 1  # the end of a body whose request has its answer
    BODY = 2  # the client, to send
    ANSWER = 3  # the client, to read
    WORKING = 4  # this server; never made to make room


@dataclass(frozen=True)
class ConnectionLimits:
    """count: connections.  header, stalled, linger: seconds for a request's headers, until a client takes something of
    its answer, and for the end of a body that nobody reads.  discarded: the most bytes of such a body.
    """

    count: int
    header: float
    stalled: float
    discarded: int
    linger: float = _LINGER_SECONDS

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        return cls(
            count=connection_count(settings.max_connections),
            header=settings.max_header_seconds,
            stalled=settings.max_stalled_seconds,
            discarded=settings.max_request_bytes,
        )

    @property
    def seconds_between_looks(self) -> float:
        return min(_MOST_SECONDS_BETWEEN_LOOKS, min(self.header, self.stalled, self.linger) / 4)


def connection_count(wanted: int) -> int:
    """At most a third of the descriptors of this process: the rest is for files, clips, ffmpeg, and connections that
    arrive in one go, before others are closed for them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(min(wanted, soft // 3), 2 * RESERVED)


class Connection(Protocol):
    """phase, since: what it waits for, and from when on, in seconds of the event loop's clock."""

    phase: Phase
    since: float

    def look(self, now: float) -> None: ...
    def give_up(self) -> None: ...


class Connections:
    """The open connections of one server, in one event loop. While there are any, it looks at each of them about once a
    second: no connection needs a timer of its own."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """One that has just been accepted. If it is one too many, give up the one that has waited longest."""
        self._open.add(connection)
        if len(self._open) > self.limits.count:
            waiting = [one for one in self._open if one.phase < Phase.WORKING and one is not connection]
            if waiting:
                # Which of those without a request is the least useful cannot be known; then come those with one.
                oldest = min(waiting, key=lambda one: (max(one.phase, Phase.DISCARDING), one.since))
                self._open.discard(oldest)
                oldest.give_up()
        if self._timer is None:
            self._timer = loop.call_later(self.limits.seconds_between_looks, self._look, loop)

    def discard(self, connection: Connection) -> None:
        self._open.discard(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.look(now)
        self._timer = None
        if self._open:
            self._timer = loop.call_later(self.limits.seconds_between_looks, self._look, loop)
