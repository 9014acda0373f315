"""What the stream carries, and what is left of it in the list that is posted at the end."""

from __future__ import annotations

from typing import Any

from serverless.delivery.serialise import serialised_bytes
from serverless.queue.stream_items import MAX_ITEM_BYTES, Aggregate


def part(index: int, size: int) -> dict[str, Any]:
    return {"index": index, "is_final": False, "audio_base64": "A" * size}


def final(index: int) -> dict[str, Any]:
    return {"index": index, "is_final": True, "warnings": ["first"], "usage": {"total_tokens": 3}}


def posted(items: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The items as the SDK posts them one by one, and the list that it posts at the end."""
    aggregate = Aggregate(limit)
    streamed, kept = [], []
    for item in items:
        outgoing = aggregate.outgoing(item)
        kept.append(outgoing)
        streamed.append(dict(outgoing))
        aggregate.taken()
    return streamed, kept


def test_what_fits_is_left_alone() -> None:
    items = [part(0, 100), part(1, 100), final(2)]
    expected = [dict(item) for item in items]
    streamed, kept = posted(items, 10_000)
    assert streamed == kept == expected


def test_audio_beyond_the_results_limit_stays_in_the_stream() -> None:
    streamed, kept = posted([part(i, 4_000) for i in range(5)] + [final(5)], 10_000)
    assert all(len(item["audio_base64"]) == 4_000 for item in streamed[:-1])
    assert not any("audio_base64" in item for item in kept)
    assert sum(serialised_bytes(item) for item in kept) < 10_000
    assert kept[-1]["warnings"][0] == "first"
    assert "stream's items" in kept[-1]["warnings"][1]


def test_one_item_beyond_the_streams_limit_is_whole_in_the_result() -> None:
    whole = {"audio_base64": "A" * (MAX_ITEM_BYTES + 1), "warnings": [], "seed": 1}
    (streamed,), (kept,) = posted([whole], 18_000_000)
    assert serialised_bytes(streamed) <= MAX_ITEM_BYTES
    assert "audio_base64" in streamed["warnings"][0]
    assert streamed["seed"] == 1
    assert len(kept["audio_base64"]) == MAX_ITEM_BYTES + 1


def test_tokens_that_fill_the_last_item_go_into_the_result_alone() -> None:
    last = {**final(1), "generated_audio_tokens": [[1] * 60_000] * 8, "chunks": [{"text": "a"}]}
    streamed, kept = posted([part(0, 100), last], 18_000_000)
    assert "generated_audio_tokens" not in streamed[1]
    assert streamed[1]["chunks"] == [{"text": "a"}]
    assert len(kept[1]["generated_audio_tokens"][0]) == 60_000


def test_an_error_passes() -> None:
    assert posted([{"error": "No."}], 1_000) == ([{"error": "No."}], [{"error": "No."}])
