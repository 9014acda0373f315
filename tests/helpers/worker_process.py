"""The real worker as a process of its own, its log in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.fake_platform import FakePlatform
from tests.helpers.paths import ASSETS, ROOT
from tests.helpers.patience import PATIENCE


class WorkerProcess:
    """`python -m MODULE` with the tiny model, on a fake platform. Use as a context manager."""

    def __init__(
        self, platform: FakePlatform, log: Path, *, module: str = "serverless.runpod_worker", **environment: str
    ) -> None:
        self._platform = platform
        self._log = log
        self._module = module
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RUNPOD_", "HIGGS_AUDIO_", "BUCKET_", "HF_"))
        }
        self.environment = {
            **inherited,
            **platform.environment(),
            "HIGGS_AUDIO_MODEL_ID": "tiny",
            "HIGGS_AUDIO_DEVICE": "cpu",
            "HIGGS_AUDIO_REFERENCE_DIRS": str(ASSETS),
            "HIGGS_AUDIO_VOICES_DIR": str(ASSETS),
            "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS": "true",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WorkerProcess:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self) -> None:
        """Wait for the first poll for a job: the worker loads before it asks for work."""
        before = self._platform.polls
        deadline = time.monotonic() + PATIENCE
        while self._platform.polls == before:
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"the worker did not ask for a job:\n{self.log}"
            time.sleep(0.05)

    def sigterm(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait_for_exit(self) -> int:
        return self.process.wait(PATIENCE)
