"""Where the project's files lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "test_inputs" / "assets"
CLIP = ASSETS / "reference.wav"
"""A short clip of speech."""
GOLDEN = ROOT / "tests" / "golden"
