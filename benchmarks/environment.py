"""The machine, the versions and the commit that figures belong to. Loads no torch by itself."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchaudio", "transformers", "triton", "numpy", "safetensors")
_CARD_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "power.limit",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
    "pcie.link.gen.current",
    "pcie.link.width.current",
)
"""Of nvidia-smi: MB, W, MHz and degrees."""
_LOAD_FIELDS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")
_PATIENCE = 10.0  # seconds that nvidia-smi or git may take


def software() -> dict[str, Any]:
    """Date, commit, processor and the versions of what is installed."""
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def commit() -> str:
    """Of the source tree, with "+" behind it where files were changed; "unknown" outside a repository."""
    folder = Path(__file__).parent
    head = _output(["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"])
    if not head:
        return "unknown"
    changed = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return head.strip() + ("+" if changed else "")


def card(identity: str | None = None) -> dict[str, str]:
    """What nvidia-smi says of a card; empty without it. identity: "GPU-...", as its `uuid`; None is the first card."""
    return _card_fields(_CARD_FIELDS, identity)


def card_under_load(identity: str | None = None) -> dict[str, str]:
    """Clocks, power and temperature at this moment."""
    return _card_fields(_LOAD_FIELDS, identity)


def _card_fields(fields: tuple[str, ...], identity: str | None) -> dict[str, str]:
    chosen = ["-i", identity or "0"]
    asked = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", *chosen]
    values = (_output(asked) or "").strip().split(", ")
    if len(values) != len(fields):
        return {}
    return {name.replace(".", "_"): value for name, value in zip(fields, values, strict=True)}


def _output(command: list[str]) -> str | None:
    """What a command prints; None when it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
