"""The three ways to a deployed endpoint: RunPod's queue, its stream, and the HTTP server.

Each transport takes the job and yields dicts: partial ones with `progress` (share done, seconds of audio), then the
result, or the items of a stream. All `audio_base64` joined is the file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

CONNECT_SECONDS = 10
ANSWER_SECONDS = 120
LINE_BYTES = 65_536
POLL_SECONDS = (0.5, 1.0, 2.0)  # then the last one, again and again
PATIENCE_SECONDS = 300  # with a server that is loading or busy
_COME_BACK = 503
_RUNNING = {"IN_QUEUE", "IN_PROGRESS"}

Item = dict[str, Any]


class ClientError(Exception):
    """What went wrong, in one sentence for the person at the terminal."""


class Transport(Protocol):
    def send(self, job: Mapping[str, Any]) -> Iterator[Item]: ...


def session(key: str | None) -> requests.Session:
    """Requests with the bearer key; reads are tried again when the network or the gateway fails, jobs are sent once."""
    made = requests.Session()
    retries = Retry(total=5, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), allowed_methods=("GET",))
    for scheme in ("https://", "http://"):
        made.mount(scheme, HTTPAdapter(max_retries=retries))
    made.trust_env = False  # no key out of ~/.netrc: it comes from the environment only
    if key:
        made.headers["Authorization"] = f"Bearer {key}"
    return made


class QueueTransport:
    """POST /run, then GET /status until the job ends. Closing the iterator early cancels the job."""

    def __init__(self, http: requests.Session, base_url: str) -> None:
        self._http = http
        self._base = base_url.rstrip("/")

    def send(self, job: Mapping[str, Any]) -> Iterator[Item]:
        job_id = _json(_answered(self._http.post, f"{self._base}/run", json=job)).get("id")
        if not job_id:
            raise ClientError("The endpoint did not accept the job.")
        try:
            yield from self._follow(job_id)
        except (GeneratorExit, KeyboardInterrupt):  # what nobody waits for should not run on
            with suppress(ClientError):
                _answered(self._http.post, f"{self._base}/cancel/{job_id}", json={})
            raise

    def _follow(self, job_id: str) -> Iterator[Item]:
        waits = iter(POLL_SECONDS)
        while True:
            status = self._get(f"/status/{job_id}")
            state, output = str(status.get("status")), status.get("output")
            if state not in _RUNNING:
                _require_completed(state, status)
                for item in output if isinstance(output, list) else [output or {}]:
                    yield _checked(item)
                return
            yield {"progress": output if isinstance(output, dict) else {}, "state": state}
            time.sleep(next(waits, POLL_SECONDS[-1]))

    def _get(self, path: str) -> Item:
        return _json(_answered(self._http.get, f"{self._base}{path}"))


class StreamTransport(QueueTransport):
    """POST /run with `stream`, then GET /stream, which hands out each item once."""

    def send(self, job: Mapping[str, Any]) -> Iterator[Item]:
        yield from super().send({**job, "input": {**job["input"], "stream": True}})

    def _follow(self, job_id: str) -> Iterator[Item]:
        while True:
            answer = self._get(f"/stream/{job_id}")
            state, parts = str(answer.get("status")), answer.get("stream") or []
            for part in parts:
                yield _checked(part["output"])
            if state not in _RUNNING:
                _require_completed(state, answer)
                return
            if not parts:
                yield {"progress": {}, "state": state}
                time.sleep(POLL_SECONDS[0])


class HttpTransport:
    """POST /generate of the HTTP server, read line by line while it generates. Closing the iterator frees the slot.

    A server that is loading or busy is asked again, when it says.
    """

    def __init__(self, http: requests.Session, base_url: str) -> None:
        self._http = http
        self._url = f"{base_url.rstrip('/')}/generate"

    def send(self, job: Mapping[str, Any]) -> Iterator[Item]:
        body = {**job, "input": {**job["input"], "stream": True}}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (response := self._asked(body)).status_code == _COME_BACK and time.monotonic() < deadline:
            wait = response.headers.get("Retry-After", "")
            response.close()
            yield {"progress": {}, "state": "IN_QUEUE"}
            time.sleep(int(wait) if wait.isdecimal() else POLL_SECONDS[-1])
        with response:
            if not response.ok:
                raise ClientError(_sentence(response))
            try:
                for line in response.iter_lines(chunk_size=LINE_BYTES):
                    if line:
                        yield _checked(json.loads(line))
            except requests.RequestException:
                raise ClientError("The connection broke off in the middle of the audio.") from None

    def _asked(self, body: Mapping[str, Any]) -> requests.Response:
        return _sent(self._http.post, self._url, json=body, stream=True)


def _require_completed(state: str, status: Mapping[str, Any]) -> None:
    if state != "COMPLETED":
        raise ClientError(str(status.get("error") or f"The job ended as {state}."))


def _answered(call: Any, url: str, **options: Any) -> requests.Response:
    response = _sent(call, url, **options)
    if response.ok:
        return response
    raise ClientError(_sentence(response))


def _sent(call: Any, url: str, **options: Any) -> requests.Response:
    try:
        response: requests.Response = call(url, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), **options)
    except requests.RequestException as error:
        raise ClientError(f"The endpoint cannot be reached ({type(error).__name__}).") from None
    return response


def _sentence(response: requests.Response) -> str:
    """The server's own words where it said any."""
    try:
        body = response.json()
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    hint = body.get("hint") if isinstance(body, dict) else None
    said = " ".join(str(part) for part in (words, hint) if part)
    return said or f"The endpoint answered with status {response.status_code}."


def _json(response: requests.Response) -> Item:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ClientError("The endpoint's answer is not a JSON object; is the address right?")
    return body


def _checked(item: Item) -> Item:
    if item.get("error"):
        hint = item.get("hint")
        raise ClientError(f"{item['error']}{f' {hint}' if hint else ''}")
    return item
