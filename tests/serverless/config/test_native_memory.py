"""What glibc keeps of memory that was freed, seen in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading

import pytest

from serverless.config import native_memory
from serverless.config.native_memory import EVERY_JOBS, FreedMemory
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE, wait_until

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

# Threads that all allocate at once, each of which would have an arena of its own.
ARENAS_OF_MANY_THREADS = """
import ctypes, os, sys, threading
from serverless.config.native_memory import bound_arenas
bound_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(12)
def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""

# Every second of many small blocks is freed, so that none of the heap's end is free.
BLOCKS_BETWEEN_BLOCKS = """
import ctypes
from serverless.config.native_memory import give_back_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
blocks = []
for _ in range(1000):
    block = libc.malloc(100_000)
    ctypes.memset(ctypes.c_void_p(block), 1, 100_000)
    blocks.append(block)
for block in blocks[::2]:
    libc.free(ctypes.c_void_p(block))
before = resident()
give_back_freed_memory()
print(before - resident())
"""


def output_of(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout


@glibc_only
def test_many_threads_share_two_arenas() -> None:
    assert output_of(ARENAS_OF_MANY_THREADS).count("<heap nr=") == 2


@glibc_only
@pytest.mark.parametrize("variable", [{"MALLOC_ARENA_MAX": "3"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=3"}])
def test_the_environment_has_the_last_word(variable: dict[str, str]) -> None:
    assert output_of(ARENAS_OF_MANY_THREADS, **variable).count("<heap nr=") == 3


@glibc_only
def test_what_was_freed_between_other_blocks_is_given_back() -> None:
    assert float(output_of(BLOCKS_BETWEEN_BLOCKS)) > 30


class Given:
    """Stands for malloc: every call of it is counted and lasts until it is let go on."""

    def __init__(self) -> None:
        self.times = 0
        self.go_on = threading.Semaphore(0)

    def __call__(self) -> None:
        self.times += 1
        assert self.go_on.acquire(timeout=PATIENCE)


def test_memory_is_given_back_after_every_so_many_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_memory, "QUIET_SECONDS", PATIENCE)
    given = Given()
    jobs = FreedMemory(given)
    for number in range(2 * EVERY_JOBS + 1):  # none of them waits for the call that is under way
        jobs("finished" if number % 2 else "cancelled")
    wait_until(lambda: given.times == 1)
    given.go_on.release()
    wait_until(lambda: given.times == 2)
    given.go_on.release()
    wait_until(lambda: jobs._ended.empty())
    assert given.times == 2, "one job alone is not enough"


def test_memory_is_given_back_once_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_memory, "QUIET_SECONDS", 0.01)
    given = Given()
    jobs = FreedMemory(given)
    jobs("finished")
    wait_until(lambda: given.times == 1)
    given.go_on.release()
    assert jobs._ended.empty()
