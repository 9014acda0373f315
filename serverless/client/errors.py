"""What went wrong, and what a server says, in words that a terminal can show."""

from __future__ import annotations

import re
from typing import Any, TextIO

MAX_WORDS = 500
"""Characters of one sentence of a server that are shown."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")


class ClientError(Exception):
    """What went wrong, in one sentence for the person at the terminal."""


class StoppingError(ClientError):
    """Every further job would end the same way."""


class StorageError(StoppingError):
    """What was received cannot be kept."""


class PassingError(ClientError):
    """What another attempt may get past: a server without room, a lost worker, a network that failed.

    busy: the server has no room now. retry_after: the seconds that it asks for.
    once: nothing says that it will pass, so that one more attempt is enough. sent: the server may have got the request.
    """

    def __init__(
        self,
        sentence: str,
        *,
        busy: bool = False,
        retry_after: float | None = None,
        once: bool = False,
        sent: bool = True,
    ) -> None:
        super().__init__(sentence)
        self.busy = busy
        self.retry_after = retry_after
        self.once = once
        self.sent = sent


class PollError(PassingError):
    """The platform could not be asked about a job. Nothing is known of the job itself, which may go on."""


class JobGoneError(PassingError):
    """The platform does not know a job that it took: its result was kept for a while and nobody fetched it."""


def printable(value: Any) -> str:
    """What a server sent, as one line without escape sequences, control characters and changes of direction."""
    text = value if isinstance(value, str) else "" if value is None or isinstance(value, (dict, list)) else str(value)
    text = _ESCAPE_SEQUENCE.sub("", text[: 4 * MAX_WORDS])
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= MAX_WORDS else text[:MAX_WORDS] + "..."


def say(stream: TextIO, line: str) -> None:
    """Write one or several lines, signs that the terminal's encoding does not know as question marks."""
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
