"""The container's entry point: python -m serverless.runpod_worker.

Reads the settings, loads and warms up the model, and only then takes jobs from RunPod's queue. HIGGS_AUDIO_MODE=http
starts the HTTP server of load-balancing endpoints from the same image.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial

from higgs_core.errors import SettingsError

# The SDK reads these when it is first imported, so they are set before anything that imports it.
SDK_DEFAULTS = {
    # At its default, DEBUG, the SDK writes every result into the log.
    "RUNPOD_LOG_LEVEL": "INFO",
    # The SDK's own checks run after the load: a full GPU looks broken to them. The load and its proof check more.
    "RUNPOD_SKIP_GPU_CHECK": "true",
    "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
}

logger = logging.getLogger(__name__)


def main() -> int:
    """Work until the platform says stop; the exit status is 0 then, 2 for a wrong setting, 1 when the engine died."""
    for name, value in SDK_DEFAULTS.items():
        os.environ.setdefault(name, value)

    from serverless.config.settings import Settings, unknown_variables
    from serverless.service.log import configure_logging

    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    configure_logging(settings)
    for sentence in unknown_variables():
        logger.warning("%s", sentence)
    if settings.mode == "http":
        from serverless.http_server import serve

        return serve(settings)

    import runpod

    from serverless.queue.handler import QueueWorker
    from serverless.queue.progress import ProgressReporter
    from serverless.service.service import SpeechService

    service = SpeechService(settings)
    service.load()

    @runpod.serverless.register_fitness_check  # type: ignore[untyped-decorator]
    def model_is_loaded() -> None:
        """On the platform a failure marks the worker unhealthy and ends it before it takes a job."""
        if service.load_error is not None:
            raise RuntimeError(service.load_error)

    reporter = partial(ProgressReporter, send=runpod.serverless.progress_update)
    runpod.serverless.start(QueueWorker(service, reporter=reporter).config)
    dead = service.must_recycle
    service.close()
    if dead:
        # A thread that hangs in the driver must not keep a dead worker alive.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
