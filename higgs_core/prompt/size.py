"""An upper bound of a turn's positions in the context, without tokenising it or encoding its clips."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from higgs_core.audio.decode import MAX_SECONDS
from higgs_core.prompt.chatml import AudioContent, Message
from higgs_core.rates import FRAME_SAMPLES, FRAMES_PER_SECOND

CountTokens = Callable[[str], int]

_EXTRA_POSITIONS = 12  # control tokens of a turn; delay pattern of a clip
_POSITIONS_OF_UNKNOWN_CLIP = math.ceil(MAX_SECONDS * FRAMES_PER_SECOND)


def most_positions(message: Message, count_tokens: CountTokens) -> int:
    """An upper bound of a turn's positions. count_tokens: the tokens of a text."""
    positions = _EXTRA_POSITIONS
    for part in message.parts:
        if not isinstance(part, AudioContent):
            positions += count_tokens(part.text)
        elif part.codes is not None:
            positions += np.shape(part.codes)[1] + _EXTRA_POSITIONS
        elif part.waveform is not None:
            positions += len(part.waveform) // FRAME_SAMPLES + _EXTRA_POSITIONS
        else:
            positions += _POSITIONS_OF_UNKNOWN_CLIP
    return positions
