"""Imports point one way, and the parts that need no torch or no audio library get along without."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

EDGE_LIBRARIES = {
    "runpod",
    "pydantic",
    "pydantic_settings",
    "fastapi",
    "boto3",
    "botocore",
    "requests",
    "aiohttp",
    "uvicorn",
}
BEYOND_TORCH = EDGE_LIBRARIES | {"soundfile", "torchaudio", "pydub", "pytest"}
"""What is missing where only torch, transformers and numpy are installed."""
WITHOUT_TORCH = [
    "errors",
    "built_in",
    "params",
    "repositories",
    "rates",
    "engine_config",
    "failures.failure_latch",
    "failures.resolving",
    "failures.watchdog",
    "host.cgroup",
    "cancellation",
    "contained_files",
    "version",
    "text",
    "audio",
    "speech",
    "prompt.chatml",
    "prompt.size",
    "checkpoint.safetensors_header",
    "checkpoint.snapshot",
    "checkpoint.download",
    "checkpoint.locate",
]
"""Modules and folders of the core that load no torch."""
BOOT = {"runpod_worker", "http_server", "local_run", "boot"}
"""Modules of serverless that may load the engine when they are run."""

_TELL = "import json, sys; print(json.dumps(sorted(sys.modules)))"
HIDE = """
import sys
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


def run(code: str, hidden: set[str] | None = None) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where the hidden packages are as if not installed."""
    hide = HIDE.format(hidden=hidden) if hidden else ""
    return subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", hide + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def modules_after(code: str) -> set[str]:
    done = run(f"{code}\n{_TELL}")
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_by(file: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere, also inside functions and for the type checker."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: imports name their module in full"
            found.add(node.module or "")
    return found


def serverless_modules() -> list[str]:
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sources("serverless")]
    return [name for name in names if not name.endswith("__init__") and name.rpartition(".")[2] not in BOOT]


@pytest.mark.parametrize("file", sources("higgs_core"), ids=lambda file: file.stem)
def test_the_core_imports_nothing_of_serverless(file: Path) -> None:
    roots = {name.partition(".")[0] for name in imported_by(file)}
    assert not roots & (EDGE_LIBRARIES | {"serverless", "tests"})


def folder_of(module: str) -> str:
    """The folder or the module at the top of a package that a module belongs to."""
    return ".".join(module.split(".")[:2])


def imports_between_folders() -> dict[str, set[str]]:
    """Which folders each folder imports, those only for the type checker among them."""
    imports: dict[str, set[str]] = {}
    for file in [*sources("higgs_core"), *sources("serverless")]:
        if file == ROOT / "higgs_core/__init__.py":
            continue  # hands out the public names, which load on first use
        folder = folder_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
        found = {folder_of(name) for name in imported_by(file) if name.startswith(("higgs_core.", "serverless."))}
        imports.setdefault(folder, set()).update(found - {folder})
    return imports


def test_no_folder_imports_one_that_imports_it() -> None:
    imports = imports_between_folders()
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError, which names the cycle
    assert order.index("higgs_core.errors") < order.index("higgs_core.runtime") < order.index("higgs_core.engine")
    assert order.index("serverless.config") < order.index("serverless.service") < order.index("serverless.http")


def test_no_folder_of_the_kernels_imports_one_that_imports_it() -> None:
    def unit(module: str) -> str:
        return ".".join(module.split(".")[:3])

    imports: dict[str, set[str]] = {}
    for file in sources("higgs_core/kernels"):
        here = unit(".".join(file.relative_to(ROOT).with_suffix("").parts))
        found = {unit(name) for name in imported_by(file) if name.startswith("higgs_core.kernels.")}
        imports.setdefault(here, set()).update(found - {here})
    order = list(TopologicalSorter(imports).static_order())
    assert order.index("higgs_core.kernels.linear") < order.index("higgs_core.kernels.plans")


def test_a_cycle_would_be_found() -> None:
    with pytest.raises(CycleError):
        list(TopologicalSorter(imports_between_folders() | {"higgs_core.text": {"higgs_core.speech"}}).static_order())


@pytest.mark.parametrize("folder", ["queue", "http", "client", "local"])
def test_the_service_and_what_it_uses_import_no_entry_point(folder: str) -> None:
    inside = {"config", "payload", "references", "delivery", "service"}
    imports = imports_between_folders()
    assert all(f"serverless.{folder}" not in imports[f"serverless.{name}"] for name in inside)


def test_the_torch_free_modules_and_serverless_load_no_torch() -> None:
    """All in one process: what one of them loads would show."""
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in WITHOUT_TORCH
        for file in sorted((ROOT / "higgs_core").glob(f"{name.replace('.', '/')}*"))
        for file in ([file] if file.suffix == ".py" else sorted(file.glob("*.py")))
    ]
    assert len(names) > 2 * len(WITHOUT_TORCH)
    loaded = modules_after("import " + ", ".join(["higgs_core", *names]))
    assert not loaded & {"torch", "torchaudio", "transformers", "soundfile", "runpod"}
    assert not loaded & {"babel", "num2words", "pyloudnorm", "scipy"}, "they load when a request wants them"
    loaded = modules_after("import " + ", ".join(serverless_modules()))
    assert not loaded & {"torch", "torchaudio", "transformers", "babel", "num2words", "pyloudnorm", "scipy"}


def test_the_core_imports_and_speaks_where_only_its_own_libraries_are_installed() -> None:
    done = run(
        "import pkgutil, importlib, higgs_core, torch\n"
        "torch.set_num_threads(1)\n"
        "for module in pkgutil.walk_packages(higgs_core.__path__, 'higgs_core.'):\n"
        "    importlib.import_module(module.name)\n"
        "from higgs_core import *\n"
        "with HiggsAudioEngine.from_pretrained('tiny', device='cpu', max_batch_size=1, max_context=256) as engine:\n"
        "    sample = ChatMLSample([Message('user', 'Hi.')])\n"
        "    result = engine.generate(sample, GenerationParams(max_new_tokens=20, seed=0))\n"
        "    print(result.audio.shape[0])\n"
        "    assert len(engine.generate(ChatMLSample([Message('user', AudioContent(waveform=result.audio))]),\n"
        "        GenerationParams(max_new_tokens=20, seed=0)).audio)\n",
        BEYOND_TORCH,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0


def test_hiding_hides() -> None:
    assert run("import soundfile", {"soundfile"}).returncode != 0
    assert run("import runpod.serverless", {"runpod"}).returncode != 0
