"""Keeps each item of a stream below 1 MB and their list below max_inline_bytes.

The SDK posts an item when it is yielded and, at the end, the list of all the same dicts. So an item can be changed
between the two: what was too large for the stream is put back for the result, and audio that went through the stream is
taken out of a result that would be too large with it.
"""

from __future__ import annotations

from typing import Any

from serverless.delivery.serialise import serialised_bytes

MAX_ITEM_BYTES = 960_000  # the platform refuses a stream item of 1 MB
LARGE_KEYS = ("audio_base64", "generated_audio_tokens", "generated_text_tokens", "chunks")
STREAM_WARNING = "Too large for a stream's item, and therefore only in the job's result: {keys}."
RESULT_WARNING = "The audio is too large for the job's result; the stream's items had it."

Item = dict[str, Any]


class Aggregate:
    """For each item: yield `outgoing(item)`, then call `taken()`. The dict that was yielded is the one that changes."""

    def __init__(self, max_result_bytes: int) -> None:
        self._max_result_bytes = max_result_bytes
        self._kept: list[Item] = []
        self._bytes = 0
        self._put_back: Item = {}

    def outgoing(self, item: Item) -> Item:
        """The item as the stream takes it."""
        self._bytes += serialised_bytes(item)
        if self._bytes > self._max_result_bytes and self._kept:
            self._drop_audio()
            if "warnings" in item:
                item["warnings"] = [*item["warnings"], RESULT_WARNING]
        self._kept.append(item)
        self._put_back = {}
        for key in LARGE_KEYS:
            if serialised_bytes(item) <= MAX_ITEM_BYTES:
                break
            if key in item:
                self._put_back[key] = item.pop(key)
        if self._put_back:
            warning = STREAM_WARNING.format(keys=", ".join(self._put_back))
            item["warnings"] = [*item.get("warnings", []), warning]
        return item

    def taken(self) -> None:
        """The stream has the item; from now on it belongs to the result."""
        self._kept[-1].update(self._put_back)

    def _drop_audio(self) -> None:
        for item in self._kept:
            if item.pop("audio_base64", None) is not None:
                item["audio_in_stream_only"] = True
