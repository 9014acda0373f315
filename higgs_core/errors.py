"""Every failure the project reports, and what follows from each.

    HiggsError                     whose fault   client reads         worker
    ├── RequestError               client        the sentence         lives on
    │   ├── ReferenceAudioError    client        the sentence         lives on
    │   └── PromptTooLongError     client        the sentence         lives on
    ├── BusyError                  nobody        the sentence         lives on
    ├── GenerationCancelled        client        the sentence         lives on
    ├── NoAudioError               model         the sentence         lives on
    ├── DeliveryError              operator      the sentence         lives on
    ├── DeviceMemoryError          operator      the sentence         lives on
    ├── SettingsError              operator      never a client       does not boot
    ├── ModelLoadError             operator      the sentence         unhealthy
    └── EngineStoppedError         worker        the sentence         is recycled

A sentence is one line that names the field, the value and the remedy. It never holds a path, an address, a key or the
words of a request, so that it may travel to a client and into a log as it stands.
"""

from __future__ import annotations

from typing import ClassVar


class HiggsError(Exception):
    """Base of the tree. `code` is stable and machine-readable; `field` and `hint` are None where they say nothing."""

    code: ClassVar[str] = "internal_error"
    recycle_worker: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint


class RequestError(HiggsError):
    """A field of the request is missing, of the wrong type or out of range."""

    code = "invalid_request"


class ReferenceAudioError(RequestError):
    """A reference clip cannot be fetched, decoded or used."""

    code = "invalid_reference"


class PromptTooLongError(RequestError):
    """Prompt and requested tokens do not fit the context."""

    code = "prompt_too_long"


class BusyError(HiggsError):
    """The waiting queue is full; the same request may succeed later."""

    code = "busy"


class GenerationCancelled(HiggsError):
    """The request was cancelled before it ended."""

    code = "cancelled"


class NoAudioError(HiggsError):
    """Generation ended without one complete frame."""

    code = "no_audio"


class DeliveryError(HiggsError):
    """The result exists but cannot be handed over."""

    code = "delivery_failed"


class DeviceMemoryError(HiggsError):
    """The device ran out of memory, also when the request was retried alone."""

    code = "out_of_memory"


class SettingsError(HiggsError):
    """An environment variable holds a value that is not allowed."""

    code = "invalid_setting"


class ModelLoadError(HiggsError):
    """The checkpoint cannot be found, read or matched with the architecture."""

    code = "model_not_loaded"


class EngineStoppedError(HiggsError):
    """The engine's thread ended or its device is poisoned; only a new process helps."""

    code = "engine_stopped"
    recycle_worker = True
