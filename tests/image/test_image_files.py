"""What is inside the built image: no secret, terms for everything, nothing that its user may change, no loose end."""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.helpers.image import Image

SECRETS = (
    "^-----BEGIN (RSA |EC |OPENSSH |DSA )?PRIVATE KEY-----$",
    r"\bhf_[A-Za-z]{34}\b",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bghp_[A-Za-z0-9]{36}\b",
    r"\brpa_[A-Z0-9]{40,}",
    "https?://[A-Za-z0-9._-]+:[A-Za-z0-9._-]{12,}@",
)
SECRET_NAMES = {".git", ".env", ".netrc", ".npmrc", ".pypirc", "pip.conf", "id_rsa", "id_ed25519", "token", "auth.json"}
EXAMPLE = "EXAMPLE"
"""How the keys end that Amazon's documentation shows."""


@pytest.fixture(scope="module")
def site(image: Image) -> Path:
    """The folder of the installed packages."""
    (folder,) = [path.parent for path in (image.root / "usr/local/lib").glob("python3*/*-packages/torch")]
    return folder


def layers() -> list[str]:
    """What each layer adds, a folder each: what a later layer deletes is still in an earlier one."""
    return [str(path) for path in Path(os.environ["IMAGE_STORE"], "overlay").glob("*/diff")]


def grep(*options: str) -> list[str]:
    """The lines that grep finds in all layers; those of packages that describe such secrets start with their file."""
    command = ["grep", "--recursive", "--devices=skip", *options, *layers()]
    ended = subprocess.run(command, env={"LC_ALL": "C"}, capture_output=True, text=True, errors="replace", check=False)
    assert ended.returncode in (0, 1), ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.usefixtures("image")
def test_no_layer_holds_the_token_that_the_build_was_given() -> None:
    assert grep("--files-with-matches", "--fixed-strings", "TRITON_CACHE_DIR")  # it does look
    assert grep("--files-with-matches", "--text", "--fixed-strings", os.environ["IMAGE_TOKEN"]) == []


def test_the_image_s_settings_hold_no_secret(image: Image) -> None:
    settings = json.dumps(json.loads(Path(os.environ["IMAGE_CONFIG"]).read_text()))
    assert os.environ["IMAGE_TOKEN"] not in settings
    for name in (entry.split("=", 1)[0] for entry in image.config["Env"]):
        assert not re.search(r"KEY|SECRET|PASSWORD|TOKEN(?!IZER)", name), name


@pytest.mark.usefixtures("image")
def test_no_layer_holds_what_looks_like_a_secret() -> None:
    found = grep("--binary-files=without-match", "--only-matching", "--extended-regexp", "|".join(SECRETS))
    assert [line for line in found if not line.endswith(EXAMPLE)] == []


@pytest.mark.usefixtures("image")
def test_no_layer_holds_a_file_that_is_named_like_a_secret() -> None:
    found = []
    for layer in layers():
        for parent, folders, names in os.walk(layer):
            found += [Path(parent, name) for name in {*folders, *names} & SECRET_NAMES]
    assert [path for path in found if path.is_dir() or path.stat().st_size] == []


def test_what_the_user_may_write_to_is_its_own(image: Image) -> None:
    listed = image.run(
        *("find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/dev", "-o", "-path", "/tmp", ")", "-prune"),
        *("-o", "(", "-user", "worker", "-o", "-perm", "-o+w", ")", "!", "-type", "l", "-print"),
    )
    tops = {"/".join(line.split("/")[:3]) for line in listed.stdout.splitlines()}
    assert tops <= {"/home/worker", "/opt/huggingface", "/opt/triton", "/var/tmp", "/run/lock"}


def test_no_program_runs_as_another_user_than_the_one_that_starts_it(image: Image) -> None:
    assert image.run("find", "/", "-xdev", "-type", "f", "-perm", "/6000", user="0:0").stdout == ""


def test_every_python_package_is_listed_with_its_terms(image: Image, site: Path) -> None:
    installed = {package.name.lower(): package.version for package in distributions(path=[str(site)])}
    bom = json.loads((image.root / "licenses/sbom/python.cdx.json").read_text())
    assert bom["bomFormat"] == "CycloneDX"
    listed = {component["name"].lower(): component["version"] for component in bom["components"]}
    assert installed.items() <= listed.items()
    table = (image.root / "licenses/python.md").read_text().lower()
    for name, version in installed.items():
        assert f"| {name} | {version} |" in table
    assert table.count("none in the package") < len(installed) / 5
    for path in re.findall(r"python/[^,|]+(?=[,|])", (image.root / "licenses/python.md").read_text()):
        assert (image.root / "licenses" / path.strip()).is_file()


def test_every_debian_package_is_listed_and_has_its_terms(image: Image) -> None:
    status = (image.root / "var/lib/dpkg/status").read_text()
    stanzas = [stanza for stanza in status.split("\n\n") if "\nStatus: install ok installed\n" in stanza]
    installed = [stanza.split("\n")[0].removeprefix("Package: ") for stanza in stanzas]
    bom = json.loads((image.root / "licenses/sbom/debian.cdx.json").read_text())
    assert set(installed) == {component["name"] for component in bom["components"]}
    assert {"ffmpeg", "tini", "gcc-12"} <= set(installed)
    documents = image.root / "usr/share/doc"
    folders = [documents / name for name in installed]
    without = [folder for folder in folders if not (folder.is_symlink() or (folder / "copyright").is_file())]
    assert without == []


def test_the_project_s_own_terms_and_the_demo_voice_s_are_there(image: Image) -> None:
    folder = image.root / "licenses"
    assert (folder / "LICENSE").read_text().lstrip().startswith("Apache License")
    assert "Boson" in (folder / "NOTICE").read_text()
    assert "flite" in (folder / "demo-voice.md").read_text()


def test_every_module_of_the_worker_and_of_python_has_its_bytecode(image: Image) -> None:
    library = next((image.root / "usr").glob("**/lib/python3.11/asyncio")).parent
    ours = [path for name in ("higgs_core", "serverless") for path in (image.root / "app" / name).rglob("*.py")]
    python = [path for part in ("*.py", "asyncio/*.py", "json/*.py") for path in library.glob(part) if path.is_file()]
    assert len(ours) > 100
    assert len(python) > 100
    for source in ours + python:
        assert (source.parent / f"__pycache__/{source.stem}.cpython-311.pyc").is_file(), source


def test_the_settings_name_a_user_without_rights_a_first_process_and_a_check(image: Image) -> None:
    config = image.config
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["/usr/bin/tini", "--"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "serverless.healthcheck"]
    assert config["Labels"]["org.opencontainers.image.base.digest"].startswith("sha256:")


def test_torch_loads_and_every_library_that_is_linked_is_there(image: Image, site: Path) -> None:
    program = (
        "import torch, triton, torchaudio; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())"
    )
    assert re.match(r"2\.\d+\.\d+\+cu1\d\d 1\d\.\d \d{5}", image.run("python", "-c", program).stdout)
    inside = "/" + str(site.relative_to(image.root))
    listed = image.run(
        "sh", "-c", f"find {inside}/torch {inside}/nvidia {inside}/triton -name '*.so*' -type f | xargs ldd 2>/dev/null"
    )
    missing = set(re.findall(r"(\S+) => not found", listed.stdout))
    elsewhere = (
        "libibverbs",
        "librdmacm",
        "libmlx5",
        "libmpi",
        "libpmix",
        "liboshmem",
        "libucp",
        "libucs",
        "libfabric",
    )
    assert {name for name in missing if not name.startswith(elsewhere) and not list(site.rglob(name))} == {
        "libcuda.so.1"
    }


def test_ffmpeg_and_the_compiler_work_without_what_was_left_out(image: Image) -> None:
    converted = image.run(
        *("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "sine=duration=1", "-af", "atempo=1.5"),
        *("-c:a", "aac", "-f", "adts", "/tmp/sound.aac"),
    )
    assert (converted.returncode, converted.stderr) == (0, "")
    compiled = image.run(
        "sh", "-c", "echo 'int f(void){return 1;}' | gcc -x c - -O3 -shared -fPIC -o /tmp/f.so && ldd /tmp/f.so"
    )
    assert compiled.returncode == 0
    assert "not found" not in image.run("ldd", "/usr/bin/ffmpeg").stdout


def test_the_kernels_are_found_without_compiling_anything(image: Image) -> None:
    """On a read-only root, a kernel that is not in the cache could not be written, and would fail."""
    kept = [path.suffix for path in (image.root / "opt/triton").rglob("*.*")]
    assert kept.count(".cubin") > 100
    assert kept.count(".so") > 10  # the launchers; they load only beside a driver
    assert not {".ptx", ".ttir", ".ttgir", ".llir"} & set(kept)
    capability = os.environ["IMAGE_CAPABILITIES"].split()[0]
    program = (
        "from higgs_core.kernels import precompile\n"
        "precompile.build_launch_stubs = lambda kernels: None\n"
        f"print(precompile.compile_part({capability}, 0, 40))"
    )
    found = image.run("python", "-c", program)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 3


def test_nothing_is_left_of_what_installed_the_rest(image: Image) -> None:
    assert list((image.root / "var/lib/apt/lists").glob("*_*")) == []
    assert not (image.root / "root/.cache").exists()
    assert not (image.root / "tmp/sbom").exists()
    assert [path for path in (image.root / "build").rglob("*") if path.is_file()] == []
