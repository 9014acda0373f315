"""Names of fields as a log may repeat them: without the words of a client, who names the keys of `speakers`."""

from __future__ import annotations

import re

from serverless.payload.request_fields import SpeakerFields

_FIELD = re.compile(r"[A-Za-z0-9_]{1,40}([.\[][A-Za-z0-9_]{1,40}\]?){0,4}")
_SPEAKERS = "speakers."


def loggable(field: str | None) -> str | None:
    """The name of a field with the client's own key as `*`; None for what cannot be the name of a field."""
    if field is None:
        return None
    if field.startswith(_SPEAKERS):
        key, _, inner = field.removeprefix(_SPEAKERS).rpartition(".")
        return f"{_SPEAKERS}*.{inner}" if key and inner in SpeakerFields.known else f"{_SPEAKERS}*"
    return field if _FIELD.fullmatch(field) else None
