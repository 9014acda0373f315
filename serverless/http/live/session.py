"""One live session: text comes, sentences are spoken as soon as they are complete, and both at the same time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from higgs_core.errors import HiggsError, RequestError
from serverless.http.errors import HttpProblem
from serverless.http.live.channel import FAILED, GOING_AWAY, NORMAL, POLICY, UNSUPPORTED, Channel, Closing
from serverless.http.live.messages import Cancel, ClientMessage, Close, Config, Done, message_of
from serverless.http.live.pace import Pace
from serverless.http.live.speaker import SessionEnded, Speaker
from serverless.http.live.utterances import MAX_UTTERANCES, Utterances
from serverless.http.live.voicing import Voicing, voicing_of
from serverless.http.models import require_model

if TYPE_CHECKING:
    from serverless.config.settings import Settings
    from serverless.http.body import JsonBodies
    from serverless.service.byte_budget import Hold
    from serverless.service.service import SpeechService

logger = logging.getLogger(__name__)

MESSAGES_PER_SECOND = 1000
"""Of one session, in the long run. More are read later, not refused."""
MAX_ERRORS = 32
"""Messages that may be wrong, one after the other."""
_CHARACTER_BYTES = 4


class LiveSession:
    """`run` it once, after the handshake. held: counts the bytes of its configuration and of the text that waits."""

    def __init__(
        self,
        websocket: WebSocket,
        channel: Channel,
        service: SpeechService,
        settings: Settings,
        bodies: JsonBodies,
        held: Hold,
        *,
        draining: asyncio.Event,
        session_id: str,
    ) -> None:
        self._websocket = websocket
        self._channel = channel
        self._service = service
        self._settings = settings
        self._bodies = bodies
        self._held = held
        self._draining = draining
        self._session_id = session_id
        self._speaker = Speaker(service, channel, session_id)
        self._voicing: Voicing | None = None
        self._utterances = Utterances(settings.max_script_characters)
        self._sentences = 0
        self._errors = 0
        self._config_bytes = 0
        self._changed = asyncio.Event()  # there may be something to speak
        self._ended = asyncio.Event()  # an utterance is over
        self._last_message = asyncio.get_running_loop().time()

    async def run(self, first: dict[str, Any] | None = None) -> Closing | None:
        """Until either side ends it. Returns how it is to be closed, None when the client has gone.

        first: a message that was read before.
        """
        tasks = [
            asyncio.ensure_future(work) for work in (self._read(first), self._speak(), self._watch(), self._drain())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task.done()).result()
        except SessionEnded as ended:
            return ended.closing
        except WebSocketDisconnect:
            return None
        except Exception as error:
            logger.error("a live session failed", exc_info=error, extra={"job_id": self._session_id})
            return Closing(FAILED, "The worker failed for a reason of its own.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            counts = f"utterances={self._utterances.count} sentences={self._sentences}"
            logger.info("live session ended: %s", counts, extra={"job_id": self._session_id})

    # -- What the client sends ----------------------------------------------------------------------------------------

    async def _read(self, first: dict[str, Any] | None) -> Closing | None:
        if first is not None and (closing := await self._take(first)) is not None:
            return closing
        loop = asyncio.get_running_loop()
        # All the text that a session takes or drops may come letter by letter, with an input.cancel behind it.
        pace = Pace(MESSAGES_PER_SECOND, self._utterances.most_characters + MAX_UTTERANCES, loop.time)
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            self._last_message = loop.time()
            await asyncio.sleep(pace.next())  # of 0 seconds too: messages that are there already let others have a turn
            if (text := message.get("text")) is None:
                return Closing(UNSUPPORTED, "Messages are JSON in text frames; binary ones are not read.")
            try:
                body = await self._bodies.parsed(bytearray(text.encode("utf-8", "surrogatepass")))
            except HttpProblem:
                error = RequestError(
                    "The message is not a JSON object in UTF-8.", hint='Send {"type": "input.text", "text": "Hello."}.'
                )
                if (closing := await self._refuse(error)) is not None:
                    return closing
                continue
            size = len(text)
            del message, text
            if (closing := await self._take(body, size)) is not None:
                return closing

    async def _take(self, body: dict[str, Any], size: int = 0) -> Closing | None:
        """size: bytes of the message, about."""
        try:
            closing = await self._obey(message_of(body), size)
        except HiggsError as error:
            return await self._refuse(error)
        self._errors = 0
        return closing

    async def _refuse(self, error: HiggsError) -> Closing | None:
        await self._channel.send_error(error)
        self._errors += 1
        return Closing(POLICY, "Too many messages of this session were wrong.") if self._errors > MAX_ERRORS else None

    async def _obey(self, message: ClientMessage, size: int) -> Closing | None:
        if isinstance(message, Close):
            return Closing(NORMAL, "The client closed the session.")
        if self._draining.is_set():
            return None
        if isinstance(message, Config):
            await self._configure(message, size)
            return None
        if self._voicing is None:
            raise RequestError("The session has no configuration yet.", field="type", hint="Send session.config first.")
        if isinstance(message, Cancel):
            self._utterances.cancel(self._voicing)
            self._speaker.silence()  # within a few decode steps
        elif isinstance(message, Done):
            self._utterances.finish(self._voicing)
        elif not self._utterances.add(message.text, self._voicing):
            return Closing(POLICY, "Text came on and on after the session had refused more of it.")
        self._count_held()
        self._changed.set()
        return None

    async def _configure(self, config: Config, size: int) -> None:
        if not self._utterances.is_written:
            raise RequestError(
                "session.config came in the middle of an utterance.", field="type", hint="Send input.done before it."
            )
        require_model(config.model, self._service.model_name)
        if not self._held_fits(size):
            raise HttpProblem("busy", "The clips of others take all the room.", hint="Try again in a few seconds.")
        self._voicing = await voicing_of(config, self._service)
        self._config_bytes = size
        self._count_held()

    def _held_fits(self, size: int) -> bool:
        return self._bodies.budget.fits(max(0, size - self._config_bytes))

    def _count_held(self) -> None:
        self._held.resize(self._config_bytes + _CHARACTER_BYTES * self._utterances.waiting)

    # -- What is spoken -----------------------------------------------------------------------------------------------

    async def _speak(self) -> Closing | None:
        """Every sentence of every utterance, in order. Raises SessionEnded."""
        while True:
            utterance = self._utterances.first
            if utterance is not None and utterance.has_sentence:
                self._sentences += 1
                await self._speaker.speak(utterance)
            elif utterance is not None and utterance.is_over:
                await self._channel.send(utterance.done())
                self._utterances.end_first()
                self._ended.set()
            else:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._last_message = asyncio.get_running_loop().time()
            self._count_held()

    @property
    def _is_speaking(self) -> bool:
        return self._utterances.has_something_to_speak or self._speaker.is_speaking

    async def _watch(self) -> Closing:
        """The time without a message begins when nothing is spoken any more."""
        loop, limit = asyncio.get_running_loop(), self._settings.max_idle_seconds
        while True:
            if self._is_speaking:
                self._last_message = loop.time()
            left = self._last_message + limit - loop.time()
            if left <= 0:
                return Closing(NORMAL, f"No message has come for {limit:g} seconds.")
            await asyncio.sleep(left)

    async def _drain(self) -> Closing:
        """The server stops: the sentence that is being spoken ends, and no other begins."""
        await self._draining.wait()
        self._utterances.drop()
        self._changed.set()
        while self._utterances.first is not None:
            self._ended.clear()
            await self._ended.wait()
        return Closing(GOING_AWAY, "The server stops.")
