"""`python -m MODULE` as a process of its own, with the tiny model and its log in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.helpers.fake_platform import FakePlatform
from tests.helpers.paths import ASSETS, ROOT
from tests.helpers.patience import PATIENCE, wait_until

_NOT_INHERITED = ("RUNPOD_", "HIGGS_AUDIO_", "BUCKET_", "HF_")


class ModuleProcess:
    """Use as a context manager: the process starts with the block and is ended with it.

    environment: set in place of what this process has of the project's and the platform's variables.
    """

    def __init__(self, module: str, log: Path, **environment: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        self.environment = {
            **inherited,
            "HIGGS_AUDIO_MODEL_ID": "tiny",
            "HIGGS_AUDIO_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self._module = module
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, as the SDK starts a process for its pings
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        """Both of its outputs so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def assert_runs(self) -> None:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"

    def sigterm(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait_for_exit(self) -> int:
        """The exit status."""
        return self.process.wait(PATIENCE)


class WorkerProcess(ModuleProcess):
    """The queue worker, connected to a fake platform."""

    def __init__(
        self, platform: FakePlatform, log: Path, *, module: str = "serverless.runpod_worker", **environment: str
    ) -> None:
        around = {
            "HIGGS_AUDIO_REFERENCE_DIRS": str(ASSETS),
            "HIGGS_AUDIO_VOICES_DIR": str(ASSETS),
            "HIGGS_AUDIO_VOICES_READ_ONLY": "1",
            "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS": "true",
        }
        super().__init__(module, log, **{**platform.environment(), **around, **environment})
        self._platform = platform

    def ensure_ready(self) -> None:
        """Start again if it has ended, and wait until it polls for jobs: it loads before it asks for work."""
        if self.process.poll() is not None:
            self.__enter__()

        def polls() -> bool:
            self.assert_runs()
            return self._platform.open_polls > 0

        wait_until(polls)
