"""The living library: the voices that requests name, with their codes made once; and voices added, shown and removed.

Its coroutines may be awaited in any event loop; what blocks runs in threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from higgs_core.errors import HiggsError, ModelLoadError, SettingsError
from higgs_core.speech.voices import Voice, VoiceLibrary, nearest
from serverless.voices.additions import AddedVoice, VoiceAdditions
from serverless.voices.catalogue import Catalogue
from serverless.voices.facts import VoiceFacts
from serverless.voices.making import VoiceMaker
from serverless.voices.view import KnownVoice

if TYPE_CHECKING:
    from higgs_core.engine import HiggsAudioEngine
    from serverless.config.settings import Settings

T = TypeVar("T")
_log = logging.getLogger(__name__)

ALL = "all"
_FILE_THREADS = 2


@dataclass(frozen=True)
class ReadyVoices:
    """codes: integers [8, T] of each voice.  made: whether any of them had to be waited for."""

    codes: Mapping[Voice, NDArray[Any]]
    warnings: tuple[str, ...] = ()
    made: bool = False


@dataclass(frozen=True)
class Preview:
    """What a voice sounds like.

    identity: of its codes or clip: the same for as long as it sounds the same, another one for another voice.
    audio: float32 [N] at 24 kHz; None for whoever has it already.
    """

    identity: str
    audio: NDArray[np.float32] | None


class LivingLibrary:
    """`open` first, then `attach` an engine; until then no voice can be made."""

    def __init__(self, settings: Settings, catalogue: Catalogue | None = None) -> None:
        self._settings = settings
        self._catalogue = catalogue or Catalogue(settings)
        self._threads = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="voice-files")
        self._maker: VoiceMaker | None = None

    # -- Life ---------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Read the folder. Blocking. Raises SettingsError for a broken one, and for a name of voices_at_boot that is no
        voice."""
        self._catalogue.open()
        library = self.snapshot()
        for name in self._settings.voices_at_boot:
            if name not in library and name != ALL:
                near = nearest(name, library)
                meant = f"did you mean {near}?" if near else f"allowed are voices of the library, and {ALL}."
                raise SettingsError(f"HIGGS_AUDIO_VOICES_AT_BOOT names {name[:64]!r}, which is no voice; {meant}")

    def attach(self, engine: HiggsAudioEngine) -> None:
        """Make voices with this engine from now on, those that are wanted at boot before this returns."""
        self._catalogue.attach(engine.identity)
        self._maker = VoiceMaker(engine, self._catalogue)
        wanted = self._settings.voices_at_boot
        for name, voice in self.snapshot().items():
            if name in wanted or ALL in wanted:
                try:
                    self._maker.begin(voice).result()
                except HiggsError as error:
                    _log.warning("The voice %s was not made at boot: %s", name, error.message)

    def close(self) -> None:
        """Give up what is being made."""
        if self._maker is not None:
            self._maker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- For requests -------------------------------------------------------------------------------------------------

    def snapshot(self) -> VoiceLibrary:
        """The voices that a request may name now. Blocking, as it may look at the folder."""
        return self._catalogue.current().library

    async def ready(self, voices: Iterable[Voice]) -> ReadyVoices:
        """The codes of voices of a snapshot, made now where they were not.

        However many ask, a voice is made once; whoever is cancelled leaves it to the others.
        Raises HiggsError, such as NoAudioError for a voice that does not sound.
        """
        codes: dict[Voice, NDArray[Any]] = {}
        warnings: list[str] = []
        made = False
        for voice in voices:
            known = self._catalogue.known_as(voice)
            if known is None or known.codes is None:
                made = True
                known = await asyncio.wrap_future(self._made_by().begin(voice))
            assert known.codes is not None
            codes[voice] = known.codes
            warnings += known.warnings
        return ReadyVoices(codes, tuple(warnings), made)

    # -- For people who manage them -----------------------------------------------------------------------------------

    async def listed(self) -> tuple[VoiceFacts, ...]:
        """Every voice, first the one that leaves the choice to the model."""
        return await asyncio.to_thread(self._catalogue.listed)

    async def get(self, name: str) -> VoiceFacts:
        """Raises VoiceNotFoundError."""
        found = {facts.id: facts for facts in await self.listed()}
        if name in found:
            return found[name]
        return (await asyncio.to_thread(self._catalogue.find, name)).facts

    async def preview(self, name: str, has: Callable[[str], bool] = lambda identity: False) -> Preview:
        """What the voice sounds like. A voice that was not made yet is made first.

        has: whether whoever asks has the sound of an identity already.
        Raises VoiceNotFoundError, and HiggsError where it cannot be made.
        """
        known = await asyncio.to_thread(self._catalogue.find, name)
        if known.voice.waveform is None and known.codes is None:
            known = await asyncio.wrap_future(self._made_by().begin(known.voice))
        return await self._in_thread(self._preview_of, known, has)

    async def add_design(self, name: str, description: str, seed: int | None = None) -> AddedVoice:
        """A voice from a description, made at once. seed: None draws one.

        Raises RequestError for what is not allowed, VoiceExistsError, TooManyVoicesError, NoAudioError.
        """
        return await self._add(partial(self._additions().add_design, name, description, seed))

    async def add_clip(
        self,
        name: str,
        waveform: NDArray[np.float32],
        transcript: str,
        *,
        consent: str | None = None,
        description: str | None = None,
    ) -> AddedVoice:
        """A voice from a clip that was decoded, checked and prepared: float32 [N], mono, 24 kHz. transcript: the words
        in it; "" where they are not known.

        Raises RequestError for what is not allowed, VoiceExistsError, TooManyVoicesError.
        """
        add = self._additions().add_clip
        return await self._add(partial(add, name, waveform, transcript, consent=consent, description=description))

    async def add_saved(self, name: str, codes: NDArray[Any], transcript: str) -> AddedVoice:
        """A voice from the codes of a result, integers [8, T], and the words spoken in them.

        Raises RequestError for what is not allowed, VoiceExistsError, TooManyVoicesError.
        """
        return await self._add(partial(self._additions().add_saved, name, codes, transcript))

    async def remove(self, name: str) -> None:
        """Raises VoiceNotFoundError, VoiceFixedError for a voice that is not an added one, and BusyError where the
        folder does not answer."""
        await self._in_thread(self._catalogue.remove, name)

    def _additions(self) -> VoiceAdditions:
        return VoiceAdditions(self._settings, self._catalogue, self._made_by())

    async def _add(self, add: Callable[[], AddedVoice]) -> AddedVoice:
        """In a thread of the maker's. What has begun goes on to its end, also when whoever asked has gone; what waits
        for its turn is dropped then."""
        return await asyncio.wrap_future(self._made_by().begin_alone(add))

    def _preview_of(self, known: KnownVoice, has: Callable[[str], bool]) -> Preview:
        waveform = known.voice.waveform
        identity = _identity_of(known.codes if waveform is None else waveform)
        if has(identity):
            return Preview(identity, None)
        return Preview(identity, self._audio_of(known) if waveform is None else waveform)

    def _audio_of(self, known: KnownVoice) -> NDArray[np.float32]:
        assert known.codes is not None
        audio = known.record.audio if known.record is not None else None
        if audio is None:
            audio = self._catalogue.audio_on_disk(known)
        if audio is None:
            audio = self._made_by().decode(known.codes)
        return audio.astype(np.float32) / np.float32(32768)

    def _made_by(self) -> VoiceMaker:
        """Raises ModelLoadError before an engine is there."""
        if self._maker is None:
            raise ModelLoadError("The model is still being loaded.", hint="Try again in a minute.")
        return self._maker

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))


def _identity_of(sound: NDArray[Any] | None) -> str:
    assert sound is not None
    kind = np.float32 if sound.ndim == 1 else np.int16
    return hashlib.sha256(np.ascontiguousarray(sound, kind).tobytes()).hexdigest()[:32]
