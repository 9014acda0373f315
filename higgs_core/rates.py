"""The rates of Higgs Audio v2: what the codec makes of a second of sound. Imports no torch."""

from __future__ import annotations

SAMPLING_RATE = 24_000
"""Samples a second, of every waveform in this project."""
FRAMES_PER_SECOND = 25
"""Frames of codes a second, each one code of every codebook; also the columns that the model needs for a second."""
FRAME_SAMPLES = SAMPLING_RATE // FRAMES_PER_SECOND
"""Samples of one frame, the codec's hop length: 960."""
