"""One line a job, in the shape of its reader, and nothing in it that a client wrote."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from higgs_core.errors import EngineStoppedError, GenerationCancelled, HiggsError, NoAudioError, RequestError
from serverless.config.log import PlainFormatter, PlatformFormatter
from serverless.service.job_record import JobRecord


def line_of(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (record,) = (record for record in caplog.records if record.name == "serverless.jobs")
    return record


def test_a_finished_job_is_one_line_with_its_measures(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), JobRecord("job-7") as record:
        record.note(duration_seconds=3.25, finish_reason="stop", missing=None)
    line = json.loads(PlatformFormatter().format(line_of(caplog)))
    assert line["requestId"] == "job-7"
    assert line["level"] == "INFO"
    assert line["message"].startswith("job finished: duration_seconds=3.25 finish_reason=stop seconds=")
    assert line["fields"]["duration_seconds"] == 3.25
    assert "missing" not in line["fields"]
    plain = PlainFormatter().format(line_of(caplog))
    assert plain.endswith("[job-7]")
    assert "\n" not in plain


@pytest.mark.parametrize(
    ("error", "level", "outcome", "traced"),
    [
        (RequestError("top_p is 7.", field="top_p"), "WARN", "refused", False),
        (NoAudioError("Model did not return audio tokens."), "ERROR", "failed", False),
        (EngineStoppedError("The engine has stopped."), "ERROR", "failed", True),
        (ZeroDivisionError("secret words"), "ERROR", "failed", True),
        (GenerationCancelled("The request was cancelled."), "INFO", "cancelled", False),
        (asyncio.CancelledError(), "INFO", "cancelled", False),
        (GeneratorExit(), "INFO", "cancelled", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_job_that_fails_is_one_line_by_whose_fault_it_is(
    caplog: pytest.LogCaptureFixture, error: BaseException, level: str, outcome: str, traced: bool
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(type(error)), JobRecord("job-7"):
        raise error
    text = PlatformFormatter().format(line_of(caplog))
    line = json.loads(text)
    assert (line["level"], line["fields"]["outcome"]) == (level, outcome)
    assert (type(error).__name__ in line["message"]) == traced
    assert "secret words" not in text
    if isinstance(error, HiggsError) and outcome != "cancelled":
        assert line["fields"]["code"] == error.code


def test_a_field_that_holds_a_clients_words_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    for field in ("references[0]", "speakers.secret.voice", "messages[3].content[0]", "my secret"):
        with caplog.at_level(logging.INFO), pytest.raises(RequestError), JobRecord("job-7"):
            raise RequestError("It is wrong.", field=field)
    fields = [record.__dict__["fields"].get("field") for record in caplog.records]
    assert fields == ["references[0]", "speakers.*.voice", "messages[3].content[0]", None]
