"""Certificates of servers: signed, and for the name in the URL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serverless.network.fetch_guard import FetchRefused
from tests.helpers.certificates import certificate, needs_openssl
from tests.helpers.loopback import Server
from tests.helpers.url_fetches import CLIP_BYTES, get


@needs_openssl
def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    context = certificate(tmp_path, "IP:127.0.0.1")
    with Server(lambda connection: connection.answer(CLIP_BYTES), tls=context) as server:
        with pytest.raises(FetchRefused, match="TLS"):
            get(server.url)
        assert server.seen == []


@needs_openssl
def test_a_certificate_is_checked_against_the_name_in_the_url_and_not_the_dialled_address(tmp_path: Path) -> None:
    context = certificate(tmp_path, "DNS:clips.example")
    code = """
import asyncio, sys
from serverless.network.fetch_guard import FetchRefused
from serverless.references.url_fetch import fetch
from dataclasses import replace
from tests.helpers.loopback import LOOPBACK
guard = replace(LOOPBACK, resolver=lambda host, port: ["127.0.0.1"])
for host in ("clips.example", "clips.example.", "other.example", "127.0.0.1"):
    url = f"https://{host}:{sys.argv[1]}/"
    try:
        print(asyncio.run(fetch(url, guard, timeout_seconds=600, max_bytes=100, max_redirects=0)).decode())
    except FetchRefused as refusal:
        print(refusal)
"""
    with Server(lambda connection: connection.answer(b"arrived"), tls=context) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, str(server.port)],
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "cert.pem")},  # read once, when aiohttp is imported
            check=True,
            capture_output=True,
            text=True,
        )
    refused = "TLS failed, or the certificate is not valid"
    assert done.stdout.splitlines() == ["arrived", "arrived", refused, refused]
