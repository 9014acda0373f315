"""What the tests of voices share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for voices."""
    voices = tmp_path / "voices"
    voices.mkdir()
    return voices
