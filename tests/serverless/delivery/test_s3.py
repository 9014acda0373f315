"""Uploads to moto's S3 server, which is a real HTTP server on loopback, and signatures computed a second time."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from higgs_core.errors import DeliveryError
from serverless.delivery.s3 import object_name
from tests.helpers.certificates import certificate, needs_openssl
from tests.helpers.loopback import Connection, Server
from tests.helpers.patience import PATIENCE
from tests.helpers.stores import bucket, keeping, put, read_body, refusal, signature_of_link, signature_of_put


def test_the_link_downloads_what_was_uploaded_with_its_type(store: str) -> None:
    before = datetime.now(UTC)
    upload = put(bucket(store, prefix="/runs/", url_ttl_seconds=600))
    after = datetime.now(UTC)
    answer = requests.get(upload.url, timeout=PATIENCE)
    assert answer.content == b"RIFF...."
    assert answer.headers["Content-Type"] == "audio/wav"
    assert upload.url.startswith(f"{store}/speech/runs/job-1.wav?")
    lifetime, whole_seconds = timedelta(seconds=600), timedelta(seconds=1)
    assert before + lifetime - whole_seconds < upload.expires_at <= after + lifetime
    assert "very-secret" not in upload.url


def test_the_link_is_signed_for_its_lifetime(store: str) -> None:
    upload = put(bucket(store, url_ttl_seconds=77))
    assert "X-Amz-Expires=77" in upload.url
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in upload.url


def test_the_same_job_again_replaces_its_file(store: str) -> None:
    ours = bucket(store)
    first = put(ours, b"one")
    put(ours, b"two")
    assert requests.get(first.url, timeout=PATIENCE).content == b"two"


@pytest.mark.parametrize("prefix", ["", "a/b", "a b", "\u00fc+&=?#%41", "a//b", "../up", "a/./b/.."])
def test_both_signatures_are_those_that_aws_would_compute(prefix: str) -> None:
    stored: dict[str, bytes] = {}
    data = bytes(range(256)) * 900
    with keeping(stored) as server:
        upload = put(bucket(server.url, prefix=prefix), data)
        assert upload.url.startswith(f"{server.url}{server.seen[0].path}?")
    given, expected = signature_of_put(server.seen[0])
    assert given == expected
    given, expected = signature_of_link(upload.url)
    assert given == expected
    headers = server.seen[0].headers
    assert headers["x-amz-content-sha256"] == hashlib.sha256(data).hexdigest()
    assert headers["content-type"] == "audio/wav"
    assert list(stored.values()) == [data]


@pytest.mark.parametrize("prefix", ["a b/\u00fc+&=", "a//b"])
def test_an_odd_prefix_arrives(prefix: str, store: str) -> None:
    upload = put(bucket(store, prefix=prefix), b"odd")
    assert requests.get(upload.url, timeout=PATIENCE).content == b"odd"


def test_an_empty_file_and_a_large_one_arrive(store: str) -> None:
    for data in (b"", bytes(20_000_000)):
        assert requests.get(put(bucket(store), data).url, timeout=PATIENCE).content == data


def test_a_store_that_never_asks_for_the_body_gets_it() -> None:
    stored = []

    def silent(connection: Connection) -> None:
        # Nothing is said before all of it has come.
        body = b""
        while len(body) < 500_000:
            body += connection.sock.recv(2**16)
        stored.append(body)
        connection.answer(b"")

    with Server(silent) as server:
        put(bucket(server.url), bytes(500_000))
    assert stored == [bytes(500_000)]


def test_a_refusal_names_the_stores_code_and_nothing_secret(store: str) -> None:
    with pytest.raises(DeliveryError) as failure:
        put(bucket(store, "nobodys-bucket"))
    assert failure.value.message == "The result could not be uploaded to S3 (NoSuchBucket)."
    assert "BUCKET_*" in (failure.value.hint or "")


def test_wrong_keys_are_refused_by_name_and_stay_out_of_the_sentence(store: str) -> None:
    requests.post(f"{store}/moto-api/reset-auth", data=b"0", timeout=PATIENCE)  # from here on moto checks who asks
    try:
        with pytest.raises(DeliveryError, match="InvalidAccessKeyId") as failure:
            put(bucket(store))
    finally:
        requests.post(f"{store}/moto-api/reset-auth", data=b"inf", timeout=PATIENCE)
    assert "key-id" not in failure.value.message
    assert "very-secret" not in failure.value.message


def test_neither_the_sentence_nor_the_log_has_an_address_or_the_stores_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "serverless")
    with Server(refusal("403 Forbidden", "AccessDenied")) as server:
        port = str(server.port)
        with pytest.raises(DeliveryError) as failure:
            put(bucket(server.url, prefix="private-folder"))
    told = f"{failure.value} {failure.value.hint} {caplog.text}"
    assert "AccessDenied" in caplog.text
    for secret in ("127.0.0.1", port, "very-secret", "key-id", "private-folder", "job-1"):
        assert secret not in told


@needs_openssl
@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_store_with_a_certificate_of_the_operators_own_is_trusted_where_a_variable_says_so(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)

    def script(connection: Connection) -> None:
        read_body(connection)
        connection.answer(b"")

    with Server(script, tls=certificate(tmp_path, "IP:127.0.0.1")) as server:
        with pytest.raises(DeliveryError, match="TLS failed, or the certificate is not valid"):
            put(bucket(server.url))
        assert server.seen == []
        monkeypatch.setenv(variable, str(tmp_path / "cert.pem"))
        assert put(bucket(server.url)).url.startswith("https://")


def test_certificates_that_cannot_be_read_are_a_delivery_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/very-secret.pem")
    with pytest.raises(DeliveryError, match="AWS_CA_BUNDLE") as failure:
        put(bucket("https://127.0.0.1:9"))
    assert "very-secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("job_id", "name"),
    [
        ("a1b2-u1", "a1b2-u1.wav"),
        ("../../etc/passwd", "------etc-passwd.wav"),
        ("", "job.wav"),
        ("x" * 500, "x" * 128 + ".wav"),
    ],
)
def test_a_job_id_cannot_leave_the_prefix(job_id: str, name: str) -> None:
    assert object_name(job_id, "wav") == name
