"""Entity tags, by which a client asks whether what it has kept is still right (RFC 9110, 8.8.3 and 13.1.2)."""

from __future__ import annotations

from collections.abc import Callable


def weak_tag(identity: str) -> str:
    """The tag of what means the same wherever its identity is the same, though its bytes may differ."""
    return f'W/"{identity}"'


def names_tag(if_none_match: str) -> Callable[[str], bool]:
    """Whether a header If-None-Match, "" where there is none, names an identity. Caches on the way may have made a tag
    weak, and weak or not makes no difference to this header."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return lambda identity: "*" in tags or f'"{identity}"' in tags
