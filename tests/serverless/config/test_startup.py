"""How a process is ended that cannot end by itself. Each end is that of a real process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

STUCK = "import threading; threading.Thread(target=threading.Event().wait).start()\n"
"""A thread that is waited for at the interpreter's end, for ever."""

CHILD = """
import multiprocessing, os, sys, threading
child = multiprocessing.get_context('fork').Process(target=threading.Event().wait, daemon=True)
child.start()
print('started', flush=True)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize(("clean", "status"), [(True, 0), (False, 1)], ids=["after an orderly end", "after a failure"])
def test_a_thread_that_hangs_does_not_keep_the_process_alive(clean: bool, status: int) -> None:
    done = run(
        f"{STUCK}import sys\nfrom serverless.config import startup\nstartup.EXIT_SECONDS = 0.1\n"
        f"sys.stdout.write('last words')\nsys.exit(startup.leave({status}, clean={clean}))"
    )
    assert done.returncode == status
    assert done.stdout == "last words", "what was written is flushed"


def test_what_the_process_has_started_ends_with_it() -> None:
    """The SDK's pings come from a process of their own, and would say that the worker lives.

    A child that lived on would hold the output open, whose end `run` waits for.
    """
    done = run(f"{CHILD}from serverless.config.startup import end_process\nend_process()")
    assert done.returncode == 1
    assert done.stdout == "started\n"


def test_an_output_that_nobody_reads_any_more_does_not_keep_it_alive() -> None:
    code = f"{STUCK}import sys\nfrom serverless.config.startup import end_process\nprint('x')\nsys.stdout.close()\n"
    assert run(f"{code}end_process(3)").returncode == 3
