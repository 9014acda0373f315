"""The form of the log: JSON on the platform, plain lines elsewhere, and no message of an exception in either."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from serverless.config.log import configure_logging, places
from serverless.config.settings import Settings


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers, root.level = handlers, level


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


def test_of_asyncios_lines_only_the_first_is_written(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others show tasks with their exceptions, messages and all."""

    async def lose() -> None:
        async def fail() -> None:
            raise ValueError("secret words")

        task = asyncio.create_task(fail())
        while not task.done():
            await asyncio.sleep(0)

    configure_logging(Settings(model_id="tiny"), on_platform=False)
    asyncio.run(lose())
    gc.collect()
    written = capsys.readouterr().err
    assert "Task exception was never retrieved" in written
    assert "in fail" in written
    assert "secret" not in written


def test_exceptions_that_nobody_catches_are_logged_by_their_places() -> None:
    """In a process of its own, whose hooks are Python's until they are set."""
    program = """
import threading, sys, gc
from serverless.config.log import configure_logging, log_lost_exceptions
from serverless.config.settings import Settings

configure_logging(Settings(model_id="tiny"), on_platform=False)
log_lost_exceptions()

class Lost:
    def __del__(self):
        raise ValueError("secret words")

def fail():
    raise ValueError("secret words")

Lost()
gc.collect()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "secret" not in done.stderr
    for words in ("an exception had nowhere to go", "a thread has ended", "the process ends", "in fail", "in __del__"):
        assert words in done.stderr
