"""Stages that end in every way in which one can end. They load no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from benchmarks.stage_context import StageContext


def fine(context: StageContext) -> None:
    context.add("fine", slots=context.settings.slots, kernels=context.settings.kernels, process=os.getpid())


def raises(context: StageContext) -> None:
    context.add("before the end", of="raises")
    raise ValueError("this is why")


def exits(context: StageContext) -> None:
    context.add("before the end", of="exits")
    os._exit(3)


def is_killed(context: StageContext) -> None:
    context.add("before the end", of="is killed")
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(context: StageContext) -> None:
    context.add("before the end", of="hangs", process=os.getpid())
    threading.Event().wait()


def hangs_with_a_child(context: StageContext) -> None:
    """As while processes of its own compile kernels."""
    child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    context.add("child", process=child.pid)
    threading.Event().wait()


def needs_memory(context: StageContext) -> None:
    """Two slots are the most for which memory reaches."""
    if context.settings.slots > 2:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    fine(context)


def crashes_with_kernels(context: StageContext) -> None:
    """As if a kernel ended the process while the engine is built."""
    context._send({"phase": "building"})
    if context.settings.kernels:
        os.abort()
    context._send({"phase": "built"})
    fine(context)


def cannot_build(context: StageContext) -> None:
    context._send({"phase": "building"})
    raise ValueError("nothing fits")
