"""A WebSocket as bytes on a socket, for what no library would send."""

from __future__ import annotations

HANDSHAKE = (
    b"GET /v1/audio/speech/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def frame(text: bytes) -> bytes:
    """A text frame, masked with zeros as a client has to."""
    return b"\x81\xff" + len(text).to_bytes(8) + bytes(4) + text
