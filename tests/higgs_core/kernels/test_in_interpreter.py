"""Runs `in_interpreter/`: every Triton kernel on the CPU, beside its torch function."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE


def test_every_kernel_agrees_with_its_torch_function_in_tritons_interpreter() -> None:
    here = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here / "in_interpreter")],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
