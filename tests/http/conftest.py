"""One server for the whole suite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serverless.settings import Settings
from tests.http.serving import Running, serving, wait_until


def voice_folder(folder: Path) -> Path:
    """A library in Boson's shape with one voice, `belinda`."""
    seconds = np.arange(24_000) / 24_000
    soundfile.write(folder / "belinda.wav", 0.3 * np.sin(2 * np.pi * 220 * seconds), 24_000)
    config = {"belinda": {"transcript": "A tone of one second.", "audio_file": "belinda.wav"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = Settings(model_id="tiny", device="cpu", voices_dir=voice_folder(tmp_path_factory.mktemp("voices")))
    with serving(settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _left_idle(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a request behind in the shared server."""
    yield
    if "server" in request.fixturenames:
        wait_until(request.getfixturevalue("server").idle)
