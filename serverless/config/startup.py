"""What every entry point does first: bounds on memory, the SDK's defaults, the settings, the log."""

from __future__ import annotations

import logging
import os
import sys
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


def end_process() -> NoReturn:
    """End a process whose engine has failed, with status 1, even if a thread hangs in the driver."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


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
