"""HTTP servers on loopback that answer as a test says. For misbehaving servers see loopback.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]  # by name, in any case
    body: bytes


@contextmanager
def answering(answer: Callable[[Request], tuple[int, bytes]]) -> Iterator[str]:
    """The address of a server that answers every GET and POST with the status and the body of `answer(request)`."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = answer(Request(self.command, self.path, self.headers, body))  # type: ignore[arg-type]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

    with listening(Handler) as address:
        yield address


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server with this handler, while the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # 0.01: seconds until it notices that it is to end.
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="http-stub")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(BaseHTTPRequestHandler):
    """Writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        pass
