"""Reference clips from URLs, base64, files, codes and the voice library, decoded and checked.

The limits are in `Settings`. Why a URL was refused is logged, and not told to the client.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from higgs_core.audio.clip_faults import clip_warning
from higgs_core.audio.clip_preparation import PreparedClip, prepare_clip, unprepared_clip
from higgs_core.audio.decode import decode_audio
from higgs_core.cancellation import CancelToken
from higgs_core.errors import BusyError, ReferenceAudioError
from higgs_core.prompt.chatml import AudioContent
from higgs_core.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from higgs_core.speech.request import Clips, ReferenceSource
from higgs_core.speech.voices import Voice
from serverless.config.settings import Settings
from serverless.network.fetch_guard import FetchGuard, FetchRefused, operators_guard
from serverless.payload.field_names import loggable
from serverless.references.clip_data import read_file, unpacked
from serverless.references.clip_decoder import ClipDecoder, NoPlace
from serverless.references.downloads import Downloads
from serverless.references.memory_budget import MemoryBudget, Share

_log = logging.getLogger(__name__)

Decode = Callable[[CancelToken], PreparedClip]
VoiceCodes = Mapping[Voice, NDArray[Any]]
"""Integers [8, T] of each voice of the library that a request names."""

_BYTES_PER_SECOND = SAMPLING_RATE * 4


@dataclass(frozen=True)
class ResolvedClips:
    """audio: of every source.  warnings: one sentence for each clip that was changed or has a fault."""

    audio: Clips
    warnings: tuple[str, ...]


class ClipResolver:
    """The reference clips of all requests of a service. Belongs to one event loop.

    guard: where URLs may lead, by default as the operator set it.
    """

    def __init__(self, settings: Settings, guard: FetchGuard | None = None) -> None:
        self._settings = settings
        self._guard = guard
        self._memory = MemoryBudget(settings.max_clip_memory_bytes)
        self._decoder = ClipDecoder()

    @property
    def held_bytes(self) -> int:
        """Bytes of fetched files and decoded clips that requests hold."""
        return self._memory.held

    def close(self) -> None:
        """Give up the clips that wait to be decoded."""
        self._decoder.close()

    @asynccontextmanager
    async def resolved(
        self,
        sources: Sequence[ReferenceSource],
        *,
        timeout_seconds: float,
        voices: VoiceCodes | None = None,
        prepare: bool = True,
    ) -> AsyncIterator[ResolvedClips]:
        """The audio of every source, float32 [N] at 24 kHz, or its codes where those are there; the memory of what is
        decoded is accounted for until the block is left.

        voices: the codes of the voices that the sources name.
        prepare: mend clips that are not as the model wants them; False takes them as they are.
        timeout_seconds: how long all downloads together may take. Waiting, downloads and decoding together have this
        time too, or the worker's default where that is longer.
        Cancelling gives up every fetch and ends the child process that decodes; nothing is waited for.

        Raises ReferenceAudioError naming a source that cannot be fetched, decoded or used, or all of them where they
        last too long together; BusyError where other requests' clips left no room until the deadline.
        """
        with self._memory.share() as share:
            yield await self._resolve(sources, share, timeout_seconds, voices or {}, prepare)

    @asynccontextmanager
    async def decoded(
        self, data: bytes, *, origin: str, file_extension: str | None = None
    ) -> AsyncIterator[PreparedClip]:
        """A clip that was uploaded, decoded and mended; its memory is accounted for until the block is left.

        origin, file_extension: what errors call it, and what the client called the file.
        Raises ReferenceAudioError when it cannot be decoded or used, BusyError where there is no room for it in time.
        """
        source = ReferenceSource(origin, file_extension=file_extension)
        deadline = time.monotonic() + self._settings.download_timeout
        with self._memory.share() as share:
            decode = partial(_decoded, source, data, self._settings, True)
            yield await self._in_thread(source, decode, share, deadline)

    async def _resolve(
        self,
        sources: Sequence[ReferenceSource],
        share: Share,
        timeout_seconds: float,
        voices: VoiceCodes,
        prepare: bool,
    ) -> ResolvedClips:
        deadline = time.monotonic() + max(timeout_seconds, self._settings.download_timeout)
        clips: dict[ReferenceSource, AudioContent] = {}
        fetched: dict[str, PreparedClip] = {}
        warnings: dict[ReferenceSource, str] = {}
        seconds = 0.0
        urls = list(dict.fromkeys(source.url for source in sources if source.url is not None))
        guard = self._guard or operators_guard()
        async with Downloads(urls, self._settings, guard, share, timeout_seconds) as downloads:
            # Clips that need no server come first: one that is wrong ends the request without waiting for the others.
            for source in sorted(sources, key=lambda source: source.url is not None):
                if source.url is not None:
                    if source.url not in fetched:
                        data = await self._body(source, source.url, downloads, share, timeout_seconds)
                        decode = partial(_decoded, source, data, self._settings, prepare)
                        fetched[source.url] = await self._in_thread(source, decode, share, deadline)
                        downloads.used(source.url)
                    clip = _noted(source, fetched[source.url], warnings)
                elif source.base64 is not None or source.path is not None:
                    decode = partial(_loaded, source, self._settings, prepare)
                    clip = _noted(source, await self._in_thread(source, decode, share, deadline), warnings)
                else:
                    clip = AudioContent(codes=source.codes if source.voice is None else voices[source.voice])
                seconds += _seconds_of(clip)
                if seconds > self._settings.max_total_reference_seconds:
                    raise _too_long_together(source, seconds, self._settings)
                clips[source] = clip
        return ResolvedClips(clips, tuple(warnings[source] for source in sources if source in warnings))

    async def _body(
        self, source: ReferenceSource, url: str, downloads: Downloads, share: Share, timeout_seconds: float
    ) -> bytes:
        try:
            return await downloads.body(url)
        except FetchRefused as refusal:
            if share.starved:
                raise _no_room() from None
            _log.warning("%s: the URL is refused: %s", loggable(source.origin), refusal)
            raise ReferenceAudioError(
                f"{source.origin} could not be fetched.",
                field=source.origin,
                hint="Use a public http or https address on port 80 or 443 that answers within "
                f"{timeout_seconds:g} s with at most {self._settings.max_reference_bytes / 1e6:g} MB of audio.",
            ) from None

    async def _in_thread(self, source: ReferenceSource, decode: Decode, share: Share, deadline: float) -> PreparedClip:
        """The decoded clip, whose memory is taken from the share."""
        most = math.ceil(self._settings.max_reference_seconds * _BYTES_PER_SECOND)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await share.take(most)
            clip = await self._decoder.run(decode, deadline)
        except NoPlace:
            raise _no_room() from None
        except TimeoutError:
            if share.starved:
                raise _no_room() from None
            raise ReferenceAudioError(
                f"{source.origin} takes too long to decode.", field=source.origin, hint="Send a short clip as wav."
            ) from None
        share.give_back(most - clip.waveform.nbytes)
        return clip


def _noted(source: ReferenceSource, clip: PreparedClip, warnings: dict[ReferenceSource, str]) -> AudioContent:
    """The clip as a part of the prompt; what is to be told about it goes into `warnings`."""
    if (warning := clip_warning(source.origin, clip, source.transcript)) is not None:
        warnings[source] = warning
    return AudioContent(waveform=clip.waveform)


def _seconds_of(clip: AudioContent) -> float:
    if clip.waveform is not None:
        return len(clip.waveform) / SAMPLING_RATE
    assert clip.codes is not None
    return float(clip.codes.shape[1] / FRAMES_PER_SECOND)


def _loaded(source: ReferenceSource, settings: Settings, prepare: bool, cancel: CancelToken) -> PreparedClip:
    """The audio of a clip that came with the request or lies on this machine."""
    data = read_file(source, settings) if source.base64 is None else unpacked(source, source.base64, settings)
    return _decoded(source, data, settings, prepare, cancel)


def _decoded(
    source: ReferenceSource, data: bytes, settings: Settings, prepare: bool, cancel: CancelToken
) -> PreparedClip:
    waveform = decode_audio(
        data,
        origin=source.origin,
        max_seconds=settings.max_reference_seconds,
        min_seconds=settings.min_reference_seconds,
        extension_hint=source.file_extension,
        cancel=cancel,
    )
    return prepare_clip(waveform, origin=source.origin) if prepare else unprepared_clip(waveform)


def _no_room() -> BusyError:
    return BusyError("The worker is busy with the clips of other requests.", hint="Try again in a few seconds.")


def _too_long_together(source: ReferenceSource, seconds: float, settings: Settings) -> ReferenceAudioError:
    return ReferenceAudioError(
        f"{source.origin} brings the clips of this request to {seconds:.1f} s; allowed is "
        f"{settings.max_total_reference_seconds:g} s for all of them together.",
        field=source.origin,
        hint="Send fewer or shorter clips; 3 to 30 seconds of each voice are enough.",
    )
