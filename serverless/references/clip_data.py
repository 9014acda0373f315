"""A clip's bytes from base64 or from a file, measured before they are unpacked or read."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

from higgs_core.contained_files import FileRefused, read_inside
from higgs_core.errors import ReferenceAudioError
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.payload.field_names import loggable

_log = logging.getLogger(__name__)


def unpacked(source: ReferenceSource, payload: str, settings: Settings) -> bytes:
    """The bytes of base64, with or without a `data:` prefix and line breaks. Raises ReferenceAudioError."""
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


def read_file(source: ReferenceSource, settings: Settings) -> bytes:
    """The bytes of a file inside the allowed folders. Raises ReferenceAudioError."""
    try:
        return read_inside(Path(source.path or ""), settings.reference_dirs, settings.max_reference_bytes)
    except FileRefused as refusal:
        _log.warning("%s: the path is refused: %s", loggable(source.origin), refusal)
        raise ReferenceAudioError(
            f"{source.origin} is not a readable file inside the allowed folders.",
            field=source.origin,
            hint=f"The endpoint allows the folders and files of at most {settings.max_reference_bytes / 1e6:g} MB.",
        ) from None


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
