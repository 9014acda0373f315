"""Where an upload goes is decided by its text alone: never a host other than the one that was written."""

from __future__ import annotations

import pytest

from serverless.delivery.object_address import object_address, region_of


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.amazonaws.com", "us-east-1"),
        ("s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3-ap-south-1.amazonaws.com", "ap-south-1"),
        ("speech.s3.us-west-2.amazonaws.com", "us-west-2"),
        ("s3.dualstack.eu-central-1.amazonaws.com", "eu-central-1"),
        ("s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("0a1b.r2.cloudflarestorage.com", "us-east-1"),
        ("s3api-eu-ro-1.runpod.io", "us-east-1"),
        ("127.0.0.1", "us-east-1"),
    ],
)
def test_the_region_is_read_off_the_host(host: str, region: str) -> None:
    assert region_of(host) == region


@pytest.mark.parametrize(
    ("endpoint", "bucket", "url"),
    [
        (None, "speech", "https://speech.s3.us-east-1.amazonaws.com/k"),
        (None, "a.b", "https://s3.us-east-1.amazonaws.com/a.b/k"),  # no certificate covers a.b.s3...
        (None, "Old_Bucket", "https://s3.us-east-1.amazonaws.com/Old_Bucket/k"),
        ("https://s3.eu-west-1.amazonaws.com", "speech", "https://speech.s3.eu-west-1.amazonaws.com/k"),
        ("https://speech.s3.eu-west-1.amazonaws.com", "speech", "https://speech.s3.eu-west-1.amazonaws.com/k"),
        ("https://s3.eu-west-1.amazonaws.com/speech", "speech", "https://speech.s3.eu-west-1.amazonaws.com/k"),
        ("https://speech.s3.eu-west-1.amazonaws.com/speech", "speech", "https://speech.s3.eu-west-1.amazonaws.com/k"),
        ("https://a.b.s3.eu-west-1.amazonaws.com", "a.b", "https://s3.eu-west-1.amazonaws.com/a.b/k"),
        ("https://s3.amazonaws.com:443", "speech", "https://speech.s3.amazonaws.com:443/k"),
        ("https://host.example", "speech", "https://host.example/speech/k"),
        ("https://host.example/speech", "speech", "https://host.example/speech/k"),
        ("https://host.example/base", "speech", "https://host.example/base/speech/k"),
        ("https://HOST.example:9000", "speech", "https://host.example:9000/speech/k"),
        ("http://[::1]:9000", "speech", "http://[::1]:9000/speech/k"),
        ("https://speeches.example/other", "speech", "https://speeches.example/other/speech/k"),
        ("https://speech.fra1.digitaloceanspaces.com", "speech", "https://speech.fra1.digitaloceanspaces.com/k"),
        ("https://minio.example/minio", "minio", "https://minio.example/minio/k"),
    ],
)
def test_a_bucket_written_into_the_endpoint_is_not_added_twice(endpoint: str | None, bucket: str, url: str) -> None:
    assert object_address(endpoint, bucket, None).url("k") == url


@pytest.mark.parametrize(
    ("endpoint", "bucket", "start"),
    [
        ("http://93.184.127.1:8080", "93.184", "http://93.184.127.1:8080/"),
        ("http://93.184.215.0:8080", "93.184.215", "http://93.184.215.0:8080/"),
        ("http://93.184.127", "93.184", "http://93.184.127/"),
        ("http://8.10.1", "8", "http://8.10.1/"),
        ("http://0x5d.127.1", "0x5d", "http://0x5d.127.1/"),
        ("http://bkt.evil.example", "bkt", "http://bkt.evil.example/"),
        ("http://bkt.localhost", "bkt", "http://bkt.localhost/"),
        ("http://BKT.evil.example", "bkt", "http://bkt.evil.example/"),
        ("http://evil.example/x.amazonaws.com", "bkt", "http://evil.example/"),
        ("http://evil.example/.amazonaws.com/bkt", "bkt", "http://evil.example/"),
        ("http://evil.example:80/s3.amazonaws.com", "bkt", "http://evil.example:80/"),
        ("http://amazonaws.com.evil.example", "bkt", "http://amazonaws.com.evil.example/"),
        ("http://xamazonaws.com", "bkt", "http://xamazonaws.com/"),
        ("http://evil.example", "x--usw2-az1--x-s3", "http://evil.example/"),  # a directory bucket's name
        ("http://evil.example", "evil.example", "http://evil.example/"),
    ],
)
def test_no_name_of_a_bucket_changes_the_host_that_was_written(endpoint: str, bucket: str, start: str) -> None:
    assert object_address(endpoint, bucket, None).url("k").startswith(start)


@pytest.mark.parametrize(
    ("key", "path"),
    [("a/b.wav", "a/b.wav"), ("a b+c.wav", "a%20b%2Bc.wav"), ("\u00fc/%41?#", "%C3%BC/%2541%3F%23"), ("~_-.", "~_-.")],
)
def test_a_key_is_encoded_as_s3_signs_it(key: str, path: str) -> None:
    assert object_address("https://host.example", "speech", None).url(key) == f"https://host.example/speech/{path}"


@pytest.mark.parametrize(
    ("endpoint", "region", "url"),
    [
        (None, "eu-west-1", "https://speech.s3.eu-west-1.amazonaws.com/k"),
        (None, "cn-north-1", "https://speech.s3.cn-north-1.amazonaws.com.cn/k"),
        (None, "eusc-de-east-1", "https://speech.s3.eusc-de-east-1.amazonaws.eu/k"),
        ("https://s3.amazonaws.com", "eu-west-1", "https://speech.s3.eu-west-1.amazonaws.com/k"),
        ("https://s3-accelerate.amazonaws.com", "eu-west-1", "https://speech.s3.eu-west-1.amazonaws.com/k"),
        ("http://s3.amazonaws.com", "eu-west-1", "http://speech.s3.amazonaws.com/k"),
        ("https://ec2-1-2-3-4.amazonaws.com", "eu-west-1", "https://speech.ec2-1-2-3-4.amazonaws.com/k"),
        ("https://host.example", "eu-west-1", "https://host.example/speech/k"),
    ],
)
def test_only_awss_own_hosts_follow_a_region_and_any_store_is_signed_for_it(
    endpoint: str | None, region: str, url: str
) -> None:
    moved = object_address(endpoint, "speech", None).in_region(region)
    assert moved is not None
    assert (moved.url("k"), moved.region) == (url, region)
    assert moved.in_region(region) is None


@pytest.mark.parametrize(
    "region",
    ["us-east-1", "", "evil", "evil.example/", "eu-west-1.evil.example", "eu-west-1\r\n", "EU-WEST-1", "a" * 99],
)
def test_what_is_no_other_region_changes_nothing(region: str) -> None:
    assert object_address(None, "speech", None).in_region(region) is None


def test_the_operators_region_goes_before_the_hosts() -> None:
    assert object_address("https://s3.eu-west-1.amazonaws.com", "speech", "us-west-2").region == "us-west-2"
    assert object_address(None, "speech", "eu-north-1").url("k") == "https://speech.s3.eu-north-1.amazonaws.com/k"
