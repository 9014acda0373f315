"""WS /v1/audio/speech/stream: text as it is written, spoken sentence by sentence, in vllm-omni's messages."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from higgs_core.errors import HiggsError
from serverless.http.errors import HttpProblem
from serverless.http.guard import is_key
from serverless.http.health import why_unhealthy
from serverless.http.jobs import end_if_dead
from serverless.http.live.access import SUBPROTOCOL, given_key, is_own_origin
from serverless.http.live.channel import FAILED, TRY_LATER, WRONG_KEY, Channel, Closing
from serverless.http.live.session import LiveSession
from serverless.http.websocket import CONNECTION, LIVE_ROUTE, BoundedWebSocket

if TYPE_CHECKING:
    from serverless.config.settings import Settings
    from serverless.service.service import SpeechService

logger = logging.getLogger(__name__)
router = APIRouter()


@router.websocket(LIVE_ROUTE)
async def live(websocket: WebSocket) -> None:
    """Let the client in, hold its session, and close it with a code that says why."""
    state = websocket.app.state
    settings: Settings = state.settings
    session_id = uuid.uuid4().hex  # never the client's: it goes into logs
    if not is_own_origin(websocket.headers, settings.cors_origins):
        _count_refusal(websocket, HttpProblem("forbidden", "A page of another origin may not connect."), session_id)
        await websocket.close()  # before it is accepted: status 403
        return
    offered = websocket.scope["subprotocols"]
    key = given_key(websocket.headers, offered)
    if settings.api_key is None or (key is not None and is_key(key, settings.api_key)):
        _connection(websocket).allow_messages(settings.max_request_bytes)
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    channel = Channel(websocket)
    code = 1006
    try:
        closing = await _served(websocket, channel, session_id, key)
        if closing is not None:
            code = closing.code
            await channel.close(closing)
    except WebSocketDisconnect:
        pass
    finally:
        state.metrics.requests.labels(LIVE_ROUTE, str(code)).inc()


async def _served(websocket: WebSocket, channel: Channel, session_id: str, key: str | None) -> Closing | None:
    """How to close it; None when the client has gone."""
    state, connection = websocket.app.state, _connection(websocket)
    settings: Settings = state.settings
    refusal, first = _refusal_of(websocket), None
    if refusal is None and settings.api_key is not None:
        if key is None:
            first = await _first_message(websocket)
            sent = first.get("api_key") if first is not None else None
            key = sent if isinstance(sent, str) else None
        if key is None or not is_key(key, settings.api_key):
            hint = f'Offer the subprotocols "{SUBPROTOCOL}" and "bearer.KEY", or send api_key in session.config.'
            problem = "The API key is missing." if key is None else "The API key is wrong."
            refusal = Closing(WRONG_KEY, problem), HttpProblem("invalid_api_key", problem, hint=hint)
    if refusal is not None:
        closing, error = refusal
        _count_refusal(websocket, error, session_id)
        await channel.send_error(error)
        return closing
    connection.allow_messages(settings.max_request_bytes)
    held = state.bodies.budget.hold(connection.give_up)
    try:
        session = LiveSession(
            websocket,
            channel,
            state.service,
            settings,
            state.bodies,
            held,
            draining=connection.draining,
            session_id=session_id,
        )
        return await session.run(first)
    finally:
        held.release()


def _connection(websocket: WebSocket) -> BoundedWebSocket:
    connection: BoundedWebSocket = websocket.scope["state"][CONNECTION]
    return connection


def _refusal_of(websocket: WebSocket) -> tuple[Closing, HiggsError] | None:
    """Why no session can be held now: the model is loading or failed, or there is no place."""
    state = websocket.app.state
    service: SpeechService = state.service
    end_if_dead(websocket.app)
    if (error := why_unhealthy(service)) is not None:
        return Closing(FAILED, error.message), error
    if not service.ready:
        return _try_later(HttpProblem("loading", "The model is still loading.", hint="Try again in a few seconds."))
    if service.full or service.in_flight >= state.max_jobs:
        return _try_later(HttpProblem("busy", "The worker has as many requests as it takes.", hint="Try again soon."))
    return None


def _try_later(error: HiggsError) -> tuple[Closing, HiggsError]:
    return Closing(TRY_LATER, error.message), error


async def _first_message(websocket: WebSocket) -> dict[str, Any] | None:
    """From somebody who has shown no key yet: small, and soon. None for anything but a JSON object in time."""
    state = websocket.app.state
    try:
        async with asyncio.timeout(state.settings.max_header_seconds):
            message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        body: dict[str, Any] = await state.bodies.parsed(bytearray((message.get("text") or "").encode()))
    except (TimeoutError, HttpProblem):
        return None
    return body


def _count_refusal(websocket: WebSocket, error: HiggsError, session_id: str) -> None:
    """In the metrics and, without a word of the client's, in the log."""
    websocket.app.state.metrics.count_error(error.code)
    logger.info("live session refused: code=%s", error.code, extra={"job_id": session_id})
