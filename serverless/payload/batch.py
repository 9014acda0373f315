"""A batch of speech: `{"items": [{"input": ..., ...}], ...}`, where the fields beside `items` hold for every item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serverless.payload.readers.values import JsonObject, Refused

BATCH_ROUTE = "/v1/audio/speech/batch"
MAX_ITEMS = 32


def batch_items(body: JsonObject) -> tuple[object, ...]:
    """The entries of `items`, which `item_body` reads one by one.

    Raises RequestError unless they are a list of 1 to MAX_ITEMS.
    """
    items = body.get("items")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_ITEMS:
        raise Refused(items, f'a list of 1 to {MAX_ITEMS} objects such as {{"input": "Hello."}}').as_error("items")
    return tuple(items)


def item_body(body: JsonObject, item: object, index: int) -> dict[str, Any]:
    """The body of one item as the speech route takes it: its own fields before those of the batch.

    It is streamed, so that its size is known while it grows. Raises RequestError for an item that is no object.
    """
    if not isinstance(item, Mapping):
        raise Refused(item, 'an object such as {"input": "Hello."}').as_error(f"items[{index}]")
    merged = {**body, **item, "stream": True}
    del merged["items"]
    return merged
