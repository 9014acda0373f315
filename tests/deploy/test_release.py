"""The workflow of a release and what RunPod's Hub is told."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import yaml

from tests.helpers.paths import ROOT

WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())


def test_a_release_is_tested_before_it_is_published() -> None:
    assert WORKFLOW[True] == {"release": {"types": ["published"]}}  # YAML takes the key `on` for true
    assert WORKFLOW["jobs"]["test"] == {"uses": "./.github/workflows/ci.yml"}
    assert WORKFLOW["jobs"]["publish"]["needs"] == "test"


def test_the_release_builds_this_image_with_an_sbom_and_few_rights() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    steps = WORKFLOW["jobs"]["publish"]["steps"]
    (build,) = [step["with"] for step in steps if step.get("uses", "").startswith("docker/build-push-action@")]
    assert (ROOT / build["file"]).is_file()
    assert build["sbom"] is True
    assert build["provenance"]
    assert build["platforms"] == "linux/amd64"
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


def test_the_hubs_icon_is_the_playgrounds() -> None:
    kind, _, data = json.loads((ROOT / ".runpod/hub.json").read_text())["iconUrl"].partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert base64.b64decode(data) == (ROOT / "serverless/http/playground/icon.svg").read_bytes().strip()


def test_the_hubs_file_has_the_fields_of_its_guide() -> None:
    """As docs.runpod.io/hub/publishing-guide lists them."""
    hub = json.loads((ROOT / ".runpod/hub.json").read_text())
    assert hub.keys() == {"title", "description", "type", "category", "iconUrl", "config"}
    assert hub["config"].keys() <= {
        *("runsOn", "containerDiskInGb", "gpuCount", "gpuIds", "allowedCudaVersions", "env", "presets"),
    }
    for variable in hub["config"]["env"]:
        given = variable["input"]
        assert given["type"] in {"string", "number", "boolean", "huggingface"}
        assert {"name", "type", "description", "default"} <= given.keys()
        assert given.keys() <= {
            *("name", "type", "description", "default", "advanced", "options", "min", "max", "trueValue", "falseValue"),
        }
        for option in given.get("options", []):
            assert option.keys() == {"label", "value"}
