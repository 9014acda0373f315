"""The engine's life in a service: loading it with its voices, what went wrong with it, ending it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from higgs_core.errors import HiggsError, ModelLoadError, SettingsError
from higgs_core.repositories import reported_name

if TYPE_CHECKING:
    from higgs_core.engine import HiggsAudioEngine
    from serverless.config.settings import Settings
    from serverless.voices.library import LivingLibrary

logger = logging.getLogger(__name__)


class EngineHost:
    """`load` first, in any thread; then `engine` is there or `error_for_jobs` says why it is not."""

    def __init__(
        self, settings: Settings, library: LivingLibrary, boot: Callable[[Settings], HiggsAudioEngine]
    ) -> None:
        self._settings = settings
        self._library = library
        self._boot = boot
        self._failure: HiggsError | None = None
        self._failure_observers: list[Callable[[], None]] = []
        self._ready_observers: list[Callable[[], None]] = []
        self.engine: HiggsAudioEngine | None = None
        self.loading = False
        self.device_failed = False
        """Set by whoever has met an error after which only a new process helps."""

    def load(self) -> None:
        """Load and warm up the engine. Blocking. A failure is logged with its remedy, remembered and not raised."""
        self.loading = True
        try:
            self._library.open()
            logger.info("%d voices in the library", len(self._library.snapshot()))
            engine = self._boot(self._settings)
            engine.on_failure(self._tell_failure)
            self._library.attach(engine)
            self.engine = engine
            for observer in self._ready_observers:
                observer()
            return
        except SettingsError as error:
            logger.error("%s", error.message)  # for the operator only: it names folders
            self._failure = ModelLoadError("The worker is configured wrongly.", hint="The start of its log says how.")
        except HiggsError as error:
            logger.error("%s %s", error.message, error.hint or "")
            self._failure = ModelLoadError(self._without_folders(error.message), hint=error.hint)
        except Exception as error:
            # No request has come yet, so unlike later the exception's own words may go into the log.
            logger.exception("loading the model failed: %s", error)
            self._failure = ModelLoadError(
                f"The model could not be loaded ({type(error).__name__}).",
                hint="The start of the worker's log says where.",
            )
        finally:
            self.loading = False

    def close(self) -> bool:
        """Stop the engine; whatever still runs ends with an error.

        Returns False when a thread of the engine's hangs and is left behind.
        """
        self._library.close()
        return self.engine is None or self.engine.close()

    def observe_ready(self, observer: Callable[[], None]) -> None:
        """Call `observer` once the model is loaded, in the thread that loads it."""
        self._ready_observers.append(observer)

    def observe_failure(self, observer: Callable[[], None]) -> None:
        """Call `observer` when the engine fails for good, from any thread."""
        self._failure_observers.append(observer)

    def for_jobs(self) -> HiggsAudioEngine:
        """Raises the error with which every job is answered while there is no engine."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if self.engine is None:
            raise ModelLoadError("The model is still being loaded.", hint="Try again in a minute.")
        return self.engine

    @property
    def ready(self) -> bool:
        return self.engine is not None and not self.must_recycle

    @property
    def load_error(self) -> str | None:
        """The sentence that says why there is no engine, once loading has failed."""
        return self._failure.message if self._failure else None

    @property
    def must_recycle(self) -> bool:
        """Whether only a new process helps: the engine's thread has ended or its device has failed."""
        return self.device_failed or (self.engine is not None and not self.engine.healthy)

    @property
    def why_stopped(self) -> str | None:
        """The sentence that says why the process has to be replaced; None while it does not have to be."""
        if not self.must_recycle:
            return None
        failure = self.engine.failure if self.engine is not None else None
        return failure.message if failure is not None else "The engine has stopped; the worker is being replaced."

    def _tell_failure(self, _: HiggsError) -> None:
        for observer in self._failure_observers:
            observer()

    def _without_folders(self, sentence: str) -> str:
        """The sentence as a client may read it: the operator's folders by their last names."""
        settings = self._settings
        for checkpoint in (settings.model_id, settings.audio_tokenizer_id, settings.tokenizer_id):
            if checkpoint:
                sentence = sentence.replace(checkpoint, public_name(checkpoint))
        return sentence


def public_name(checkpoint: str) -> str:
    """A checkpoint as clients may know it: a hub id by the one name of its repository, a folder by its last name."""
    path = Path(checkpoint).expanduser()
    return path.name if path.is_absolute() else reported_name(checkpoint)
