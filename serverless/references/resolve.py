"""Reference clips from URLs, base64, files and the voice library, decoded and checked.

The limits are in `Settings`. Why a URL was refused is logged, and not told to the client.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.decode import decode_audio
from higgs_core.contained_files import FileRefused, read_inside
from higgs_core.errors import ReferenceAudioError
from higgs_core.prompt.chatml import AudioContent
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.network.fetch_guard import FetchGuard, FetchRefused, operators_guard
from serverless.payload.field_names import loggable
from serverless.references.url_fetch import fetch

_log = logging.getLogger(__name__)


async def resolve(
    sources: Sequence[ReferenceSource],
    settings: Settings,
    *,
    timeout_seconds: float,
    threads: Executor | None = None,
    guard: FetchGuard | None = None,
) -> dict[ReferenceSource, AudioContent]:
    """The audio of every source, float32 [N] at 24 kHz. URLs are fetched together, each within `timeout_seconds`.

    threads: decode the clips, by default the event loop's own.  guard: where URLs may lead, by default as the operator
    set it.
    Cancelling gives up every fetch; decoding runs in threads, and a clip that is being decoded is finished there.

    Raises ReferenceAudioError naming a source that cannot be fetched, decoded or used, RequestError for a voice that is
    not in the library.
    """
    urls = [source.url for source in sources if source.url is not None]
    clips = {}
    loop = asyncio.get_running_loop()
    async with _fetching(urls, settings, guard or operators_guard(), timeout_seconds) as bodies:
        # Clips that need no server come first: one that is wrong ends the request without waiting for the others.
        for source in sorted(sources, key=lambda source: source.url is not None):
            if source.url is not None:
                data = await _fetched(source, bodies[source.url], settings, timeout_seconds)
                waveform = await loop.run_in_executor(threads, _decoded, source, data, settings)
            elif source.base64 is not None or source.path is not None:
                waveform = await loop.run_in_executor(threads, _loaded, source, settings)
            else:
                assert source.voice is not None  # one of the four is there
                waveform = source.voice.waveform
            clips[source] = AudioContent(waveform=waveform)
    return clips


def _loaded(source: ReferenceSource, settings: Settings) -> NDArray[np.float32]:
    """The audio of a clip that came with the request or lies on this machine."""
    data = _read(source, settings) if source.base64 is None else _unpacked(source, source.base64, settings)
    return _decoded(source, data, settings)


def _decoded(source: ReferenceSource, data: bytes, settings: Settings) -> NDArray[np.float32]:
    return decode_audio(
        data,
        origin=source.origin,
        max_seconds=settings.max_reference_seconds,
        min_seconds=settings.min_reference_seconds,
        extension_hint=source.file_extension,
    )


def _unpacked(source: ReferenceSource, payload: str, settings: Settings) -> bytes:
    """The bytes of base64, with or without a `data:` prefix and line breaks."""
    if payload[:5].lower() == "data:":
        head, comma, payload = payload.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise _invalid_base64(source)
    limit = settings.max_reference_bytes
    if len(payload) * 3 // 4 - 2 > limit + len(payload) // 76 * 2:  # at most 2 padding signs, a line break per 76
        raise _too_large(source, limit)
    try:
        data = base64.b64decode(payload.replace("\r", "").replace("\n", ""), validate=True)
    except ValueError:
        raise _invalid_base64(source) from None
    if not data:
        raise _invalid_base64(source)
    if len(data) > limit:
        raise _too_large(source, limit)
    return data


def _read(source: ReferenceSource, settings: Settings) -> bytes:
    try:
        return read_inside(Path(source.path or ""), settings.reference_dirs, settings.max_reference_bytes)
    except FileRefused as refusal:
        _log.warning("%s: the path is refused: %s", loggable(source.origin), refusal)
        raise ReferenceAudioError(
            f"{source.origin} is not a readable file inside the allowed folders.",
            field=source.origin,
            hint=f"The endpoint allows the folders and files of at most {settings.max_reference_bytes / 1e6:g} MB.",
        ) from None


async def _fetched(
    source: ReferenceSource, body: Awaitable[bytes], settings: Settings, timeout_seconds: float
) -> bytes:
    try:
        return await body
    except FetchRefused as refusal:
        _log.warning("%s: the URL is refused: %s", loggable(source.origin), refusal)
        raise ReferenceAudioError(
            f"{source.origin} could not be fetched.",
            field=source.origin,
            hint="Use a public http or https address on port 80 or 443 that answers within "
            f"{timeout_seconds:g} s with at most {settings.max_reference_bytes / 1e6:g} MB of audio.",
        ) from None


@asynccontextmanager
async def _fetching(
    urls: Iterable[str], settings: Settings, guard: FetchGuard, timeout_seconds: float
) -> AsyncIterator[Mapping[str, asyncio.Task[bytes]]]:
    """Fetch all URLs at once, each once; awaiting a task raises its FetchRefused. Leaving cancels what still runs."""
    tasks = {
        url: asyncio.create_task(
            fetch(
                url,
                guard,
                timeout_seconds=timeout_seconds,
                max_bytes=settings.max_reference_bytes,
                max_redirects=settings.max_redirects,
            )
        )
        for url in dict.fromkeys(urls)
    }
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


def _invalid_base64(source: ReferenceSource) -> ReferenceAudioError:
    return ReferenceAudioError(
        "Invalid base64 audio payload.",
        field=source.origin,
        hint="Send the audio file in standard base64 with padding, with or without a data: prefix.",
    )


def _too_large(source: ReferenceSource, limit: int) -> ReferenceAudioError:
    return ReferenceAudioError(
        f"{source.origin} has more than {limit / 1e6:g} MB.",
        field=source.origin,
        hint="Send a shorter clip, or one that is compressed.",
    )
