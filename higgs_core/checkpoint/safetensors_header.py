"""The header of a safetensors file: where the bytes of each tensor lie. Imports no torch.

Format: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StoredRange:
    """Bytes `start` to `stop` of a file hold a tensor of this shape; dtype in the format's own words ("BF16")."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(file: Path) -> dict[str, StoredRange]:
    """Every tensor of a file by its name. Raises ValueError, with the end of a sentence, for one that is not whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= size - 8:
            raise ValueError("is damaged or cut short")
        encoded = stream.read(length)
    try:
        entries = json.loads(encoded)
        entries.pop("__metadata__", None)
        ranges = {name: _range(entry, 8 + length) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("has a damaged header") from None
    if any(stored.stop > size for stored in ranges.values()):
        raise ValueError("is cut short")
    return ranges


def _range(entry: dict[str, object], data: int) -> StoredRange:
    begin, end = (int(offset) for offset in entry["data_offsets"])  # type: ignore[attr-defined]
    shape = tuple(int(length) for length in entry["shape"])  # type: ignore[attr-defined]
    return StoredRange(str(entry["dtype"]), shape, data + begin, data + end)
