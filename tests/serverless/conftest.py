"""Servers that several suites share: the worker's own HTTP server, and an S3 store."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from serverless.config.settings import Settings
from tests.helpers.http_server import Running, serving, wait_until
from tests.helpers.voices import voice_folder


@pytest.fixture(scope="session")
def store() -> Iterator[str]:
    """The address of moto's S3 server, a real HTTP server on loopback, with one bucket, "speech"."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="speech")
    yield address
    server.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The HTTP server with `tiny` and one voice, belinda."""
    settings = Settings(model_id="tiny", device="cpu", voices_dir=voice_folder(tmp_path_factory.mktemp("voices")))
    with serving(settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _left_idle(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a request behind in the shared server."""
    yield
    if "server" in request.fixturenames:
        wait_until(request.getfixturevalue("server").idle)
