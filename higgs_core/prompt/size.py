"""How many positions of the context a turn takes, before it is tokenised and its clips are encoded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from higgs_core.prompt.chatml import AudioContent, Message
from higgs_core.rates import FRAME_SAMPLES, FRAMES_PER_SECOND

CountTokens = Callable[[str], int]

_POSITIONS_AROUND = 12  # control tokens of a turn, and a clip's delay
_POSITIONS_OF_UNKNOWN_CLIP = 60 * FRAMES_PER_SECOND


def most_positions(message: Message, count_tokens: CountTokens) -> int:
    """An upper bound of a turn's positions. count_tokens: the tokens of a text."""
    positions = _POSITIONS_AROUND
    for part in message.parts:
        if not isinstance(part, AudioContent):
            positions += count_tokens(part.text)
        elif part.codes is not None:
            positions += np.shape(part.codes)[1] + _POSITIONS_AROUND
        elif part.waveform is not None:
            positions += len(part.waveform) // FRAME_SAMPLES + _POSITIONS_AROUND
        else:
            positions += _POSITIONS_OF_UNKNOWN_CLIP
    return positions
