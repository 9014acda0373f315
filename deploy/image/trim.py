"""Deletes from site-packages what the worker never loads, and checks that nothing that stays is linked to it.

    python deploy/image/trim.py [SITE_PACKAGES]        this interpreter's own when none is named

Run in the layer that installed the files, as a later layer would only hide them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

UNUSED = (
    # To compile extensions against: headers and static libraries. Triton has its own cuda.h.
    *("torch/include", "torch/share", "nvidia/**/include", "nvidia/**/*.a", "triton/backends/nvidia/lib/cupti"),
    # Tools of torch.compile and of building torch; Triton brings the assemblers that it uses.
    *("torch/bin/protoc*", "torch/bin/ptxas*", "triton/FileCheck", "triton/_C/libproton.so", "triton/instrumentation"),
    *("triton/backends/nvidia/bin/cuobjdump", "triton/backends/nvidia/bin/nvdisasm"),
    # CUDA libraries that torch neither links nor opens: a second NVRTC, several GPUs in one solver, hardware counters.
    *("nvidia/**/libnvrtc.alt.so*", "nvidia/**/libnvrtc-builtins.alt.so*", "nvidia/**/libcusolverMg.so*"),
    *("nvidia/**/libnvperf_*.so*", "nvidia/**/libcheckpoint.so*", "nvidia/**/libpcsamplingutil.so*"),
    # NVSHMEM between machines; its host library stays, as torch is linked to it.
    *("nvidia/nvshmem/lib/libnvshmem_device.bc", "nvidia/nvshmem/lib/nvshmem_transport_*", "nvidia/nvshmem/bin"),
    # Swagger UI: its style sheet and one script are served.
    *("swagger_ui_bundle/**/*.map", "swagger_ui_bundle/**/*.png", "swagger_ui_bundle/**/swagger-ui-es-bundle*.js"),
    # Tests of packages.
    *("numpy/**/tests", "scipy/**/tests", "sympy/**/tests", "networkx/**/tests", "mpmath/tests", "**/*.pyi"),
)

AWS_SERVICES = {"s3", "sts", "sso", "sso-oidc", "signin"}
"""Of botocore's descriptions of four hundred services: S3, and what its credentials may come from."""

DEBUG_INFO = ("triton/_C/libtriton.so",)
"""Libraries that come with debug information, more than half of their size."""


def unused(site: Path) -> list[Path]:
    """The files and folders below `site` that go, none inside another."""
    found = {path for pattern in UNUSED for path in site.glob(pattern)}
    services = site / "botocore/data"
    if services.is_dir():
        found |= {path for path in services.iterdir() if path.is_dir() and path.name not in AWS_SERVICES}
    return sorted(path for path in found if not found.intersection(path.parents))


def needed_libraries(site: Path) -> dict[str, Path]:
    """The name of each library that a library below `site` is linked to, with one that is."""
    libraries = [path for path in site.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    listing = subprocess.run(
        ["readelf", "-d", *map(str, libraries)], capture_output=True, text=True, check=False
    ).stdout
    needed, current = {}, libraries[0] if libraries else site
    for line in listing.splitlines():
        if line.startswith("File: "):
            current = Path(line.removeprefix("File: "))
        elif found := re.search(r"\(NEEDED\).*\[(.+)\]", line):
            needed[found[1]] = current
    return needed


def has_debug_info(library: Path) -> bool:
    """Whether there is any to strip: stripping writes the file anew, and so into a layer, even where there is none."""
    sections = subprocess.run(["readelf", "-SW", str(library)], capture_output=True, text=True, check=False).stdout
    return ".debug_info" in sections


def size(path: Path) -> int:
    """Bytes of a file or of everything below a folder."""
    files = [path] if not path.is_dir() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.lstat().st_size for file in files)


def trim(site: Path) -> int:
    """Delete what is unused; returns how many bytes went. Raises SystemExit when a library that stays needs one."""
    going = unused(site)
    names = {file.name for path in going for file in ([path] if not path.is_dir() else path.rglob("*"))}
    before = size(site)
    for path in going:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for library in filter(has_debug_info, map(site.joinpath, DEBUG_INFO)):
        subprocess.run(["strip", "--strip-debug", str(library)], check=True)
    left = {path.name for path in site.rglob("*.so*")}
    for library, owner in needed_libraries(site).items():
        if library in names - left:
            raise SystemExit(f"{owner} is linked to {library}, which trim.py deletes: take it out of UNUSED.")
    return before - size(site)


if __name__ == "__main__":
    gone = trim(Path((sys.argv[1:] or [sysconfig.get_path("platlib")])[0]))
    sys.stdout.write(f"{gone / 1e6:.0f} MB that the worker never loads are gone\n")
