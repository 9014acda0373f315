"""Fixtures for the tests of a built image. deploy/image/build.sh runs them; anywhere else none is collected."""

from __future__ import annotations

import pytest

from tests.helpers.image import Image

BUILT = Image.of_the_environment()

collect_ignore_glob = [] if BUILT else ["test_*.py"]


@pytest.fixture(scope="session")
def image() -> Image:
    assert BUILT is not None
    return BUILT
