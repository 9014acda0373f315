"""The files of the built-in checkpoints: `demo` is data of this package, `tiny` is written when it is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from higgs_core.built_in import DEMO, TINY, BuiltIn
from higgs_core.checkpoint.compact_codec import expand_codec
from higgs_core.checkpoint.tiny import write_tiny

DEMO_DATA = Path(__file__).parent / "demo"
"""`model/` is a checkpoint in Boson's format; `codec/` is compact (`compact_codec`)."""


@contextmanager
def built_in_folders(checkpoint: BuiltIn) -> Iterator[tuple[Path, Path]]:
    """(language model with tokenizer, codec), to be read while the block lasts. Raises ModelLoadError."""
    with tempfile.TemporaryDirectory(prefix=f"higgs-{checkpoint.name}-") as scratch:
        yield _FOLDERS[checkpoint.name](Path(scratch))


def _demo(scratch: Path) -> tuple[Path, Path]:
    """The language model is read where it lies."""
    expand_codec(DEMO_DATA / "codec", scratch / "codec")
    return DEMO_DATA / "model", scratch / "codec"


_FOLDERS: dict[str, Callable[[Path], tuple[Path, Path]]] = {DEMO.name: _demo, TINY.name: write_tiny}
"""Each gets an empty folder to write into."""
