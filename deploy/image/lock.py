"""Writes the lock files of the image into deploy/runpod/locks/: each wheel that it installs, with its sha256.

    .venv/bin/python deploy/image/lock.py [cu126] [cu128] [cu130]        cu130 when none is named

torch-CUDA.txt holds torch, torchaudio, Triton and the CUDA libraries of one CUDA version; packages.txt everything else,
the same for every CUDA version; sbom.txt the tool that lists what is in the image, which does not stay there.

PyPI's wheels of torch are those for CUDA 13.0, so cu130 needs PyPI alone; the others need download.pytorch.org too.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy/runpod/locks"
REQUIREMENTS = ROOT / "requirements-runpod.txt"
CONSTRAINTS = ROOT / "deploy/runpod/constraints.txt"
SBOM = "cyclonedx-bom==7.5.0\n"
HEADER = "# Made by deploy/image/lock.py: the wheels for CPython 3.11 on x86_64, each with its sha256.\n"
LEFT_OUT = ("docopt",)
"""Required in name only: the command line of num2words uses it, its library does not. It has no wheel."""

WITH_PYPI = "cu130"
"""The CUDA version of the wheels of torch that PyPI has."""

_FAMILY = re.compile(r"torch|torchaudio|triton|cuda-\w+|nvidia-[\w-]+")
_GLIBC = 36  # Debian 12
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC, 4, -1)]
_PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
_TAGS = [*cpython_tags((3, 11), platforms=_PLATFORMS), *compatible_tags((3, 11), "cp311", _PLATFORMS)]
_RANKS = {tag: rank for rank, tag in enumerate(_TAGS)}


def resolve(requirements: str, *options: str) -> list[dict[str, Any]]:
    """The packages that the lines of `requirements` come to, as uv resolves them for the image; wheels alone.

    A source package would run its own code when it is installed.  Raises CalledProcessError when uv finds no solution.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted, lock, overrides = Path(folder, "wanted.in"), Path(folder, "pylock.toml"), Path(folder, "overrides.txt")
        wanted.write_text(requirements)
        overrides.write_text("".join(f"{name}; python_version < '3'\n" for name in LEFT_OUT))  # for no Python at all
        command = [sys.executable, "-m", "uv", "pip", "compile", str(wanted), "--output-file", str(lock)]
        command += ["--format", "pylock.toml", "--python-version", "3.11", "--only-binary", ":all:", "--no-config"]
        command += ["--python-platform", "x86_64-manylinux_2_28", "--quiet", *options]
        command += ["--override", str(overrides)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return list(tomllib.loads(lock.read_text())["packages"])


def wheel_for_the_image(package: dict[str, Any]) -> dict[str, Any]:
    """The wheel of a package that pip would take in the image. Raises SystemExit when there is none."""

    def rank(wheel: dict[str, Any]) -> int:
        name = wheel.get("name") or unquote(wheel["url"].rpartition("/")[2])
        tags: Iterable[Tag] = parse_wheel_filename(name)[3]
        return min((_RANKS[tag] for tag in tags if tag in _RANKS), default=len(_RANKS))

    best = min(package["wheels"], key=rank)
    if rank(best) == len(_RANKS):
        raise SystemExit(f"{package['name']} {package['version']} has no wheel for CPython 3.11 on x86_64 Linux.")
    return best


def lines(packages: Iterable[dict[str, Any]]) -> str:
    """A line a package, in the form that pip --require-hashes reads."""
    return "".join(
        f"{package['name']}=={package['version']} --hash=sha256:{wheel_for_the_image(package)['hashes']['sha256']}\n"
        for package in packages
    )


def lock_torch(cuda: str) -> None:
    """Write torch-CUDA.txt."""
    pins = re.findall(r"^(?:torch|torchaudio)==.+$", REQUIREMENTS.read_text(), re.MULTILINE)
    index, options = "", ["--constraint", str(CONSTRAINTS)]
    if cuda != WITH_PYPI:
        address = f"https://download.pytorch.org/whl/{cuda}"
        pins = [f"{pin}+{cuda}" for pin in pins]
        index, options = f"--extra-index-url {address}\n", [*options, "--extra-index-url", address]
        options += ["--index-strategy", "unsafe-best-match"]  # hashes make it safe
    family = [package for package in resolve("\n".join(pins), *options) if _FAMILY.fullmatch(package["name"])]
    (LOCKS / f"torch-{cuda}.txt").write_text(HEADER + index + lines(family))


def lock_packages() -> None:
    """Write packages.txt and sbom.txt."""
    packages = resolve(REQUIREMENTS.read_text(), "--constraint", str(CONSTRAINTS))
    rest = [package for package in packages if not _FAMILY.fullmatch(package["name"])]
    (LOCKS / "packages.txt").write_text(HEADER + lines(rest))
    (LOCKS / "sbom.txt").write_text(HEADER + lines(resolve(SBOM)))


def main() -> None:
    LOCKS.mkdir(exist_ok=True)
    for cuda in sys.argv[1:] or [WITH_PYPI]:
        lock_torch(cuda)
    lock_packages()


if __name__ == "__main__":
    main()
