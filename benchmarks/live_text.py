"""First audio of a text that is still being written, beside the same text sent whole; and steps until silence after a
cancel: python -m benchmarks.live_text --model demo --model tiny

A server is started in this process for each model. A writer that gives one word every --word-seconds feeds the live
route; the speech route gets the text at the moment when the last word is known. Both begin their clocks at that same
point of the text: the last character of the first sentence. Rounds alternate.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from higgs_core import HiggsAudioEngine
    from higgs_core.engine import AudioStream
    from serverless.service.service import SpeechService

FIRST_SENTENCE = "It is late now."
TEXT = f"{FIRST_SENTENCE} We should go home, as they wait for us. The rain has stopped. Good night to you all."


class WatchedEngine:
    """The engine, and the last generation that it began. steps: columns that it has generated, one a decode step."""

    def __init__(self, engine: HiggsAudioEngine) -> None:
        self._engine = engine
        self._last: AudioStream | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def stream(self, *arguments: Any) -> AudioStream:
        self._last = self._engine.stream(*arguments)
        return self._last

    @property
    def steps(self) -> int:
        return self._last.columns_generated if self._last is not None else 0


@contextmanager
def served(model: str) -> Iterator[tuple[str, SpeechService, WatchedEngine]]:
    """A server on loopback with that model: its address without a scheme, its service and its engine."""
    import uvicorn

    from serverless.config.settings import Settings
    from serverless.http.app import create_app
    from serverless.http.connections import ConnectionLimits
    from serverless.http_server import uvicorn_config
    from serverless.service.boot import boot_engine
    from serverless.service.service import SpeechService

    watched: list[WatchedEngine] = []

    def boot(settings: Settings) -> Any:
        watched.append(WatchedEngine(boot_engine(settings)))
        return watched[0]

    settings = Settings(model_id=model, device="cpu", log_level="ERROR")
    service = SpeechService(settings, boot=boot)
    app = create_app(service, settings)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn_config(app, "127.0.0.1", 0, ConnectionLimits.of(settings), service.unread))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not service.ready and service.load_error is None:
            time.sleep(0.05)
        yield f"127.0.0.1:{listener.getsockname()[1]}", service, watched[0]
    finally:
        server.should_exit = True
        thread.join()
        service.close()


def fields(seed: int) -> dict[str, Any]:
    return {"response_format": "pcm", "seed": seed}


def words() -> list[str]:
    return re.findall(r"\S+\s*", TEXT)


def live(address: str, seed: int, word_seconds: float) -> tuple[float, float, list[float]]:
    """Seconds from the first sentence's last character to its first audio; from the last word to the end of the speech;
    and from the last frame of each sentence to the first of the next."""
    with opened(address, seed) as session:
        marks: dict[str, float] = {}

        def write() -> None:
            written = ""
            for word in words():
                session.send(json.dumps({"type": "input.text", "text": word}))
                written += word
                if written.strip() == FIRST_SENTENCE:
                    marks["sentence"] = time.perf_counter()
                time.sleep(word_seconds)
            marks["text"] = time.perf_counter()
            session.send(json.dumps({"type": "input.done"}))

        writer = threading.Thread(target=write)
        writer.start()
        first: float | None = None
        frame = 0.0
        gaps: list[float] = []
        waiting = False
        for message in session:
            now = time.perf_counter()
            if isinstance(message, bytes):
                first = first or now
                if waiting:
                    gaps.append(now - frame)
                frame, waiting = now, False
            elif json.loads(message)["type"] == "audio.done":
                waiting = True
            elif json.loads(message)["type"] == "session.done":
                break
        writer.join()
        assert first is not None
        return first - marks["sentence"], frame - marks["text"], gaps


def whole(address: str, seed: int, word_seconds: float) -> tuple[float, float]:
    """The same two of one request, sent when the text is known."""
    began = sentence = time.perf_counter()
    written = ""
    for word in words():
        written += word
        if written.strip() == FIRST_SENTENCE:
            sentence = time.perf_counter()
        time.sleep(word_seconds)
    known = time.perf_counter()
    assert began <= sentence <= known
    body = json.dumps({"input": TEXT, **fields(seed)}).encode()
    request = urllib.request.Request(
        f"http://{address}/v1/audio/speech", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request) as answer:
        answer.read(1)
        first = time.perf_counter()
        answer.read()
    return first - sentence, time.perf_counter() - known


def cancelled(address: str, service: SpeechService, engine: WatchedEngine, seed: int) -> tuple[int, float]:
    """Decode steps that the engine ran after it was told to cancel, and seconds until `session.done`."""
    with opened(address, seed) as session:
        session.send(
            json.dumps({"type": "input.text", "text": "Many words are spoken here, one after the other. " * 4})
        )
        session.send(json.dumps({"type": "input.done"}))
        while not isinstance(session.recv(), bytes):
            pass
        told = time.perf_counter()
        before = engine.steps
        session.send(json.dumps({"type": "input.cancel"}))
        while isinstance(message := session.recv(), bytes) or json.loads(message)["type"] != "session.done":
            pass
        seconds = time.perf_counter() - told
        while service.stats()["active"]:
            time.sleep(0.001)
        return engine.steps - before, seconds


@contextmanager
def opened(address: str, seed: int) -> Iterator[ClientConnection]:
    """A session that streams PCM."""
    with connect(f"ws://{address}/v1/audio/speech/stream", proxy=None) as session:
        session.send(json.dumps({"type": "session.config", "stream_audio": True, **fields(seed)}))
        yield session


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):.3f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="demo, tiny, a hub id or a folder; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--word-seconds", type=float, default=0.05)
    options = parser.parse_args(arguments)
    for model in options.model or ["demo", "tiny"]:
        with served(model) as (address, service, engine):
            live(address, 0, 0.0)  # warms both up
            whole(address, 0, 0.0)
            streamed, sent, cancels = [], [], []
            for seed in range(1, options.rounds + 1):
                streamed.append(live(address, seed, options.word_seconds))
                sent.append(whole(address, seed, options.word_seconds))
                cancels.append(cancelled(address, service, engine, seed))
        lines = [
            f"{model}: medians of {options.rounds} rounds, a word every {options.word_seconds:g} s, seconds",
            f"  first audio after the first sentence: live {middle([each[0] for each in streamed])}, "
            f"text sent whole {middle([each[0] for each in sent])}",
            f"  last audio after the last word: live {middle([each[1] for each in streamed])}, "
            f"text sent whole {middle([each[1] for each in sent])}",
            f"  from a sentence's last frame to the next one's first: "
            f"{middle([gap for each in streamed for gap in each[2]] or [0.0])}",
            f"  after input.cancel: steps {[steps for steps, _ in cancels]}, "
            f"session.done after {middle([seconds for _, seconds in cancels])}",
        ]
        sys.stdout.write("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
