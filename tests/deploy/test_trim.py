"""What deploy/image/trim.py deletes, and that it notices a library that something is linked to."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.scripts import script

TRIM = script("deploy/image/trim.py")
needs_a_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")


def put(site: Path, *names: str) -> None:
    for name in names:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(b"x" * 1000)


def library(path: Path, *linked: Path, options: tuple[str, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-x", "c", "/dev/null", *options, f"-Wl,-soname,{path.name}", "-o", str(path)]
    command += ["-Wl,--no-as-needed", "-x", "none", *map(str, linked)]
    subprocess.run(command, check=True)


def test_what_is_unused_goes_and_the_rest_stays(tmp_path: Path) -> None:
    gone = [
        *("torch/include/ATen/a.h", "torch/bin/ptxas", "nvidia/cu13/include/cuda.h", "nvidia/nccl/include/nccl.h"),
        *("nvidia/cu13/lib/libnvrtc.alt.so.13", "nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12", "numpy/fft/tests/a.py"),
        *("botocore/data/ec2/2016-11-15/service-2.json.gz", "triton/backends/nvidia/lib/cupti/libcupti.so"),
    ]
    kept = [
        *("torch/bin/torch_shm_manager", "nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cu13/lib/libnvrtc-builtins.so.13.0"),
        *("triton/backends/nvidia/include/cuda.h", "triton/backends/nvidia/bin/ptxas", "numpy/fft/a.py", "torch/a.py"),
        *("triton/backends/nvidia/bin/ptxas-blackwell", "triton/backends/nvidia/lib/libdevice.10.bc"),
        *("botocore/data/s3/2006-03-01/service-2.json.gz", "botocore/data/endpoints.json", "numpy/testing/a.py"),
    ]
    put(tmp_path, *gone, *kept)
    assert TRIM.trim(tmp_path) == 1000 * len(gone)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
    assert TRIM.trim(tmp_path) == 0


def test_what_the_installed_packages_open_by_name_stays() -> None:
    """Triton's compilers and headers, torch's helper for shared memory: each at the place where it is looked for."""
    site = Path(str(importlib.util.find_spec("torch").origin)).parents[1]  # type: ignore[union-attr]
    going = TRIM.unused(site)
    for name in (
        *("triton/backends/nvidia/bin/ptxas", "triton/backends/nvidia/bin/ptxas-blackwell", "triton/_C/libtriton.so"),
        *("triton/backends/nvidia/include/cuda.h", "triton/backends/nvidia/lib/libdevice.10.bc"),
        *("torch/bin/torch_shm_manager", "torch/lib/libtorch_cuda_linalg.so", "botocore/data/partitions.json"),
    ):
        path = site / name
        assert path.exists(), name
        assert not {path, *path.parents}.intersection(going), name


@needs_a_compiler
def test_a_library_that_another_is_linked_to_is_not_deleted_in_silence(tmp_path: Path) -> None:
    needed = tmp_path / "nvidia/cu14/lib/libcusolverMg.so.14"
    library(needed)
    library(tmp_path / "torch/lib/libtorch_cuda.so", needed)
    with pytest.raises(SystemExit, match=r"libtorch_cuda\.so is linked to libcusolverMg\.so\.14"):
        TRIM.trim(tmp_path)


@needs_a_compiler
def test_debug_information_goes_once(tmp_path: Path) -> None:
    triton = tmp_path / "triton/_C/libtriton.so"
    triton.parent.mkdir(parents=True)
    subprocess.run(
        ["gcc", "-g", "-shared", "-x", "c", "-", "-o", str(triton)], input=b"int f(void){return 1;}\n", check=True
    )
    assert TRIM.has_debug_info(triton)
    assert TRIM.trim(tmp_path) > 0
    assert not TRIM.has_debug_info(triton)
    written = triton.stat().st_mtime_ns
    assert TRIM.trim(tmp_path) == 0
    assert triton.stat().st_mtime_ns == written
