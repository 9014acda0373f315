"""One line a job, in the shape of its reader, and nothing in it that a client wrote."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest

from higgs_core.errors import EngineStoppedError, GenerationCancelled, HiggsError, NoAudioError, RequestError
from serverless.config.log import PlainFormatter, PlatformFormatter, configure_logging, places
from serverless.config.settings import Settings
from serverless.service.job_record import JobRecord


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers, root.level = handlers, level


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
    for field in ("references[0]", "speakers.my secret", "messages[3].content[0]"):
        with caplog.at_level(logging.INFO), pytest.raises(RequestError), JobRecord("job-7"):
            raise RequestError("It is wrong.", field=field)
    fields = [record.__dict__["fields"].get("field") for record in caplog.records]
    assert fields == ["references[0]", None, "messages[3].content[0]"]


def test_the_places_of_an_exception_are_its_frames_and_its_causes_without_their_messages() -> None:
    def inner() -> None:
        raise KeyError("secret words")

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("more secrets") from error
    except ValueError as error:
        text = places(error)
    assert text.index("KeyError") < text.index("ValueError")
    assert "test_log.py" in text
    assert "in inner" in text
    assert "secret" not in text


def test_the_platform_gets_json_and_a_terminal_plain_words(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(model_id="tiny", log_level="INFO")
    configure_logging(settings, on_platform=True)
    logging.getLogger("anything").warning("disk is %d %% full", 93)
    configure_logging(settings, on_platform=False)
    logging.getLogger("anything").info("here")
    logging.getLogger("anything").debug("not here")
    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first) == {"requestId": None, "message": "disk is 93 % full", "level": "WARN"}
    assert second.endswith("INFO    here")


def test_the_platform_is_known_by_its_variable(
    root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNPOD_ENDPOINT_ID", "endpoint")
    configure_logging(Settings(model_id="tiny"))
    logging.getLogger("anything").error("broken")
    assert json.loads(capsys.readouterr().err)["level"] == "ERROR"


def test_libraries_that_print_addresses_are_quieted(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(Settings(model_id="tiny", log_level="DEBUG"))
    logging.getLogger("httpx").info("GET https://host/?token=secret")
    logging.getLogger("urllib3.connectionpool").warning("retrying /?token=secret")
    assert capsys.readouterr().err == ""
