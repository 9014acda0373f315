"""How large a result is going to be at the least, from what has been generated of it so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgs_core.audio.least_size import least_bytes
from higgs_core.rates import FRAME_SAMPLES
from serverless.delivery.serialise import base64_length

if TYPE_CHECKING:
    from serverless.payload.parse import OutputOptions

_CODEBOOKS = 8
_CODE_BYTES = 3  # a digit, a comma and a space
_ROUNDED_SAMPLES = 1000  # that the passages between pauses may lack together, half a sample each


def least_result_bytes(output: OutputOptions, speech: int, pauses: int, *, inline: bool) -> int:
    """A lower bound of the bytes that the result posts as JSON.

    speech, pauses: samples so far, before the time-stretch. A pause lasts as long at any speed and has no tokens.
    inline: whether the audio itself is part of the result.
    """
    size = 0
    if inline:
        spoken = speech if output.speed == 1 else max(0, int(speech / output.speed) - _ROUNDED_SAMPLES)
        size += base64_length(least_bytes(spoken + pauses, output.response_format, output.wav_encoding))
    if output.return_audio_tokens:
        size += speech // FRAME_SAMPLES * _CODEBOOKS * _CODE_BYTES
    return size
