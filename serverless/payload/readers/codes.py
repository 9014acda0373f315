"""Reader of codes: what a result with `return_audio_tokens` brings, sent back as a clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from higgs_core.rates import FRAMES_PER_SECOND
from serverless.config.settings import Settings
from serverless.payload.readers.json_schema import Schema, takes
from serverless.payload.readers.values import Refused
from serverless.voices.voice_file import CODEBOOKS, LARGEST_CODE


@takes(lambda settings: _schema(*_frames(settings)))
def audio_codes(value: object, settings: Settings) -> NDArray[np.int16]:
    """int16 [8, T] from a list for each codebook. T is bounded by the seconds of a clip; the two stream tokens, which
    lie above the codes, are no part of a clip."""
    least, frames = _frames(settings)
    allowed = f"{CODEBOOKS} lists, one a codebook, each of {least} to {frames} whole numbers from 0 to {LARGEST_CODE}"
    if not isinstance(value, list) or len(value) != CODEBOOKS:
        raise Refused(value, allowed)
    for at, row in enumerate(value):
        if not isinstance(row, list) or not least <= len(row) <= frames or len(row) != len(value[0]):
            raise Refused(row, f"{allowed}, all of one length", at=f"[{at}]")
        for code in row:
            if type(code) is not int or not 0 <= code <= LARGEST_CODE:
                raise Refused(code, f"a whole number from 0 to {LARGEST_CODE}", at=f"[{at}]")
    return np.array(value, np.int16)


def _frames(settings: Settings) -> tuple[int, int]:
    """The least and the most of a clip."""
    least = max(int(settings.min_reference_seconds * FRAMES_PER_SECOND), 1)
    return least, int(settings.max_reference_seconds * FRAMES_PER_SECOND)


def _schema(least: int, most: int) -> Schema:
    code = {"type": "integer", "minimum": 0, "maximum": LARGEST_CODE}
    row = {"type": "array", "items": code, "minItems": least, "maxItems": most}
    return {"type": "array", "items": row, "minItems": CODEBOOKS, "maxItems": CODEBOOKS}
