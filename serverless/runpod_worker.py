"""The container's entry point: python -m serverless.runpod_worker.

Reads the settings, loads and warms up the model, and only then takes jobs from RunPod's queue. HIGGS_AUDIO_MODE=http
starts the HTTP server of load-balancing endpoints from the same image.
"""

from __future__ import annotations

import signal
import sys
from functools import partial

from serverless.config.native_memory import FreedMemory
from serverless.config.startup import (
    FAILED,
    LAST_ANSWERS_SECONDS,
    WRONG_SETTING,
    end_process,
    end_process_within,
    leave,
    start_up,
)


def main() -> int:
    """Work until the platform says stop; the exit status is 0 then, 2 for a wrong setting, 1 when the engine died."""
    settings = start_up()
    if settings is None:
        return WRONG_SETTING
    if settings.mode == "http":
        from serverless.http_server import serve

        return serve(settings)

    import runpod

    from serverless.queue.handler import QueueWorker
    from serverless.queue.progress import ProgressReporter
    from serverless.service.service import SpeechService

    # Until the SDK has handlers of its own: as a container's first process it would not hear of the signal without one.
    signal.signal(signal.SIGTERM, lambda *_: end_process(0))
    service = SpeechService(settings)
    service.observe_jobs(FreedMemory())
    service.observe_failure(partial(end_process_within, LAST_ANSWERS_SECONDS, FAILED))
    service.load()

    @runpod.serverless.register_fitness_check  # type: ignore[untyped-decorator]
    def model_is_loaded() -> None:
        """On the platform a failure marks the worker unhealthy and ends it before it takes a job."""
        if service.load_error is not None:
            raise RuntimeError(service.load_error)

    reporter = partial(ProgressReporter, send=runpod.serverless.progress_update)
    runpod.serverless.start(QueueWorker(service, reporter=reporter).config)
    failed = service.must_recycle
    failed |= not service.close()
    return leave(FAILED if failed else 0, clean=not failed)


if __name__ == "__main__":
    sys.exit(main())
