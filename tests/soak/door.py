"""What the two doors have in common: a process, its jobs' lines, and how a lane performs a job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from tests.helpers.paths import ASSETS
from tests.helpers.processes import ModuleProcess
from tests.soak.answers import Answer
from tests.soak.job_lines import JobLines
from tests.soak.ledger import Ledger
from tests.soak.planned import Door, Planned

MAX_REQUEST_BYTES = 3_000_000
ENVIRONMENT = {
    "HIGGS_AUDIO_REFERENCE_DIRS": str(ASSETS),
    "HIGGS_AUDIO_VOICES_DIR": str(ASSETS),
    "HIGGS_AUDIO_VOICES_READ_ONLY": "1",
    "HIGGS_AUDIO_MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES),
    "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS": "true",  # the clips' server is on loopback
    "RUNPOD_ENDPOINT_ID": "endpoint",  # the log in lines of JSON, as on the platform
}


class WatchedDoor(ABC):
    """One entry point as a process of its own, and the account of what was sent to it."""

    name: Door

    def __init__(self, process: ModuleProcess, log: Path) -> None:
        self.process = process
        self.ledger = Ledger(self.name)
        self.lines = JobLines(log)

    def perform(self, planned: Planned) -> None:
        """Send one job as its client would, and settle it in the ledger."""
        self.ledger.send(planned)
        try:
            answer = self._answer(planned)
        except Exception as error:  # whatever a broken answer raises
            self.ledger.break_off(planned, f"{type(error).__name__}: {error}"[:200])
        else:
            if answer is None:
                self.ledger.lose(planned)
            else:
                self.ledger.settle(planned, answer)

    @abstractmethod
    def wait_until_ready(self) -> None:
        """Until its model is loaded and it takes jobs."""

    @abstractmethod
    def wait_until_idle(self) -> None:
        """Until nothing that was sent is under way."""

    @abstractmethod
    def end(self) -> int:
        """Tell the process to stop, as the platform does, and wait for it. Its exit status."""

    @abstractmethod
    def reconcile(self) -> None:
        """Compare what was answered with the lines of the process's log, once it is idle."""

    @abstractmethod
    def _answer(self, planned: Planned) -> Answer | None:
        """None: no answer came. Raises whatever a broken answer makes it raise."""
