"""What every entry point does first: bounds on memory, the SDK's defaults, the settings, the log."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from typing import NoReturn

from higgs_core.errors import SettingsError
from serverless.config.log import configure_logging, log_lost_exceptions
from serverless.config.native_memory import bound_arenas
from serverless.config.settings import Settings, unknown_variables

logger = logging.getLogger(__name__)

# The SDK reads these when it is first imported, so they are set before anything that imports it.
SDK_DEFAULTS = {
    # At its default, DEBUG, the SDK writes every result into the log.
    "RUNPOD_LOG_LEVEL": "INFO",
    # The SDK's own checks run after the load: a full GPU looks broken to them. The load and its smoke test check more.
    "RUNPOD_SKIP_GPU_CHECK": "true",
    "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
}

WRONG_SETTING = 2
"""The exit status of a process whose settings are wrong."""


FAILED = 1
"""The exit status of a process whose engine has failed."""

LAST_ANSWERS_SECONDS = 120.0
"""From the engine's failure to the end of its process, whatever is still open then. Answers leave within seconds, and
the queue's poll for jobs, which has to end first, takes up to 90."""

EXIT_SECONDS = 10.0
"""That the interpreter gets to end by itself."""


def end_process(status: int = FAILED) -> NoReturn:
    """End the process at once, even if a thread hangs in the driver; processes that it has started end too."""
    for child in multiprocessing.active_children():  # the SDK's pings, which would say that the worker lives
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # whoever read it is gone
            continue
    os._exit(status)


def end_process_within(seconds: float, status: int) -> None:
    """End the process so many seconds from now, if it has not ended by then. What hangs must not keep it alive."""
    timer = threading.Timer(seconds, end_process, args=(status,))
    timer.name, timer.daemon = "last-resort", True
    timer.start()


def leave(status: int, *, clean: bool) -> int:
    """The last thing that an entry point does: returns its exit status.

    clean: nothing of the engine's runs any more. If something does, this ends the process: the interpreter's own way
    out would wait for threads, and CUDA's for a device that does not answer.
    """
    if not clean:
        end_process(status)
    end_process_within(EXIT_SECONDS, status)
    return status


def start_up() -> Settings | None:
    """The settings of the environment, with the log set up as they say.

    Returns None if a setting is wrong; the sentence that says so is then on stderr.
    """
    bound_arenas()
    for name, value in SDK_DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        return None
    configure_logging(settings)
    log_lost_exceptions()
    for sentence in unknown_variables():
        logger.warning("%s", sentence)
    return settings
