"""What a live session sends: its messages, its audio, and why it closes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from higgs_core.errors import HiggsError

NORMAL, GOING_AWAY, UNSUPPORTED, POLICY, FAILED, TRY_LATER = 1000, 1001, 1003, 1008, 1011, 1013
"""RFC 6455's closing codes, and the registry's for "try again later"."""
WRONG_KEY = 4401
_GONE = 1006
_MAX_REASON_BYTES = 123


@dataclass(frozen=True)
class Closing:
    """code: of the closing frame.  reason: a sentence for whoever reads it."""

    code: int
    reason: str


class Channel:
    """Messages leave whole and one after the other, whichever task sends them. A slow client makes the sender wait."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._lock = asyncio.Lock()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Raises WebSocketDisconnect when the client has gone, as all of these do but `close`."""
        async with self._lock:
            self._check()
            await self._websocket.send_text(json.dumps(message, ensure_ascii=False, allow_nan=False))

    async def send_audio(self, data: bytes) -> None:
        async with self._lock:
            self._check()
            await self._websocket.send_bytes(data)

    async def send_error(self, error: HiggsError, **where: int) -> None:
        """where: the utterance and the sentence that it concerns."""
        message = " ".join(part for part in (error.message, error.hint) if part)
        await self.send({"type": "error", "message": message, "code": error.code, "field": error.field, **where})

    async def close(self, closing: Closing) -> None:
        reason = closing.reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        with suppress(WebSocketDisconnect):
            async with self._lock:
                self._check()
                await self._websocket.close(closing.code, reason)

    def _check(self) -> None:
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect(_GONE)
