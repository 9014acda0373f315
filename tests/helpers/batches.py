"""Batches of the client in processes of their own, which can be killed, interrupted and kept short of disk space."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE


def manifest(folder: Path, count: int) -> tuple[Path, dict[str, str]]:
    """A manifest, and the text of each file that it asks for."""
    texts = {f"line-{number}.wav": f"This is line {number}." for number in range(count)}
    file = folder / "manifest.jsonl"
    lines = [json.dumps({"input": {"script": text}, "id": name.removesuffix(".wav")}) for name, text in texts.items()]
    file.write_text("\n".join(lines) + "\n")
    return file, texts


@contextmanager
def client_process(*arguments: str, largest_file: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """`python -m serverless.client`, killed with the block if it runs. largest_file: bytes of any that it writes."""

    def prepare() -> None:
        # What starts the tests in the background may ignore the signal, and a process inherits that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    process = subprocess.Popen(
        [sys.executable, "-m", "serverless.client", *arguments],
        cwd=ROOT,
        env={**os.environ, "RUNPOD_API_KEY": "rp_secret"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def batch(
    api: str, source: Path, output: Path, *more: str, largest_file: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A batch at a queue endpoint."""
    where = ["batch", str(source), "-o", str(output), "--endpoint", "e1", "--api", api]
    with client_process(*where, *more, largest_file=largest_file) as process:
        yield process


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit status, and what it wrote to stdout and stderr."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err
