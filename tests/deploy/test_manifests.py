"""compose.yaml and the Kubernetes manifests: they agree with the image, with the server and with each other."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
import yaml

from serverless.config.settings import Settings, variables
from serverless.http_server import DRAIN_SECONDS
from tests.helpers.http_server import Running
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

KUBERNETES = ROOT / "deploy/kubernetes"
NOT_OF_THE_WORKER = {"HF_HOME", "HF_TOKEN"}


def load(path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return content


def manifest(kind: str) -> dict[str, Any]:
    files = load("deploy/kubernetes/kustomization.yaml")["resources"]
    return next(content for name in files if (content := load(f"deploy/kubernetes/{name}"))["kind"] == kind)


def container() -> dict[str, Any]:
    (only,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(only)


def service() -> dict[str, Any]:
    return dict(load("deploy/compose/compose.yaml")["services"]["higgs-audio"])


def test_compose_starts_the_http_server_with_variables_that_it_knows() -> None:
    environment = {name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value) for name, value in service()["environment"].items()}
    assert environment.keys() <= {*variables(), *NOT_OF_THE_WORKER}
    settings = Settings.from_environment(environment)
    assert settings.mode == "http"
    assert settings.api_key is None
    assert service()["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]  # without a key, to this machine alone


def test_compose_builds_this_image_and_waits_for_what_runs() -> None:
    build = service()["build"]
    assert (ROOT / "deploy/compose" / build["context"] / build["dockerfile"]).resolve() == (
        ROOT / "deploy/runpod/Dockerfile"
    )
    assert service()["stop_grace_period"] == "6m"
    assert DRAIN_SECONDS <= 6 * 60
    assert service()["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_kustomize_names_every_file() -> None:
    named = load("deploy/kubernetes/kustomization.yaml")["resources"]
    assert sorted([*named, "kustomization.yaml"]) == sorted(path.name for path in KUBERNETES.iterdir())


def test_the_deployment_runs_the_http_server_with_few_rights() -> None:
    environment = {each["name"]: each.get("value") for each in container()["env"]}
    assert environment.keys() <= {*variables(), *NOT_OF_THE_WORKER}
    settings = Settings.from_environment({name: value for name, value in environment.items() if value})
    assert settings.mode == "http"
    assert container()["ports"] == [{"name": "http", "containerPort": settings.port}]
    assert container()["image"] == load("deploy/kubernetes/kustomization.yaml")["images"][0]["name"]
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["terminationGracePeriodSeconds"] >= DRAIN_SECONDS


def test_what_the_deployment_mounts_is_there() -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    sources = [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
    claims = [source["claimName"] for source in sources if source]
    assert claims == [manifest("PersistentVolumeClaim")["metadata"]["name"]]
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_others_mean_this_deployment() -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("PodMonitor")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("ScaledObject")["spec"]["scaleTargetRef"]["name"] == manifest("Deployment")["metadata"]["name"]
    key = manifest("PodMonitor")["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
    assert [each["valueFrom"]["secretKeyRef"] for each in container()["env"] if "valueFrom" in each] == [key]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_the_server_answers_the_probes(probe: str, server: Running) -> None:
    path = container()[probe]["httpGet"]["path"]
    assert requests.get(server.url + path, timeout=PATIENCE).status_code == 200


def test_the_autoscaler_asks_for_metrics_that_the_server_has(server: Running) -> None:
    (trigger,) = manifest("ScaledObject")["spec"]["triggers"]
    metrics = requests.get(f"{server.url}/metrics", timeout=PATIENCE).text
    asked = re.findall(r"higgs_\w+", trigger["metadata"]["query"])
    assert asked
    assert all(re.search(rf"^{name} ", metrics, re.MULTILINE) for name in asked)
    slots = float(re.findall(r"^higgs_slots (\S+)", metrics, re.MULTILINE)[0])
    assert 0 < float(trigger["metadata"]["threshold"]) < slots
