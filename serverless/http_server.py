"""The HTTP server, for RunPod's load-balancing endpoints and for local use.

    HIGGS_AUDIO_MODEL_ID=demo python -m serverless.http_server

The playground is at the address that it prints, the API under /v1, its description at /docs.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from serverless.config.command_line import help_as_written
from serverless.config.interrupts import INTERRUPTED
from serverless.config.native_memory import FreedMemory
from serverless.config.startup import (
    FAILED,
    LAST_ANSWERS_SECONDS,
    WRONG_SETTING,
    end_process,
    end_process_within,
    leave,
    start_up,
)
from serverless.http import health
from serverless.http.app import create_app
from serverless.http.connections import ConnectionLimits
from serverless.http.protocol import bounded_protocol
from serverless.service.byte_budget import ByteBudget

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

    from serverless.config.settings import Settings

log = logging.getLogger(__name__)

DRAIN_SECONDS = 330  # what a load balancer allows one request
BACKLOG = 64  # connections that are accepted in one go, before any of them is counted
HEALTH_CONNECTIONS = 32
SMALL_ANSWERS_BYTES = 1_000_000
PING_SECONDS = 20.0  # a WebSocket whose client does not answer a ping for so long is closed
IDLE_SECONDS = 75  # longer than common balancers keep a connection, so that none is closed under a request

_EPILOG = """\
All settings come from the environment: HIGGS_AUDIO_MODEL_ID, HIGGS_AUDIO_API_KEY, HIGGS_AUDIO_HOST, PORT and those of
docs/configuration.md. HIGGS_AUDIO_MODEL_ID=demo needs neither a GPU nor a download.
exit status: 0 stopped, 1 the engine failed, 2 wrong arguments or settings, 130 ended at once by a second Ctrl-C
"""


def main() -> int:
    """Serve until SIGTERM or SIGINT, then let the running requests end; the exit status is 2 for a wrong setting.

    Exits at once for --help, and with status 2 for any other argument, which would have had no effect.
    """
    _parser().parse_args()
    settings = start_up()
    return WRONG_SETTING if settings is None else serve(settings)


def _parser() -> argparse.ArgumentParser:
    return help_as_written("serverless.http_server", __doc__, _EPILOG)


def serve(settings: Settings) -> int:
    """Run the server on settings.port, and /ping on settings.health_port where that is another one.

    Returns 0 once it was told to stop and has drained; ends the process with 1 when the engine has died.
    """
    from serverless.service.service import SpeechService

    service = SpeechService(settings)
    service.observe_jobs(FreedMemory())
    limits = ConnectionLimits.of(settings)
    fatal = threading.Event()

    def stop() -> None:
        if fatal.is_set():
            return
        fatal.set()
        server.should_exit = True  # answers that are on their way leave first
        end_process_within(LAST_ANSWERS_SECONDS, FAILED)

    app = create_app(service, settings, on_fatal=stop)
    address = address_of(settings.host, settings.port)
    server = AnnouncingServer(
        uvicorn_config(app, settings.host, settings.port, limits, service.unread),
        on_start=lambda: announce(f"Listening at {address}, where the playground is. The model is loading."),
        jobs=lambda: service.in_flight,
    )
    service.observe_ready(lambda: announce(f"Ready at {address}"))
    health_server = None
    if settings.health_port != settings.port:
        health_app = health.health_app(service)
        health_server = health.serve_in_thread(
            uvicorn_config(health_app, settings.host, settings.health_port, replace(limits, count=HEALTH_CONNECTIONS))
        )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains, then raises the signal once more: it must find a handler that lets the rest of this run
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    service.observe_failure(stop)
    warn_if_open(settings)
    server.run()
    if health_server is not None:
        health_server.should_exit = True
    failed = not service.close() or fatal.is_set()
    return leave(FAILED if failed else 0, clean=not failed and not service.loading)


class AnnouncingServer(uvicorn.Server):
    """Says when it listens, and at Ctrl-C what it waits for; a second Ctrl-C ends the process at once.

    on_start: called once it listens. jobs: how many are under way.
    """

    def __init__(self, config: uvicorn.Config, *, on_start: Callable[[], None], jobs: Callable[[], int]) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._jobs = jobs
        self._interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT:
            if self._interrupted:
                end_process(INTERRUPTED)
            self._interrupted = True
            jobs = self._jobs()
            waits_for = f"{jobs} job{'' if jobs == 1 else 's'} under way"
            announce(f"Stopping: waiting for {waits_for}. A second Ctrl-C ends at once.")
        super().handle_exit(sig, frame)


def announce(line: str) -> None:
    """A line for the person at the terminal; a line of the log on the platform, which reads JSON."""
    if os.environ.get("RUNPOD_ENDPOINT_ID"):
        log.info("%s", line)
        return
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def address_of(host: str, port: int) -> str:
    """What to type into a browser on this machine for a server that listens there."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified or address.is_loopback:
        return f"http://localhost:{port}"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"


def warn_if_open(settings: Settings) -> None:
    """Say so where anybody may use the worker who reaches it."""
    if settings.api_key is None and not is_loopback(settings.host):
        log.warning(
            "HIGGS_AUDIO_API_KEY is not set: whoever reaches port %d may use this worker. "
            "Set it, unless what stands in front asks for a key of its own.",
            settings.port,
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def uvicorn_config(
    app: FastAPI, host: str, port: int, limits: ConnectionLimits, unread: ByteBudget | None = None
) -> uvicorn.Config:
    """One set of options for both ports: connections are bounded, and no access log means no query string in a log.

    unread: counts answers that clients have not taken yet; none are large where it is not given. WebSockets are served
    by an app that reads bodies, whose budget their messages share.
    """
    bodies = getattr(app.state, "bodies", None)
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",
        http=bounded_protocol(limits, unread or ByteBudget(SMALL_ANSWERS_BYTES), bodies.budget if bodies else None),
        ws="none",  # the protocol makes its own, with bounds
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main())
