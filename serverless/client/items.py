"""One item of what an endpoint returns, checked: nothing later trusts what a server sent."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from serverless.client.errors import ClientError, PassingError, PollError, printable
from serverless.client.link import Json

MAX_ADDRESS = 8192
"""Characters of a link to the audio."""

_BUSY_CODES = {"busy", "loading"}
_PASSING_CODES = {
    "engine_stopped",
    "internal_error",
    "model_not_loaded",
    "no_audio",
    "out_of_memory",
    "delivery_failed",
}


def checked(item: Any) -> Json:
    """The item. Raises ClientError for the error that it reports, and for what is no item."""
    if not isinstance(item, dict):
        raise ClientError("The endpoint returned something that is not an object.")
    if error := item.get("error"):
        words = " ".join(text for text in (printable(error), printable(item.get("hint"))) if text)
        raise failure(words or "The endpoint reported an error without words.", item.get("code"))
    return item


def failure(sentence: str, code: Any) -> ClientError:
    """An error that the worker reported: a PassingError where its code says that another attempt may succeed."""
    if isinstance(code, str) and code in _BUSY_CODES:
        return PassingError(sentence, busy=True)
    if isinstance(code, str) and code in _PASSING_CODES:
        return PassingError(sentence)
    return ClientError(sentence)


def audio_of(item: Mapping[str, Any]) -> bytes:
    """The bytes of `audio_base64`, none where there is none. Raises ClientError."""
    text = item.get("audio_base64")
    if text is None:
        return b""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (AttributeError, ValueError):  # no string; no base64
        raise ClientError("The endpoint returned audio that is not base64.") from None


def address_of(item: Mapping[str, Any]) -> str | None:
    """The link to the audio. Raises ClientError."""
    address = item.get("audio_url")
    if address is not None and (not isinstance(address, str) or len(address) > MAX_ADDRESS):
        raise ClientError("The endpoint returned a link that is none.")
    return address


def number(value: Any) -> float | None:
    """A finite number that was sent as one, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e12 or not math.isfinite(value):
        return None
    return float(value)


class PartOrder:
    """The `index` of a stream's items: each part once, none left out.

    A worker that could not know whether a part had arrived sends it again, so a part that was seen is passed over.
    """

    def __init__(self) -> None:
        self._next = 0
        self.finished = False

    def is_new(self, item: Mapping[str, Any]) -> bool:
        """Raises ClientError when a part is missing or an index is none."""
        if self.finished:
            return False
        index = item.get("index")
        if index is not None:
            if not isinstance(index, int) or isinstance(index, bool) or index < 0:
                raise ClientError("The endpoint returned a part of the audio without a usable number.")
            if index < self._next:
                return False
            if index > self._next:
                raise PollError(f"Part {self._next} of the audio did not arrive.")
            self._next += 1
        self.finished = item.get("is_final") is True
        return True
