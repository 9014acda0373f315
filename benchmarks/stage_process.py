"""One process that runs stages, seen from the side that starts it: commands, messages, its end and its log."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.stage_context import Settings
from benchmarks.stage_list import Stage

Message = dict[str, Any]

_ROOT = Path(__file__).parents[1]
_AFTER_KILL = 30.0  # seconds until a killed process is given up: the driver may hold it
_TO_ANSWER = 1.0  # seconds for the traceback of a process that hangs
_LOG_KEPT = 2500  # characters of the log's end that go into the report


class StageProcessError(Exception):
    """The process ended, or its time was up; the message says which."""


class TimeUp(StageProcessError):
    pass


class StageProcess:
    """Started at once. log: a file for what it prints, its warnings and its tracebacks among them."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._log = log
        self._log_start = 0
        self._until = 0.0
        self._unfinished = b""
        receiving, sending = os.pipe()
        environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", **os.environ}
        if settings.dry_run:
            environment.setdefault(
                "OMP_NUM_THREADS", "1"
            )  # the model is tiny: a second thread costs more than it gives
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.stage_worker", json.dumps(asdict(settings)), str(sending)],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(sending,),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone; and a group that ends together
            )
        os.close(sending)
        self._receiving = receiving
        self._selector = selectors.DefaultSelector()
        self._selector.register(receiving, selectors.EVENT_READ)

    def run(self, stage: Stage, seconds: float) -> Iterator[Message]:
        """Messages of a stage as they come, the one with "end" last. Raises TimeUp and StageProcessError."""
        self._log_start = self._log.stat().st_size
        self.allow(seconds)
        command = {"name": stage.name, "function": stage.function, "seconds": seconds}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(command) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise StageProcessError(self._why_it_ended()) from None
        while True:
            for message in self._received():
                yield message
                if "end" in message:
                    return

    def allow(self, seconds: float) -> None:
        """The process may take so long from now on."""
        self._seconds, self._until = seconds, time.monotonic() + seconds

    def log_end(self) -> str:
        """The last lines that the process printed during the current stage."""
        with self._log.open("rb") as file:
            file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - _LOG_KEPT))
            return file.read().decode(errors="replace").strip()

    def end(self) -> None:
        """Kill it and what it has started, and wait until it is gone and its memory with it."""
        with contextlib.suppress(ProcessLookupError):  # of a group whose processes have all ended
            os.killpg(self._process.pid, signal.SIGKILL)
        # A kernel that hangs may hold it; the next process must do with the memory that is left.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_AFTER_KILL)
        self._selector.close()
        os.close(self._receiving)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _received(self) -> list[Message]:
        """Wait for output, and return the complete messages."""
        if not self._selector.select(max(self._until - time.monotonic(), 0.0)):
            self._ask_where_it_hangs()
            raise TimeUp(f"it took longer than {self._seconds:.0f} s")
        data = os.read(self._receiving, 1 << 16)
        if not data:
            raise StageProcessError(self._why_it_ended())
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _ask_where_it_hangs(self) -> None:
        """Its log gets a traceback of every thread."""
        self._process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_TO_ANSWER)

    def _why_it_ended(self) -> str:
        try:
            code = self._process.wait(_AFTER_KILL)
        except subprocess.TimeoutExpired:
            return "its process closed its output"
        if code >= 0:
            return f"its process ended with status {code}"
        return f"its process was ended by {signal.Signals(-code).name}"
