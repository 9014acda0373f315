"""The lock files of the image: whole, with a hash for each wheel, and what the tests ran with."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.paths import ROOT
from tests.helpers.scripts import script

LOCKS = ROOT / "deploy/runpod/locks"
TORCH_LOCKS = sorted(LOCKS.glob("torch-*.txt"), key=lambda path: path.name)
LINE = re.compile(r"([a-z0-9-]+)==([^ ]+) --hash=sha256:[0-9a-f]{64}")
LOCK = script("deploy/image/lock.py")
IN_THE_IMAGE = {
    "platform_system": "Linux",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "python_version": "3.11",
    "python_full_version": "3.11.15",
    "extra": "",
}


def locked(path: Path) -> dict[str, str]:
    """Names and versions; fails for a line that could install something without a hash."""
    found = {}
    for line in path.read_text().splitlines():
        if line.startswith(("#", "--extra-index-url https://download.pytorch.org/whl/")):
            continue
        match = LINE.fullmatch(line)
        assert match, f"{path.name}: {line}"
        assert match[1] not in found
        found[match[1]] = match[2]
    return found


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda path: path.name)
def test_every_line_is_one_version_with_one_hash(path: Path) -> None:
    assert len(locked(path)) > 15


def test_the_locks_pin_what_the_tests_ran_with() -> None:
    packages, constraints = locked(LOCKS / "packages.txt"), pinned("deploy/runpod/constraints.txt")
    assert packages.items() >= constraints.items()
    assert set(packages) - set(constraints) == {"setuptools"}  # of torch; the base has one of its own
    wanted = pinned("requirements-runpod.txt")
    for path in TORCH_LOCKS:
        both = {**packages, **locked(path)}
        assert {name: both[name].partition("+")[0] for name in wanted} == wanted


@pytest.mark.parametrize("path", TORCH_LOCKS, ids=lambda path: path.stem)
def test_torch_is_of_the_cuda_version_that_the_file_is_named_after(path: Path) -> None:
    cuda, lines = path.stem.removeprefix("torch-"), path.read_text().splitlines()
    index = [line for line in lines if line.startswith("--extra-index-url")]
    family = locked(path)
    if cuda == LOCK.WITH_PYPI:
        assert index == []
        assert not any("+" in version for version in family.values())
    else:
        assert index == [f"--extra-index-url https://download.pytorch.org/whl/{cuda}"]
        assert {name for name, version in family.items() if version.endswith(f"+{cuda}")} == {"torch", "torchaudio"}
    assert {name.rpartition("-")[2] for name in family if re.search(r"-cu\d\d$", name)} == {cuda[:4]}


def test_the_default_of_the_dockerfile_has_its_lock() -> None:
    (default,) = re.findall(r"^ARG TORCH_CUDA=(\w+)$", (ROOT / "deploy/runpod/Dockerfile").read_text(), re.MULTILINE)
    assert default in {path.stem.removeprefix("torch-") for path in TORCH_LOCKS}


def test_nothing_is_required_that_is_not_locked() -> None:
    """The image installs without looking at what packages require, so that a lock that is not whole would break it."""
    everything = {**locked(LOCKS / "packages.txt"), **locked(LOCKS / f"torch-{LOCK.WITH_PYPI}.txt")}
    for name in everything:
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # only on other systems than this
        for requirement in map(Requirement, required):
            if requirement.name in LOCK.LEFT_OUT:
                continue
            if requirement.marker is None or requirement.marker.evaluate(IN_THE_IMAGE):
                assert canonicalize_name(requirement.name) in everything, f"{name} requires {requirement}"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a-1-py3-none-any.whl"], 0),
        (["a-1-cp311-cp311-musllinux_1_2_x86_64.whl", "a-1-cp311-cp311-manylinux_2_17_x86_64.whl"], 1),
        (["a-1-cp312-cp312-manylinux_2_17_x86_64.whl", "a-1-py3-none-any.whl"], 1),
        (["a-1-py3-none-any.whl", "a-1-cp39-abi3-manylinux_2_28_x86_64.whl"], 1),
        (["a-1-cp311-cp311-win_amd64.whl", "a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"], 1),
    ],
)
def test_the_wheel_is_the_one_that_pip_takes_in_the_image(names: list[str], chosen: int) -> None:
    wheels = [{"url": f"https://host/{name}", "hashes": {"sha256": str(i)}} for i, name in enumerate(names)]
    assert LOCK.lines([{"name": "a", "version": "1", "wheels": wheels}]) == f"a==1 --hash=sha256:{chosen}\n"


def test_a_package_without_a_wheel_for_the_image_is_named() -> None:
    wheels = [{"url": "https://host/a-1-cp311-cp311-win_amd64.whl", "hashes": {"sha256": "0"}}]
    with pytest.raises(SystemExit, match=r"a 1 has no wheel for CPython 3\.11"):
        LOCK.lines([{"name": "a", "version": "1", "wheels": wheels}])
