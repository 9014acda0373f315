"""Voice names index a dict: none of them reaches the file system, and none is echoed unless it is a plain name."""

from __future__ import annotations

import numpy as np
import pytest

from higgs_core.errors import RequestError
from higgs_core.speech.voices import Voice, VoiceLibrary


@pytest.fixture(scope="module")
def library() -> VoiceLibrary:
    return VoiceLibrary({"anna": Voice("anna", "Words.", codes=np.zeros((8, 1), np.int16))})


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "anna ",
        " anna",
        "anna\n",
        "anna\0",
        "Anna",
        "ANNA",
        "anna.wav",
        "./anna",
        "../secret",
        "../voices/anna",
        "..",
        ".",
        "/etc/passwd",
        "secret",
        "config",
        "config.json",
        "anna/../anna",
        "anna%00",
        "%61nna",
        "аnna",
        "anna\u200b",
        "ａｎｎａ",
        "__class__",
        "__init__",
        "constructor",
        "CON",
        "NUL",
        "-rf",
        "'; DROP TABLE voices; --",
        "${jndi:ldap://127.0.0.1/a}",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "%n%s",
        "\ud800",
        "\u202e",
        "a" * 100_000,
    ],
)
def test_a_name_that_is_not_in_the_library_is_refused_in_one_safe_sentence(name: str, library: VoiceLibrary) -> None:
    with pytest.raises(RequestError) as failure:
        library.find(name, field="references[0]")
    assert failure.value.field == "references[0]"
    assert failure.value.message.isprintable()
    assert len(failure.value.message) < 150
    assert not set("<>'%${/\\") & set(failure.value.message)
    assert "anna" in (failure.value.hint or "")


def test_the_one_name_that_is_there_is_found(library: VoiceLibrary) -> None:
    assert library.find("anna", field="references[0]") is library["anna"]
