"""URL | base64 | path | voice -> checked audio. Every cap is in `Settings`; no client learns why a fetch failed."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from higgs_core.audio.decode import decode_audio
from higgs_core.contained_files import FileRefused, read_inside
from higgs_core.errors import ReferenceAudioError
from higgs_core.prompt.chatml import AudioContent
from higgs_core.speech.request import ReferenceSource
from higgs_core.speech.voices import VoiceLibrary
from serverless.config.settings import Settings
from serverless.references.bounded_http import TOO_LATE, Deadline
from serverless.references.fetch_guard import FetchGuard, FetchRefused, operators_guard
from serverless.references.url_fetch import fetch
from serverless.references.voices import is_voice, voice_library

_log = logging.getLogger(__name__)


def resolve(
    sources: Sequence[ReferenceSource],
    settings: Settings,
    *,
    timeout_seconds: float,
    voices: VoiceLibrary | None = None,
    guard: FetchGuard | None = None,
) -> dict[ReferenceSource, AudioContent]:
    """The audio of every source, float32 [N] at 24 kHz. Blocking; URLs are fetched together in `timeout_seconds`.

    voices: by default the library of the settings. guard: where URLs may lead, by default as the operator set it.

    Raises ReferenceAudioError naming a source that cannot be fetched, decoded or used, RequestError for a voice that
    does not exist.
    """
    library = voice_library(settings) if voices is None else voices
    urls = [source.url for source in sources if source.url is not None]
    clips = {}
    with _fetching(urls, settings, guard or operators_guard(), timeout_seconds) as body_of:
        for source in sorted(sources, key=lambda source: source.url is not None):  # what needs no waiting comes first
            if is_voice(source):
                clips[source] = AudioContent(waveform=library.find(source.voice or "", field=source.origin).waveform)
                continue
            if source.url is not None:
                data = _fetched(source, source.url, body_of, settings, timeout_seconds)
            elif source.base64 is not None:
                data = _unpacked(source, source.base64, settings)
            else:
                data = _read(source, settings)
            waveform = decode_audio(
                data,
                origin=source.origin,
                max_seconds=settings.max_reference_seconds,
                min_seconds=settings.min_reference_seconds,
                extension_hint=source.file_extension,
            )
            clips[source] = AudioContent(waveform=waveform)
    return clips


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
        _log.warning("%s: the path is refused: %s", source.origin, refusal)
        raise ReferenceAudioError(
            f"{source.origin} is not a readable file inside the allowed folders.",
            field=source.origin,
            hint=f"The endpoint allows the folders and files of at most {settings.max_reference_bytes / 1e6:g} MB.",
        ) from None


def _fetched(
    source: ReferenceSource, url: str, body_of: Callable[[str], bytes], settings: Settings, timeout_seconds: float
) -> bytes:
    try:
        return body_of(url)
    except FetchRefused as refusal:
        _log.warning("%s: the URL is refused: %s", source.origin, refusal)
        raise ReferenceAudioError(
            f"{source.origin} could not be fetched.",
            field=source.origin,
            hint="Use a public http or https address on port 80 or 443 that answers within "
            f"{timeout_seconds:g} s with at most {settings.max_reference_bytes / 1e6:g} MB of audio.",
        ) from None


@contextmanager
def _fetching(
    urls: Sequence[str], settings: Settings, guard: FetchGuard, timeout_seconds: float
) -> Iterator[Callable[[str], bytes]]:
    """Fetch all URLs at once; yields what waits for the body of one and raises its FetchRefused. Leaving gives up."""
    deadline = Deadline(timeout_seconds)
    limits = {"max_bytes": settings.max_reference_bytes, "max_redirects": settings.max_redirects}
    bodies = {url: _in_thread(partial(fetch, url, guard, deadline, **limits)) for url in dict.fromkeys(urls)}

    def body_of(url: str) -> bytes:
        try:
            return bodies[url].result(deadline.seconds_left)
        except TimeoutError:
            raise FetchRefused(TOO_LATE) from None

    try:
        yield body_of
    finally:
        deadline.cancel()


def _in_thread(work: Callable[[], bytes]) -> Future[bytes]:
    """Run in a thread that nobody has to wait for: name resolution is the one step that no deadline interrupts."""
    outcome: Future[bytes] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="reference-fetch", daemon=True).start()
    return outcome


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
