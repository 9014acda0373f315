"""Creates or updates a RunPod endpoint for this worker: python deploy/runpod/create_endpoint.py --image NAME:TAG

Without --apply nothing is sent: the two requests are printed. With it, RUNPOD_API_KEY has to be set; the template and
the endpoint of the same name are updated if they exist. It speaks RunPod's GraphQL API, as RunPod's console and its own
command line do, because the REST API cannot set an endpoint's cached model. Needs `requests` and nothing of this
repository.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import requests

API = "https://api.runpod.io/graphql"
TIMEOUT_SECONDS = 30
MAX_ANSWER_BYTES = 4_000_000

MODEL = "bosonai/higgs-audio-v2-generation-3B-base"
MODEL_REVISION = "10840182ca4ad5d9d9113b60b9bb3c1ef1ba3f84"
GPUS = "AMPERE_24,ADA_24,-NVIDIA L4"  # decoding is bound by memory bandwidth, and an L4 has too little
HTTP_PORT = 8000
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD")

LIST = "query { myself { podTemplates { id name } endpoints { id name } } }"
SAVE_TEMPLATE = "mutation($input: SaveTemplateInput) { saveTemplate(input: $input) { id } }"
SAVE_ENDPOINT = "mutation($input: EndpointInput!) { saveEndpoint(input: $input) { id } }"

Json = dict[str, Any]


class Refused(Exception):
    """One sentence for whoever ran the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan, or with --apply carry it out. The exit status: 0, 1 when RunPod refused, 2 for a wrong option."""
    options = parse(arguments)
    template, endpoint = template_input(options), endpoint_input(options)
    if not options.apply:
        sys.stdout.write(json.dumps({"saveTemplate": masked(template), "saveEndpoint": endpoint}, indent=2) + "\n")
        sys.stderr.write("Nothing was sent. Add --apply to create the endpoint.\n")
        return 0
    key = os.environ.get("RUNPOD_API_KEY", "").strip()
    if not key:
        sys.stderr.write("RUNPOD_API_KEY is not set; create a key in RunPod's console under Settings.\n")
        return 2
    try:
        endpoint_id = apply(Api(options.api_url, key), template, endpoint)
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    sys.stdout.write(f"{endpoint_id}\n")
    sys.stderr.write(f"Its address: {address(options.kind, endpoint_id)}\n")
    return 0


# -- Options ----------------------------------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="create_endpoint.py", description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="the image that was pushed, with its tag or digest")
    parser.add_argument("--name", default="higgs-audio", help="of the endpoint (default: %(default)s)")
    parser.add_argument("--kind", choices=("queue", "http"), default="queue", help="http: a load-balancing endpoint")
    parser.add_argument("--streaming", action="store_true", help="a queue endpoint that answers /stream")
    parser.add_argument("--gpus", default=GPUS, help="pools in order, and types to leave out (default: %(default)s)")
    parser.add_argument("--model", default=MODEL, help="hub id for RunPod's model cache; empty for none")
    parser.add_argument("--revision", help="the model's revision (default: the known good one)")
    parser.add_argument("--volume", help="id of a network volume; it ties the endpoint to its data center")
    parser.add_argument("--locations", help="data centers, such as EU-RO-1,US-GA-1 (default: any)")
    parser.add_argument("--disk", type=bounded(int, 10, 500), default=20, help="GB of container disk")
    parser.add_argument("--workers-min", type=bounded(int, 0, 100), default=0, help="kept running, and paid for")
    parser.add_argument("--workers-max", type=bounded(int, 1, 100), default=3)
    parser.add_argument("--idle-timeout", type=bounded(int, 1, 3600), default=30, help="s until an idle worker stops")
    parser.add_argument("--queue-delay", type=bounded(float, 0.5, 600), default=4, help="s of waiting that add one")
    parser.add_argument("--requests-per-worker", type=bounded(int, 1, 256), help="scale on this in place of the delay")
    parser.add_argument("--execution-timeout", type=bounded(int, 10, 86_400), default=600, help="s that a job may take")
    parser.add_argument("--min-cuda", default="12.8", help="lowest CUDA version of the host (default: %(default)s)")
    parser.add_argument("--no-flashboot", action="store_true")
    parser.add_argument("--registry-auth", help="id of the registry credentials, for a private image")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable; may be repeated")
    parser.add_argument("--apply", action="store_true", help="send it")
    parser.add_argument("--api-url", default=API, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[\w./-]+(:\d+/[\w./-]+)?(:[\w.-]+|@sha256:[0-9a-f]{64})", options.image):
        parser.error("--image needs a tag or a digest, such as YOUR_NAME/higgs-audio:1")
    if options.workers_min > options.workers_max:
        parser.error("--workers-min is more than --workers-max")
    if options.streaming and options.kind == "http":
        parser.error("--streaming is for queue endpoints; an http endpoint always streams")
    for pair in options.env:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", pair, re.DOTALL):
            parser.error("--env takes NAME=VALUE, with a name of capital letters, digits and '_'")
    return options


def bounded(kind: type[int] | type[float], least: float, most: float) -> Any:
    """A parser of numbers for argparse, from `least` to `most`."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {least:g} to {most:g}")
        return value

    return number


# -- What is sent -----------------------------------------------------------------------------------------------------


def template_input(options: argparse.Namespace) -> Json:
    """The container: image, disk and variables."""
    variables = {"HIGGS_AUDIO_MODEL_ID": options.model} if options.model else {}
    if options.streaming:
        variables["HIGGS_AUDIO_STREAMING"] = "1"
    if options.kind == "http":
        variables |= {"HIGGS_AUDIO_MODE": "http", "PORT": str(HTTP_PORT)}
    variables |= dict(pair.split("=", 1) for pair in options.env)
    template: Json = {
        "name": f"{options.name}-template",
        "imageName": options.image,
        "isServerless": True,
        "containerDiskInGb": options.disk,
        "volumeInGb": 0,
        "dockerArgs": "",
        "env": [{"key": name, "value": value} for name, value in variables.items()],
    }
    if options.kind == "http":
        template["ports"] = f"{HTTP_PORT}/http"
    if options.registry_auth:
        template["containerRegistryAuthId"] = options.registry_auth
    return template


def endpoint_input(options: argparse.Namespace) -> Json:
    """GPUs, scaling, the cached model and the volume; the template's id comes when it is known."""
    by_requests = options.requests_per_worker is not None or options.kind == "http"  # nothing queues before http
    endpoint: Json = {
        "name": options.name,
        "type": "LB" if options.kind == "http" else "QB",
        "gpuIds": options.gpus,
        "gpuCount": 1,
        "minCudaVersion": options.min_cuda,
        "workersMin": options.workers_min,
        "workersMax": options.workers_max,
        "idleTimeout": options.idle_timeout,
        "scalerType": "REQUEST_COUNT" if by_requests else "QUEUE_DELAY",
        "scalerValue": (options.requests_per_worker or 8) if by_requests else options.queue_delay,
        "executionTimeoutMs": options.execution_timeout * 1000,
        "flashBootType": "OFF" if options.no_flashboot else "FLASHBOOT",
    }
    if options.model:
        revision = options.revision or (MODEL_REVISION if options.model == MODEL else "main")
        endpoint["modelReferences"] = [f"https://huggingface.co/{options.model}:{revision}"]
    if options.volume:
        endpoint["networkVolumeId"] = options.volume
    if options.locations:
        endpoint["locations"] = options.locations
    return endpoint


def masked(template: Json) -> Json:
    """As it may be printed: the values of keys and tokens are left out."""
    shown = [{**pair, "value": "***"} if SECRET.search(pair["key"]) else pair for pair in template["env"]]
    return {**template, "env": shown}


def address(kind: str, endpoint_id: str) -> str:
    return f"https://{endpoint_id}.api.runpod.ai" if kind == "http" else f"https://api.runpod.ai/v2/{endpoint_id}"


# -- RunPod's API -----------------------------------------------------------------------------------------------------


def apply(api: Api, template: Json, endpoint: Json) -> str:
    """Save both, over those of the same names where there are any; the endpoint's id. Raises Refused."""
    account = api.call(LIST, {}).get("myself") or {}
    template_id = api.save(SAVE_TEMPLATE, "saveTemplate", template | with_id(account.get("podTemplates"), template))
    known = with_id(account.get("endpoints"), endpoint)
    return api.save(SAVE_ENDPOINT, "saveEndpoint", endpoint | known | {"templateId": template_id})


def with_id(existing: Any, wanted: Json) -> Json:
    """{"id"} of the one that has the name already, else nothing. RunPod marks names of FlashBoot endpoints with -fb."""
    for each in existing or []:
        if str(each.get("name", "")).removesuffix(" -fb") == wanted["name"]:
            return {"id": each["id"]}
    return {}


class Api:
    """RunPod's GraphQL API for one key. Nothing is sent twice, since a mutation that was lost may have been done."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def save(self, mutation: str, field: str, given: Json) -> str:
        """The id of what was saved. Raises Refused."""
        saved = self.call(mutation, {"input": given}).get(field)
        identifier = saved.get("id") if isinstance(saved, dict) else None
        if not isinstance(identifier, str) or not re.fullmatch(r"[\w-]{1,64}", identifier):
            raise Refused(f"RunPod's answer to {field} has no id; look in its console at what was made.")
        return identifier

    def call(self, query: str, variables: Json) -> Json:
        """The answer's data. Raises Refused with RunPod's own words where there are some."""
        body = json.dumps({"query": query, "variables": variables})
        try:
            with requests.post(
                self._url, body, headers=self._headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True
            ) as response:
                raw = response.raw.read(MAX_ANSWER_BYTES, decode_content=True)
                status = response.status_code
        except requests.RequestException as error:
            raise Refused(f"RunPod's API could not be reached ({type(error).__name__}); try again.") from None
        if status in (401, 403):
            raise Refused("RunPod refused the key in RUNPOD_API_KEY; it needs the right to write endpoints.")
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Refused(f"RunPod's API answered {status} without JSON; try again.")
        if answer.get("errors") or status != 200 or not isinstance(answer.get("data"), dict):
            raise Refused(f"RunPod refused the request ({status}): {words_of(answer)}")
        return dict(answer["data"])


def words_of(answer: Json) -> str:
    """The messages of an answer's errors, as one line without control characters."""
    errors = answer.get("errors")
    messages = [str(error.get("message", "")) for error in errors if isinstance(error, dict)] if errors else []
    line = "; ".join(messages) or "no reason was given"
    return "".join(letter if letter.isprintable() else " " for letter in line)[:500]


if __name__ == "__main__":
    sys.exit(main())
