"""What became of a piece of the codec's work, told to whoever waits, and whether the codec can go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from higgs_core.codec.audio_codec import free_cached_memory
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, HiggsError
from higgs_core.failures.device_failure import is_device_failure
from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.failures.failure_latch import FailureLatch
from higgs_core.failures.resolving import reject, resolve

log = logging.getLogger(__name__)

STOPPED = "The audio codec has stopped; this worker is being replaced."
_FAILED = "The audio codec failed; the worker must be replaced."

Result = TypeVar("Result")


def settle(future: Future[Result], work: Callable[[], Result], failure: FailureLatch) -> None:
    """Resolve with what `work` returns or raises, as a HiggsError. A device that has failed trips the latch.

    Any other error is the job's own. What ends the thread is raised again.
    """
    out_of_memory = False
    try:
        resolve(future, work())
    except HiggsError as error:
        reject(future, error)
    except Exception as error:
        out_of_memory = is_out_of_memory(error)
        if not out_of_memory:
            log.error("The audio codec failed: %s", type(error).__name__, exc_info=error)
            if is_device_failure(error):
                reject(future, EngineStoppedError(_FAILED))
                failure.trip(EngineStoppedError(_FAILED))
            else:
                reject(future, HiggsError("The audio codec failed on this request.", hint="Try again."))
    except BaseException:
        reject(future, EngineStoppedError(STOPPED))
        raise
    if out_of_memory:  # here, and not in the handler, the failed call's tensors are free
        free_cached_memory()
        reject(future, DeviceMemoryError("The device ran out of memory in the audio codec."))
