"""The bucket that a job brings along: complete and well-formed, or refused without repeating any of it."""

from __future__ import annotations

from typing import Any

import pytest

from higgs_core.errors import RequestError
from serverless.config.s3 import parse_s3_config

GOOD = {
    "accessId": "AKIAIOSFODNN7EXAMPLE",
    "accessSecret": "wJalrXUtnFEMI-s3cret",
    "bucketName": "my-bucket",
    "endpointUrl": "https://s3.example.com/",
}


def test_a_complete_config_is_read() -> None:
    config = parse_s3_config(GOOD)
    assert config is not None
    assert (config.bucket_name, config.endpoint_url, config.region) == ("my-bucket", "https://s3.example.com", None)
    assert config.access_key_id.get_secret_value() == GOOD["accessId"]
    assert config.secret_access_key.get_secret_value() == GOOD["accessSecret"]


def test_keys_do_not_show_in_its_repr() -> None:
    shown = repr(parse_s3_config(GOOD))
    assert "AKIA" not in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize("given", [None, {}])
def test_a_job_without_one_has_none(given: Any) -> None:
    assert parse_s3_config(given) is None


@pytest.mark.parametrize("config", ["bucket", 5, [GOOD], True])
def test_what_is_no_object_is_refused(config: Any) -> None:
    with pytest.raises(RequestError) as caught:
        parse_s3_config(config)
    assert caught.value.field == "s3Config"


@pytest.mark.parametrize("key", GOOD)
@pytest.mark.parametrize("value", [None, "", "  ", 5, ["s3cret"], "s3cret\nheader: x", "s3cret" * 1000])
def test_a_wrong_key_is_named_and_nothing_is_repeated(key: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        parse_s3_config({**GOOD, key: value})
    assert caught.value.field == f"s3Config.{key}"
    assert not any(part in str(caught.value) for part in ("s3cret", "AKIA", "example.com"))


@pytest.mark.parametrize(
    "address",
    [
        "s3.example.com",
        "ftp://h",
        "file:///etc",
        "https://u:s3cret@h",
        "https://h?s3cret",
        "https://h\\@x",
        "https://é",
    ],
)
def test_an_endpoint_must_be_a_plain_address(address: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_s3_config({**GOOD, "endpointUrl": address})
    assert caught.value.field == "s3Config.endpointUrl"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "../up", "a/b", "-a", "a b", "x" * 300])
def test_a_bucket_must_have_the_name_of_one(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_s3_config({**GOOD, "bucketName": name})
    assert caught.value.field == "s3Config.bucketName"
