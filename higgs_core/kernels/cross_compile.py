"""Compiles Triton kernels for GPUs that this machine does not have."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

log = logging.getLogger(__name__)


class _CompilingDriver:
    """Takes the place of Triton's CUDA driver where only the target is needed."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        return self._capability  # Triton caches kernels per device, so every target counts as a device

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(capability: int) -> Iterator[list[Any]]:
    """Inside, every launch of a Triton kernel compiles it for the capability (90 is 9.0) instead of running it.

    Yields the list of compiled kernels without duplicates, in the order of their first launches.
    """
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    compiled: list[Any] = []
    run, before = JITFunction.run, driver._active

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        if not any(kernel is other for other in compiled):
            compiled.append(kernel)

    driver.set_active(_CompilingDriver(capability))
    JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        JITFunction.run = run
        driver._active = before


def build_launch_stubs(kernels: list[Any]) -> None:
    """Build the C functions with which Triton launches kernels, and its driver utilities, into Triton's cache.

    Does nothing without a C compiler; the machine that runs the kernels then needs one.
    """
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning("No C compiler here, so the launch stubs are left to the machine that runs the kernels")
        return
    from triton.backends.nvidia import driver

    # Compilations of a kernel for the same argument types share a stub.
    distinct = {(kernel.src.fn.__name__, str(kernel.src.signature)): kernel for kernel in kernels}.values()
    builds = [driver.CudaUtils, *(partial(driver.CudaLauncher, kernel.src, kernel.metadata) for kernel in distinct)]
    with _empty_cuda_driver(compiler):
        for build in builds:
            with suppress(ImportError):  # the file is in the cache; only loading it needs the real driver
                build()


@contextmanager
def _empty_cuda_driver(compiler: str) -> Iterator[None]:
    """Inside, Triton's stubs link to an empty library named like the CUDA driver, which may not be installed here."""
    from triton import knobs
    from triton.backends.nvidia import driver

    def clear_caches() -> None:
        driver.libcuda_dirs.cache_clear()
        driver.library_dirs.cache_clear()

    build_log = logging.getLogger("triton.runtime.build")
    level, before = build_log.level, knobs.nvidia.libcuda_path
    with tempfile.TemporaryDirectory() as folder:
        empty = [compiler, "-shared", "-x", "c", "/dev/null", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so.1"]
        subprocess.run(empty, cwd=folder, check=True)
        knobs.nvidia.libcuda_path = folder
        build_log.setLevel(logging.CRITICAL)
        clear_caches()
        try:
            yield
        finally:
            knobs.nvidia.libcuda_path = before
            build_log.setLevel(level)
            clear_caches()
