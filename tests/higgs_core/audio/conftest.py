"""Fixtures of the tests of sound files."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tests.helpers.paths import CLIP


@pytest.fixture(scope="package")
def speech() -> np.ndarray:
    """float32 [N], the sample clip. Read only."""
    clip = soundfile.read(CLIP, dtype="float32")[0]
    clip.setflags(write=False)
    return clip
