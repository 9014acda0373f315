"""Writes what is in the image and under which terms: lists in CycloneDX, and the licence texts of the Python packages.

    python deploy/image/notices.py --python /usr/local/bin/python --into /licenses

Runs in an environment that has cyclonedx-bom; --python names the interpreter whose packages are listed. It writes
sbom/python.cdx.json, sbom/debian.cdx.json, python.md (a line a package) and python/NAME/ (its texts). Debian keeps its
own in /usr/share/doc/PACKAGE/copyright.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

_TEXT_NAMES = ("LICEN", "COPYING", "NOTICE", "AUTHORS", "COPYRIGHT", "EULA")


def site_packages(python: str) -> str:
    """Where the packages of an interpreter are."""
    program = "import sysconfig; print(sysconfig.get_path('platlib'))"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def terms(package: Distribution) -> str:
    """The licence that a package names: its SPDX expression, else its field, else its classifiers."""
    metadata = package.metadata
    expression = metadata.get("License-Expression") or metadata.get("License") or ""
    if expression and "\n" not in expression.strip() and len(expression) < 100:
        return expression.strip()
    classes = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License ::")
    ]
    return ", ".join(classes) or "not named"


def texts(package: Distribution) -> Iterator[Path]:
    """The licence texts that a package installed among its metadata."""
    for file in package.files or []:
        if ".dist-info" in file.parts[0] and file.name.upper().startswith(_TEXT_NAMES):
            path = Path(str(file.locate()))
            if path.is_file():
                yield path


def write_python_notices(packages: Iterable[Distribution], into: Path) -> None:
    """Write python.md and python/NAME/."""
    rows = ["| package | version | licence | texts |\n", "|---|---|---|---|\n"]
    for package in sorted(packages, key=lambda package: package.name.lower()):
        folder, names = into / "python" / package.name, []
        for number, text in enumerate(texts(package)):
            folder.mkdir(parents=True, exist_ok=True)
            names.append(text.name if text.name not in names else f"{number}-{text.name}")
            shutil.copyfile(text, folder / names[-1])
        where = ", ".join(f"python/{package.name}/{name}" for name in names) or "none in the package"
        rows.append(f"| {package.name} | {package.version} | {terms(package)} | {where} |\n")
    (into / "python.md").write_text("".join(rows), encoding="utf-8")


def write_python_sbom(python: str, into: Path) -> None:
    """Write sbom/python.cdx.json."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", python, "--output-reproducible"]
    subprocess.run([*command, "--output-file", str(into / "sbom/python.cdx.json")], check=True)


def write_debian_sbom(into: Path) -> None:
    """Write sbom/debian.cdx.json."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    form = "${Package}\t${Version}\t${Architecture}\n"
    listing = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True).stdout
    bom = Bom()
    for line in listing.splitlines():
        name, version, architecture = line.split("\t")
        url = PackageURL("deb", "debian", name, version, {"arch": architecture})
        bom.components.add(
            Component(name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=url.to_string())
        )
    (into / "sbom/debian.cdx.json").write_text(JsonV1Dot6(bom).output_as_string(indent=2), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the lists and the licence texts of what is in the image.")
    parser.add_argument("--python", required=True, help="the interpreter whose packages are listed")
    parser.add_argument("--into", type=Path, required=True, help="the folder that is written to")
    options = parser.parse_args()
    (options.into / "sbom").mkdir(parents=True, exist_ok=True)
    write_python_notices(distributions(path=[site_packages(options.python)]), options.into)
    write_python_sbom(options.python, options.into)
    write_debian_sbom(options.into)


if __name__ == "__main__":
    main()
