"""A server on loopback that does whatever its script says with each connection, well-behaved or not."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from serverless.network.fetch_guard import FetchGuard

Script = Callable[["Connection"], None]


def trusting(*networks: str) -> FetchGuard:
    """A guard that lets these networks through, on any port."""
    return FetchGuard(ports=None, trusted_networks=tuple(map(ipaddress.ip_network, networks)))


LOOPBACK = trusting("127.0.0.0/8")


@dataclass
class Connection:
    """One request, read up to the end of its headers."""

    sock: socket.socket
    head: str

    @property
    def path(self) -> str:
        return self.head.split(" ", 2)[1]

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, body: bytes = b"", status: str = "200 OK", **headers: str) -> None:
        sent = {"Content-Length": str(len(body)), "Connection": "close"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        self.send(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body)

    def redirect(self, location: str, status: str = "302 Found") -> None:
        self.answer(status=status, Location=location)

    def drip(self, piece: bytes, pause: float = 0.02) -> None:
        """Send the same bytes again and again until the other side has gone."""
        while True:
            self.send(piece)
            threading.Event().wait(pause)


@dataclass
class Server:
    """Use as a context manager. `gone` is set once a client has closed its connection before the server did.

    port_wanted: 0 takes any free one.
    """

    script: Script
    address: str = "127.0.0.1"
    port_wanted: int = 0
    tls: ssl.SSLContext | None = None
    seen: list[Connection] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Server:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._listener = socket.create_server((self.address, self.port_wanted), family=family)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in list(self._threads):
            thread.join(5)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{self.address}:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        if self.tls is not None:
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except OSError:
                return
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                try:
                    piece = sock.recv(4096)
                except OSError:
                    return
                if not piece:
                    self.gone.set()
                    return
                head += piece
            connection = Connection(sock, head.decode("latin-1"))
            self.seen.append(connection)
            try:
                self.script(connection)
            except OSError:
                self.gone.set()
