"""The worker with a step or a codec call that hangs when its test says so, and a watchdog whose time stands still.

`Hang` is the test's side, of files in one folder: `begin` makes the next call hang, `hung` says that one does, and
`let_time_pass` lets the watchdog's clock run from then on. So no slow machine makes a call overdue.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER, WHERE = "HANG_FOLDER", "HANG_WHERE"
MODULE = "tests.helpers.hanging_worker"


class Hang:
    """where: "decode step", "codec"."""

    def __init__(self, folder: Path, where: str) -> None:
        self._folder, self._where = folder, where

    @property
    def environment(self) -> dict[str, str]:
        return {FOLDER: str(self._folder), WHERE: self._where, "HIGGS_AUDIO_HANG_SECONDS": "1"}

    def begin(self) -> None:
        (self._folder / "begin").touch()

    @property
    def hung(self) -> bool:
        return (self._folder / "hung").exists()

    def let_time_pass(self) -> None:
        (self._folder / "time").touch()

    def reach(self) -> None:
        """In the worker, ahead of each call: hang if the test has said so."""
        if (self._folder / "begin").exists():
            (self._folder / "hung").touch()
            threading.Event().wait()

    def clock(self) -> float:
        return time.monotonic() if (self._folder / "time").exists() else 0.0


def _install(hang: Hang, where: str) -> None:
    from higgs_core import engine
    from higgs_core.codec.audio_codec import AudioCodec
    from higgs_core.runtime.decode_step import DecodeStep
    from serverless import http_server

    def hanging(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            hang.reach()
            return call(*arguments)

        return run

    class Engine(engine.HiggsAudioEngine):
        def __init__(self, parts: Any, **options: Any) -> None:
            super().__init__(parts, **options, clock=hang.clock)

    owner, name = {"decode step": (DecodeStep, "launch"), "codec": (AudioCodec, "decode")}[where]
    setattr(owner, name, hanging(getattr(owner, name)))
    engine.HiggsAudioEngine = Engine  # type: ignore[misc]
    engine.CLOSE_SECONDS = 0.5
    http_server.DRAIN_SECONDS = 1


if __name__ == "__main__":
    _install(Hang(Path(os.environ[FOLDER]), os.environ[WHERE]), os.environ[WHERE])
    from serverless import runpod_worker

    sys.exit(runpod_worker.main())
