"""Payloads with one marked word in every field and key, so that a test can look for it where it must not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.helpers.hostile_payloads import PLACES

MARK = "Xyzzyquux"
"""Letters alone: it could be the name of a field."""


def marked_payloads() -> Iterator[dict[str, Any]]:
    """For every field of every object: the mark as its value, in a list and in an object, and as a key beside it."""
    for place, (table, around) in PLACES.items():
        for name in sorted(table.known):
            for value in (MARK, [MARK], {MARK: MARK}, [{MARK: MARK}]):
                yield around({name: value})
        yield around({MARK: MARK})
        if place in ("references", "speakers", "audio part"):
            for source in marked_sources():
                yield around({"url": None, **source})
    yield from marked_speakers()


def marked_sources() -> Iterator[dict[str, Any]]:
    """Clips that cannot be used. No name is looked up: the hosts are addresses."""
    yield {"url": f"http://127.0.0.1:1/{MARK}?{MARK}#{MARK}"}
    yield {"url": f"http://{MARK}:{MARK}@127.0.0.1/"}
    yield {"url": f"{MARK}://127.0.0.1/"}
    yield {"path": f"/{MARK}/{MARK}.wav"}
    yield {"base64": MARK}
    yield {"voice": MARK}


def marked_speakers() -> Iterator[dict[str, Any]]:
    """The mark as a speaker's name, with everything that can be wrong with an entry."""
    entries: list[Any] = [5, {}, {"voice": 5}, {"description": 5}, {"url": 5}, *marked_sources()]
    for key in (MARK, f"[{MARK}]", f"{MARK}.voice", f"a.{MARK}", f"{MARK}[0]", f"{MARK} {MARK}", f"[{MARK}"):
        for entry in entries:
            yield {"script": f"[{MARK}] Hello.", "speakers": {key: entry}}
    yield {"script": "Hello.", "speakers": {MARK: {"voice": "default"}, MARK.upper(): {"voice": "default"}}}
    yield {"dialogue": [{"speaker": MARK, "text": 5}]}
    yield {"dialogue": [{"speaker": f"{MARK}{at}", "text": "Hi."} for at in range(101)]}
