"""An HTTP connection whose every received byte counts against one deadline and one budget.

The bound lies below the HTTP parser, so that endless headers, chunk lines, interim responses and bodies that trickle in
are all caught by it, which socket timeouts (they start anew with each byte) and caps on the body are not.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from typing import Any

from runpod.serverless.utils import rp_ssrf

from serverless.references.fetch_guard import FetchRefused

TOO_LATE = "it took longer than the download timeout"


class Deadline:
    """The end of everything that one request fetches. `cancel` brings it forward to now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._cancelled = threading.Event()

    @property
    def seconds_left(self) -> float:
        return 0.0 if self._cancelled.is_set() else max(0.0, self._end - time.monotonic())

    def remaining(self) -> float:
        """Seconds left, more than 0. Raises FetchRefused when there are none."""
        if not (seconds := self.seconds_left):
            raise FetchRefused(TOO_LATE)
        return seconds

    def cancel(self) -> None:
        self._cancelled.set()


class BoundedAdapter(rp_ssrf.PinnedIPAdapter):  # type: ignore[misc]
    """Dials one checked address, and reads at most `max_bytes` from it before the deadline."""

    def __init__(self, address: str, deadline: Deadline, max_bytes: int) -> None:
        self._deadline = deadline
        self._max_bytes = max_bytes
        super().__init__(address)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        plain = pool.ConnectionCls

        def bounded(*connection_args: Any, **connection_kwargs: Any) -> Any:
            connection = plain(*connection_args, **connection_kwargs)
            connection.response_class = self._response
            return connection

        pool.ConnectionCls = bounded
        return pool

    def _response(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        response.fp = io.BufferedReader(_BoundedReader(response.fp.detach(), sock, self._deadline, self._max_bytes))
        return response


class _BoundedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline, max_bytes: int) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline
        self._bytes_left = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.remaining())
        received = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        self._bytes_left -= received or 0
        if self._bytes_left < 0:
            raise FetchRefused("it sent more bytes than are allowed")
        return int(received) if received is not None else None

    def close(self) -> None:
        self._raw.close()
        super().close()
