"""Audio files as bytes <-> float32 at 24 kHz."""

from higgs_core.audio.decode import MAX_SECONDS, MIN_SECONDS, decode_audio, resample
from higgs_core.audio.encode import (
    FORMATS,
    AudioFormat,
    StreamEncoder,
    WavEncoding,
    encode_audio,
    is_available,
    wav_header,
)
from higgs_core.audio.ffmpeg_pipe import ffmpeg_path
from higgs_core.audio.sndfile import to_pcm16
from higgs_core.rates import SAMPLING_RATE

__all__ = [
    "FORMATS",
    "MAX_SECONDS",
    "MIN_SECONDS",
    "SAMPLING_RATE",
    "AudioFormat",
    "StreamEncoder",
    "WavEncoding",
    "decode_audio",
    "encode_audio",
    "ffmpeg_path",
    "is_available",
    "resample",
    "to_pcm16",
    "wav_header",
]
