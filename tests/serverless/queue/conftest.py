"""One platform with one worker for a module's tests; starting a worker takes most of their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serverless.local.assets import served
from tests.helpers.fake_platform import FakePlatform
from tests.helpers.paths import ASSETS
from tests.helpers.processes import WorkerProcess


@pytest.fixture(scope="module")
def assets_address() -> Iterator[str]:
    """What `http://test-inputs.invalid/` stands for."""
    with served(ASSETS, {"reference.wav", "second.wav"}) as address:
        yield address


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[FakePlatform, WorkerProcess]]]:
    """Starts a platform of its own with a worker of the given module and variables."""
    with ExitStack() as stack:

        def started(**options: str) -> tuple[FakePlatform, WorkerProcess]:
            platform = stack.enter_context(FakePlatform())
            worker = stack.enter_context(WorkerProcess(platform, tmp_path / "worker.log", **options))
            return platform, worker

        yield started
