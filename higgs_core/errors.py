"""Every error that the project reports, what causes it and what the worker does.

    HiggsError                     caused by     client reads         worker
    ├── RequestError               client        the sentence         continues
    │   ├── ReferenceAudioError    client        the sentence         continues
    │   └── PromptTooLongError     client        the sentence         continues
    ├── BusyError                  load          the sentence         continues
    ├── GenerationCancelled        client        the sentence         continues
    ├── NoAudioError               model         the sentence         continues
    ├── DeliveryError              operator      the sentence         continues
    ├── DeviceMemoryError          operator      the sentence         continues
    ├── SettingsError              operator      nothing              does not start
    ├── ModelLoadError             operator      the sentence         unhealthy
    └── EngineStoppedError         worker        the sentence         is recycled

A sentence is one line that names the field, the value and the remedy. It never contains an address, a key or the text
of a request, so that it can be sent to a client and written to a log as it is; the folders that a ModelLoadError names
are shortened before a client reads it.
"""

from __future__ import annotations

from typing import ClassVar


class HiggsError(Exception):
    """Base class. `code` is stable and machine-readable; `field` and `hint` are None where they do not apply."""

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
    """The result exists but cannot be delivered."""

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
    """The engine's thread has ended or its device is unusable; only a new process helps."""

    code = "engine_stopped"
    recycle_worker = True
