"""float32 at 24 kHz -> encoded bytes, for complete audio or while it is generated."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.ffmpeg import AacStream
from higgs_core.audio.ffmpeg_pipe import ffmpeg_path
from higgs_core.audio.sndfile import SndfileStream, open_sndfile, to_pcm16
from higgs_core.errors import NoAudioError, RequestError
from higgs_core.rates import SAMPLING_RATE

WavEncoding = Literal["pcm_16", "float32"]


@dataclass(frozen=True)
class AudioFormat:
    """One response_format: `extension` is without a dot.  streams: bytes leave before the audio is complete."""

    name: str
    mime_type: str
    extension: str
    streams: bool = True


FORMATS: Mapping[str, AudioFormat] = MappingProxyType(
    {
        known.name: known
        for known in (
            AudioFormat("wav", "audio/wav", "wav"),
            AudioFormat("flac", "audio/flac", "flac", streams=False),
            AudioFormat("mp3", "audio/mpeg", "mp3"),
            AudioFormat("opus", "audio/ogg", "opus"),
            AudioFormat("pcm", "audio/pcm", "pcm"),
            AudioFormat("aac", "audio/aac", "aac"),
        )
    }
)
_UNKNOWN_LENGTH = 0xFFFFFFFF


def is_available(fmt: str) -> bool:
    """Whether this machine can encode the format: all of FORMATS, aac only with ffmpeg."""
    return fmt in FORMATS and (fmt != "aac" or ffmpeg_path() is not None)


def encode_audio(audio: NDArray[Any], fmt: str, wav_encoding: WavEncoding = "pcm_16") -> bytes:
    """One complete file of float [N] at 24 kHz; samples beyond [-1, 1] are clipped.

    pcm is 16-bit little-endian without a header; opus lies in ogg, aac in ADTS.

    Raises RequestError for a format that is not in FORMATS, NoAudioError for samples that are not finite numbers,
    DeliveryError for aac without ffmpeg.
    """
    if fmt == "wav":
        samples = _wav_samples(_checked(audio), wav_encoding)
        return wav_header(wav_encoding, len(samples)) + samples
    if fmt == "mp3":
        whole = io.BytesIO()
        with open_sndfile(whole, "mp3") as sound:
            sound.write(_checked(audio))
        return whole.getvalue()  # libsndfile has written length and encoder delay into the first frame
    encoder = StreamEncoder(fmt, wav_encoding)
    try:
        return encoder.write(audio) + encoder.finish()
    finally:
        encoder.close()


def wav_header(wav_encoding: WavEncoding, data_bytes: int | None) -> bytes:
    """The header of a mono 24 kHz WAV. `data_bytes=None` writes both sizes as 0xFFFFFFFF, "until the end"."""
    tag, sample_bytes = (3, 4) if wav_encoding == "float32" else (1, 2)
    form = struct.pack("<HHIIHH", tag, 1, SAMPLING_RATE, SAMPLING_RATE * sample_bytes, sample_bytes, sample_bytes * 8)
    chunks = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form
    if tag == 3:  # every encoding but PCM has to state its number of samples
        samples = _UNKNOWN_LENGTH if data_bytes is None else data_bytes // sample_bytes
        chunks += b"fact" + struct.pack("<II", 4, samples)
    riff_size = _UNKNOWN_LENGTH if data_bytes is None else len(chunks) + 8 + data_bytes
    data_size = _UNKNOWN_LENGTH if data_bytes is None else data_bytes
    return b"RIFF" + struct.pack("<I", riff_size) + chunks + b"data" + struct.pack("<I", data_size)


class StreamEncoder:
    """Encodes audio as it arrives: `write` and `finish` return the next bytes of one file, possibly none.

    All bytes joined decode to the same audio as those of `encode_audio`. As the first bytes are sent before the length
    is known, they differ in this:
    wav: both sizes are 0xFFFFFFFF; libsndfile, ffmpeg, sox and Python's wave read such a file to its end.
    mp3: the tag frame with length and encoder delay is left out, so playback starts with that delay: 46 ms of
    silence.
    opus: libsndfile writes a page for each second of audio.
    flac: everything comes from `finish`. Its header must state length and checksum: without them libsndfile, and with
    it every common Python reader, refuses the file.

    `close` frees the encoder's resources; call it in any case, also after `finish`.

    Raises as `encode_audio` does.
    """

    def __init__(self, fmt: str, wav_encoding: WavEncoding = "pcm_16") -> None:
        if fmt not in FORMATS:
            raise RequestError(
                f"response_format is {fmt[:20]!r}; allowed is {', '.join(FORMATS)}.", field="response_format"
            )
        self._stream: _Stream
        if fmt in ("wav", "pcm"):
            self._stream = _PcmStream(wav_encoding if fmt == "wav" else None)
        elif fmt == "aac":
            self._stream = AacStream(SAMPLING_RATE)
        else:
            self._stream = SndfileStream(fmt)

    def write(self, audio: NDArray[Any]) -> bytes:
        """Encode float [N]; the bytes that are ready."""
        return self._stream.write(_checked(audio))

    def finish(self) -> bytes:
        """The remaining bytes. Nothing may be written afterwards."""
        return self._stream.finish()

    def close(self) -> None:
        self._stream.close()


class _Stream(Protocol):
    def write(self, audio: NDArray[np.float32]) -> bytes: ...
    def finish(self) -> bytes: ...
    def close(self) -> None: ...


class _PcmStream:
    """Bare samples, behind a header of unknown length for wav."""

    def __init__(self, wav_encoding: WavEncoding | None) -> None:
        self._encoding: WavEncoding = wav_encoding or "pcm_16"
        self._header = b"" if wav_encoding is None else wav_header(wav_encoding, None)

    def write(self, audio: NDArray[np.float32]) -> bytes:
        return self.finish() + _wav_samples(audio, self._encoding)

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header

    def close(self) -> None:
        pass


def _wav_samples(audio: NDArray[np.float32], wav_encoding: WavEncoding) -> bytes:
    if wav_encoding == "float32":
        return audio.astype("<f4").tobytes()
    return to_pcm16(audio).tobytes()


def _checked(audio: NDArray[Any]) -> NDArray[np.float32]:
    """float32 [N] within [-1, 1]."""
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"audio must be [N], it is {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise NoAudioError("The model produced samples that are not finite numbers.")
    return np.clip(samples, -1, 1)
