"""Imports point one way, and the parts that need no torch or no audio library get along without."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent
EDGE_LIBRARIES = {"runpod", "pydantic", "pydantic_settings", "fastapi", "boto3", "botocore", "requests", "uvicorn"}
BEYOND_TORCH = EDGE_LIBRARIES | {"soundfile", "torchaudio", "pydub", "pytest"}
"""What is missing where only torch, transformers and numpy are installed."""
WITHOUT_TORCH = [
    "higgs_core.text",
    "higgs_core.script",
    "higgs_core.scene",
    "higgs_core.chunking",
    "higgs_core.chatml",
    "higgs_core.errors",
    "higgs_core.params",
    "higgs_core.request",
    "higgs_core.conversation",
    "higgs_core.narration",
    "higgs_core.speech",
    "higgs_core.voices",
    "higgs_core.audio_io",
    "higgs_core.markup",
    "higgs_core.speech_length",
    "higgs_core.silence",
    "higgs_core.piece_check",
    "higgs_core.attempt",
    "higgs_core.piece_context",
    "higgs_core.piece_warnings",
    "higgs_core.speech_result",
    "higgs_core.playback",
    "higgs_core.held_audio",
    "higgs_core.prompt_size",
    "higgs_core.repositories",
    "higgs_core.safetensors_header",
    "higgs_core.snapshot",
    "higgs_core.locate",
]
BOOT = {"runpod_worker", "http_server", "local_run", "engine_boot"}
"""Modules of the edge that may load the engine when they are run."""

_TELL = "import json, sys; print(json.dumps(sorted(sys.modules)))"
_HIDE = """
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
    hide = _HIDE.format(hidden=hidden) if hidden else ""
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
def test_the_core_knows_nothing_of_the_edge(file: Path) -> None:
    roots = {name.partition(".")[0] for name in imported_by(file)}
    assert not roots & (EDGE_LIBRARIES | {"serverless", "tests"})


def test_nothing_below_the_engine_reaches_up_to_it() -> None:
    above = {"higgs_core.engine", "higgs_core.speech"}
    allowed = {"__init__", "engine", "speech"}
    reaching = {
        file.stem
        for file in sources("higgs_core")
        if file.stem not in allowed and imported_by(file) & above and not _only_for_types(file, above)
    }
    assert reaching == set()


def _only_for_types(file: Path, names: set[str]) -> bool:
    """Whether every import of `names` stands under `if TYPE_CHECKING`."""
    tree = ast.parse(file.read_text())
    guarded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            guarded |= set(ast.walk(node))
    return all(node in guarded for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module in names)


def test_the_torch_free_modules_and_the_edge_load_no_torch() -> None:
    """All in one process: what one of them loads would show."""
    names = [name for name in WITHOUT_TORCH if (ROOT / (name.replace(".", "/") + ".py")).is_file()]
    assert len(names) == len(WITHOUT_TORCH)
    loaded = modules_after("import " + ", ".join(["higgs_core", *names]))
    assert not loaded & {"torch", "torchaudio", "transformers", "soundfile", "runpod"}
    loaded = modules_after("import " + ", ".join(serverless_modules()))
    assert not loaded & {"torch", "torchaudio", "transformers"}


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
