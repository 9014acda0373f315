"""Uploads to moto's S3 server, which is a real HTTP server on loopback, and what boto3 is told about other stores."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
import requests
from pydantic import SecretStr

from higgs_core.errors import DeliveryError
from serverless.config.s3 import S3Config
from serverless.delivery.s3 import Bucket, endpoint_without_bucket, object_name, region_of
from tests.helpers.patience import PATIENCE


def config(endpoint: str | None, bucket: str = "speech") -> S3Config:
    return S3Config(bucket, SecretStr("key-id"), SecretStr("very-secret"), endpoint)


def test_the_link_downloads_what_was_uploaded_with_its_type(store: str) -> None:
    before = datetime.now(UTC)
    upload = Bucket(config(store), prefix="/runs/", url_ttl_seconds=600).upload(
        b"RIFF....", name="job-1.wav", content_type="audio/wav"
    )
    after = datetime.now(UTC)
    answer = requests.get(upload.url, timeout=PATIENCE)
    assert answer.content == b"RIFF...."
    assert answer.headers["Content-Type"] == "audio/wav"
    assert upload.url.startswith(f"{store}/speech/runs/job-1.wav?")
    lifetime, whole_seconds = timedelta(seconds=600), timedelta(seconds=1)
    assert before + lifetime - whole_seconds < upload.expires_at <= after + lifetime
    assert "very-secret" not in upload.url


def test_the_link_is_signed_for_its_lifetime(store: str) -> None:
    upload = Bucket(config(store), prefix="", url_ttl_seconds=77).upload(b"x", name="a.wav", content_type="audio/wav")
    assert "X-Amz-Expires=77" in upload.url
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in upload.url


def test_the_same_job_again_replaces_its_file(store: str) -> None:
    bucket = Bucket(config(store), prefix="", url_ttl_seconds=60)
    first = bucket.upload(b"one", name="again.wav", content_type="audio/wav")
    bucket.upload(b"two", name="again.wav", content_type="audio/wav")
    assert requests.get(first.url, timeout=PATIENCE).content == b"two"


def test_a_refusal_names_the_stores_code_and_nothing_secret(store: str) -> None:
    with pytest.raises(DeliveryError) as failure:
        Bucket(config(store, "nobodys-bucket"), prefix="", url_ttl_seconds=60).upload(
            b"x", name="a.wav", content_type="audio/wav"
        )
    assert failure.value.message == "The result could not be uploaded to S3 (NoSuchBucket)."
    assert "s3Config" in (failure.value.hint or "")


def test_wrong_keys_are_refused_by_name_and_stay_out_of_the_sentence(store: str) -> None:
    requests.post(f"{store}/moto-api/reset-auth", data=b"0", timeout=PATIENCE)  # from here on moto checks who asks
    try:
        with pytest.raises(DeliveryError, match="InvalidAccessKeyId") as failure:
            Bucket(config(store), prefix="", url_ttl_seconds=60).upload(b"x", name="a.wav", content_type="audio/wav")
    finally:
        requests.post(f"{store}/moto-api/reset-auth", data=b"inf", timeout=PATIENCE)
    assert "key-id" not in failure.value.message
    assert "very-secret" not in failure.value.message


def test_a_store_that_is_not_there_is_a_delivery_error() -> None:
    with pytest.raises(DeliveryError, match=re.escape("(EndpointConnectionError)")) as failure:
        Bucket(config("http://127.0.0.1:9"), prefix="", url_ttl_seconds=60).upload(
            b"x", name="a.wav", content_type="audio/wav"
        )
    assert "127.0.0.1" not in str(failure.value)


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        (None, "us-east-1"),
        ("https://s3.amazonaws.com", "us-east-1"),
        ("https://s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3-ap-south-1.amazonaws.com", "ap-south-1"),
        ("https://speech.s3.us-west-2.amazonaws.com", "us-west-2"),
        ("https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://0a1b.r2.cloudflarestorage.com", "us-east-1"),
        ("https://s3api-eu-ro-1.runpod.io", "us-east-1"),
        ("http://127.0.0.1:9000", "us-east-1"),
    ],
)
def test_the_region_is_read_off_the_endpoint(endpoint: str | None, region: str) -> None:
    assert region_of(endpoint) == region


@pytest.mark.parametrize(
    ("endpoint", "stripped"),
    [
        (None, None),
        ("https://speech.s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"),
        ("https://host.example/speech/", "https://host.example"),
        ("https://host.example:9000", "https://host.example:9000"),
        ("https://speeches.example/other", "https://speeches.example/other"),
    ],
)
def test_a_bucket_written_into_the_endpoint_is_not_added_twice(endpoint: str | None, stripped: str | None) -> None:
    assert endpoint_without_bucket(endpoint, "speech") == stripped


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
