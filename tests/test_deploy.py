"""The files around the code: what is pinned, what goes into the image, what the Hub is told."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from higgs_core.built_in import DEMO
from higgs_core.repositories import CODEC, PINNED_REVISIONS
from serverless.config.settings import Settings, variables
from serverless.payload.parse import parse_job
from tests.helpers.http_stub import Request, answering
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

DOCKERFILE = (ROOT / "deploy/runpod/Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction, continued lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    return [line.partition(" ")[2].strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


def requirements(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    wanted = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return dict(line.split("==") for line in wanted)


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build, by its last rule that fits the path or a folder above it."""
    out = False
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.lstrip("!")
        parents = [path, *map(str, Path(path).parents)]
        if any(fnmatch(parent, pattern) for parent in parents if parent != "."):
            out = not rule.startswith("!")
    return out


def test_every_requirement_is_pinned_and_is_what_the_tests_ran_with() -> None:
    for name, version in requirements("requirements-runpod.txt").items():
        assert re.fullmatch(r"\d+(\.\d+)+", version), f"{name} is not pinned exactly"
        assert importlib.metadata.version(name) == version


def test_what_the_requirements_pull_in_is_pinned_too_and_does_not_contradict_them() -> None:
    wanted, constraints = requirements("requirements-runpod.txt"), requirements("deploy/runpod/constraints.txt")
    shared = wanted.keys() & constraints.keys()
    assert {name: wanted[name] for name in shared} == {name: constraints[name] for name in shared}
    assert set(wanted) - shared <= {"torch", "torchaudio"}  # these follow the CUDA build
    assert not any(name.startswith(("nvidia-", "cuda-", "triton")) for name in constraints)


def test_the_requirements_are_what_the_code_imports() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "serverless").rglob("*.py"))
    source += "\n".join(path.read_text() for path in (ROOT / "higgs_core").rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:import|from) ([a-z0-9_]+)", source, re.MULTILINE))
    owners = importlib.metadata.packages_distributions()
    distributions = {owner.lower().replace("_", "-") for name in imported for owner in owners.get(name, [])}
    # Of these a requirement is itself made, and the version is that requirement's choice.
    brought = {"starlette", "anyio", "h11", "urllib3", "yarl", "triton", "higgs-audio-serverless"}
    assert distributions - brought == set(requirements("requirements-runpod.txt"))


def test_the_base_image_is_pinned_by_its_digest_and_the_label_names_it() -> None:
    (base,) = instructions("FROM")
    found = re.fullmatch(r"(python:3\.11\.\d+-slim-bookworm)@(sha256:[0-9a-f]{64})", base)
    assert found
    (labels,) = instructions("LABEL")
    assert f'base.name="docker.io/library/{found[1]}"' in labels
    assert f'base.digest="{found[2]}"' in labels


def test_nothing_is_installed_without_a_hash_or_by_running_its_own_code() -> None:
    installs = re.findall(r"pip install(.+?)(?:&&|$)", " ".join(instructions("RUN")))
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes --no-deps --only-binary :all: -r /build/locks/" in arguments.replace('"', "")


def test_the_build_s_own_files_are_in_the_context_and_in_no_layer() -> None:
    runs = instructions("RUN")
    sources = {source for run in runs for source in re.findall(r"--mount=type=bind,source=(\S+),target=/build/", run)}
    assert sources == {"deploy/image", "deploy/runpod/locks"}
    for source in sources:
        assert not ignored(f"{source}/any"), f".dockerignore keeps {source} out"
    for script in re.findall(r"/build/image/(\w+\.py)", DOCKERFILE):
        assert (ROOT / "deploy/image" / script).is_file()
    assert not any("deploy/" in line for line in instructions("COPY"))


def test_the_dockerfile_holds_no_secret_and_takes_one_only_as_a_mount() -> None:
    names = [line.partition("=")[0] for line in instructions("ARG")]
    names += re.findall(r"(\w+)=", " ".join(instructions("ENV")))
    assert not [name for name in names if re.search(r"KEY|SECRET|PASSWORD|TOKEN(?!IZER)", name)]
    for run in instructions("RUN"):
        assert ("HF_TOKEN" in run) == ("--mount=type=secret,id=hf_token" in run)
    assert "ADD " not in DOCKERFILE


def test_the_image_runs_as_a_user_without_rights_with_a_first_process_that_passes_signals_on() -> None:
    assert instructions("USER") == ["1000:1000"]
    assert "useradd --uid 1000 " in DOCKERFILE
    assert DOCKERFILE.index("\nUSER ") > DOCKERFILE.rindex("\nRUN ")
    assert instructions("ENTRYPOINT") == ['["/usr/bin/tini", "--"]']
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    (check,) = re.findall(r'CMD \["python", "-m", "([\w.]+)"\]', " ".join(instructions("HEALTHCHECK")))
    assert callable(importlib.import_module(check).main)


def test_what_the_user_writes_to_is_its_own() -> None:
    runs = " ".join(instructions("RUN"))
    for variable in ("HF_HOME", "TRITON_CACHE_DIR"):
        assert f'chown -R worker:worker "${{{variable}}}"' in runs


def test_the_build_arguments_have_their_defaults() -> None:
    arguments = dict(line.split("=", 1) for line in instructions("ARG"))
    assert arguments["TORCH_CUDA"] == "cu128"
    assert (arguments["CODEC_ID"], arguments["CODEC_REVISION"]) == (CODEC, "")
    assert (arguments["MODEL_ID"], arguments["MODEL_REVISION"]) == ("", "")
    pages = [(ROOT / name).read_text() for name in ("deploy/runpod/README.md", "docs/configuration.md")]
    assert all(PINNED_REVISIONS[CODEC] in text for text in (DOCKERFILE, *pages))


def test_what_the_codec_is_baked_with_is_copied_before(tmp_path: Path) -> None:
    """The build has none of the project's other files yet; a module too few would end it."""
    before, command = DOCKERFILE.split("&& python -c '")[0], re.findall(r"python -c '(.+?)'", DOCKERFILE)[0]
    for file in re.findall(r"higgs_core/[\w/]+\.py", before[before.index("COPY higgs_core/__init__.py") :]):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    subprocess.run([sys.executable, "-c", command, "", "", "", ""], cwd=tmp_path, check=True)


def test_what_is_copied_exists_and_is_in_the_build_context() -> None:
    for line in instructions("COPY"):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), f"COPY {source}: no such file"
            assert not ignored(source), f"COPY {source}: .dockerignore keeps it out"


def test_the_context_holds_nothing_that_the_image_does_not_want() -> None:
    for path in (
        *("tests/conftest.py", "benchmarks/gpu.py", "docs/playground.png", "CONTRIBUTING.md"),
        *("requirements-runpod.txt", "deploy/runpod/README.md"),
        *(".github/workflows/ci.yml", ".git/config", ".venv/bin/python", "output/plain.wav", ".env"),
    ):
        assert ignored(path)
    assert not ignored("serverless/runpod_worker.py")
    assert not ignored("higgs_core/kernels/optional_triton.py")
    assert not ignored("higgs_core/checkpoint/demo/model/model.safetensors")


def test_the_image_runs_the_worker_with_variables_that_it_knows() -> None:
    assert instructions("CMD") == ['["python", "-m", "serverless.runpod_worker"]']
    set_here = re.findall(r"(HIGGS_AUDIO_\w+)=", " ".join(instructions("ENV")))
    assert set_here
    assert set(set_here) <= set(variables())


def test_the_baking_command_finds_nothing_to_do_when_no_id_is_given() -> None:
    (command,) = re.findall(r"python -c '(.+?)'", DOCKERFILE)
    subprocess.run([sys.executable, "-c", command, "", "", "", ""], cwd=ROOT, check=True, timeout=PATIENCE)


def test_the_kernels_are_compiled_for_generations_that_the_compiler_command_knows() -> None:
    (module,) = re.findall(r"python -m (higgs_core\S+) --capability", DOCKERFILE)
    listed = dict(line.split("=", 1) for line in instructions("ARG"))["GPU_CAPABILITIES"].strip('"').split()
    assert set(map(int, listed)) <= set(importlib.import_module(module).CAPABILITIES)


def hub() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / ".runpod/hub.json").read_text())
    return content


def test_the_hub_is_told_what_it_needs() -> None:
    content = hub()
    assert content["type"] == "serverless"
    assert content["category"] == "audio"
    config = content["config"]
    assert config["runsOn"] == "GPU"
    assert "-NVIDIA L4" in config["gpuIds"]
    assert all(float(version) >= 12.8 for version in config["allowedCudaVersions"])


def test_the_hubs_variables_are_the_workers_and_their_defaults_are_allowed() -> None:
    environment = {}
    for variable in hub()["config"]["env"]:
        assert variable["key"] in {*variables(), "HF_TOKEN"}  # huggingface_hub reads its token itself
        assert len(variable["input"]["description"]) <= 191
        environment[variable["key"]] = str(variable["input"]["default"])
    Settings.from_environment(environment)
    for preset in hub()["config"]["presets"]:
        settings = Settings.from_environment({key: str(value) for key, value in preset["defaults"].items()})
        assert settings.streaming == ("streaming" in preset["name"])


@pytest.mark.parametrize(
    "test", json.loads((ROOT / ".runpod/tests.json").read_text())["tests"], ids=lambda t: t["name"]
)
def test_the_hubs_tests_are_requests_without_a_fault(test: dict[str, Any]) -> None:
    parsed = parse_job(test["input"], Settings())
    assert parsed.warnings == ()
    assert parsed.request.params.seed is not None
    assert test["timeout"] >= 60_000


def test_the_hub_finds_the_dockerfile_and_a_handler() -> None:
    assert (ROOT / ".runpod/Dockerfile").resolve() == ROOT / "deploy/runpod/Dockerfile"
    compile((ROOT / ".runpod/handler.py").read_text(), "handler.py", "exec")


@pytest.mark.parametrize("target", ["run", "serve", "test", "test-fast", "check", "bench"])
def test_a_make_target_sets_up_first_and_runs_something_that_exists(target: str, tmp_path: Path) -> None:
    printed = subprocess.run(
        ["make", "-n", target, f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    ).stdout
    assert printed.index("set_up.sh") < printed.index(f"{tmp_path}/venv/bin/python")
    for module in re.findall(r"-m (serverless\.\w+|benchmarks\S*)", printed):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize("target", ["run", "serve"])
def test_make_speaks_with_the_built_in_voice_unless_it_is_told_another_model(target: str, tmp_path: Path) -> None:
    for options, model in (([], DEMO.name), (["MODEL=org/name"], "org/name")):
        printed = subprocess.run(
            ["make", "-n", target, f"VENV={tmp_path}/venv", *options],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        ).stdout
        assert f'HIGGS_AUDIO_MODEL_ID="{model}" ' in printed


def test_setting_up_is_not_repeated_until_a_pin_changes(tmp_path: Path) -> None:
    (tmp_path / ".set-up").touch()
    os.utime(tmp_path / ".set-up", (4e9, 4e9))
    printed = subprocess.run(
        ["make", "-n", "test", f"VENV={tmp_path}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    ).stdout
    assert "set_up.sh" not in printed


def test_processes_that_make_starts_find_the_bytecode_of_those_before(tmp_path: Path) -> None:
    printed = subprocess.run(
        ["make", "-f", "-", "environment", f"VENV={tmp_path}/venv"],
        input="include Makefile\nenvironment:\n\t@env\n",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    ).stdout
    assert f"PYTHONPYCACHEPREFIX={tmp_path}/venv/pycache" in printed.splitlines()
    assert "PYTHONDONTWRITEBYTECODE" not in printed


@pytest.mark.parametrize("path", [".ci/run", "scripts/set_up.sh", "deploy/image/build.sh", "deploy/image/audit.sh"])
def test_a_script_can_be_run(path: str) -> None:
    assert os.access(ROOT / path, os.X_OK) or path.startswith("scripts/")
    subprocess.run(["bash", "-n", str(ROOT / path)], check=True)


@pytest.mark.parametrize("missing", ["buildah", "debootstrap", "unshare"])
def test_building_the_image_says_which_program_is_missing(missing: str, tmp_path: Path) -> None:
    """Each stands in a folder that is the whole path, but for one; `id` says that it is root."""
    for name, answer in {"id": "0", "uname": "x86_64", "buildah": "", "debootstrap": "", "unshare": ""}.items():
        if name != missing:
            (tmp_path / name).write_text(f"#!/bin/sh\necho {answer}\n")
            (tmp_path / name).chmod(0o755)
    for name in ("dirname", "mkdir", "rm"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    ended = subprocess.run(
        [str(shutil.which("bash")), str(ROOT / "deploy/image/build.sh")],
        env={"PATH": str(tmp_path), "IMAGE_STORE": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{missing} is missing: apt-get install ")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("answer", [404, 503])
def test_an_audit_that_could_look_nothing_up_does_not_pass(answer: int, tmp_path: Path) -> None:
    """A mirror may serve packages and know nothing of their vulnerabilities: pip-audit alone finds none then."""
    asked = []

    def nothing(request: Request) -> tuple[int, bytes]:
        asked.append(request.path)
        return answer, b""

    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    for name in ("deploy/image/audit.sh", "deploy/runpod/locks/packages.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    with answering(nothing) as address:
        ended = subprocess.run(
            [str(tmp_path / "deploy/image/audit.sh")],
            env={**os.environ, "PYPI": address},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert ended.returncode == 3
    assert "cannot be reached" in ended.stderr
    assert [bool(re.fullmatch(r"/pypi/requests/[\d.]+/json", path)) for path in asked] == [True]
