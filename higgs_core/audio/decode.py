"""Bytes of an untrusted clip -> checked float32 at 24 kHz.

Headers are not trusted: sampling rate and channels are bounded before anything is allocated, and samples are read in
blocks up to the limit, so neither a forged header nor hours of audio in a small file use much memory. Whatever has to
be decompressed is decoded in a child process with limits of its own; wav is read here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.child_process import ChildFailed, ChildTimeout
from higgs_core.audio.ffmpeg import decode_with_ffmpeg
from higgs_core.audio.sndfile_child import SndfileChild
from higgs_core.audio.sndfile_reader import SoundHeader, SoundReader, Unreadable
from higgs_core.audio.sniff import NEEDS_FFMPEG, Container, looks_like_a_page, sniff
from higgs_core.cancellation import CancelToken
from higgs_core.errors import ReferenceAudioError
from higgs_core.rates import SAMPLING_RATE

MIN_SECONDS = 0.3
MAX_SECONDS = 60.0
DECODE_SECONDS = 30.0
"""How long one clip may take to decode."""

SILENT_PEAK = 1e-3
"""-60 dBFS: a clip that never exceeds it is silent."""

_MIN_RATE, _MAX_RATE = 8_000, 192_000
_MAX_CHANNELS = 8
_LARGEST_PEAK = 4.0  # 12 dB above full scale: beyond it the samples are not scaled to [-1, 1] at all
_SNDFILE_FORMATS = {
    Container.WAV: ("WAV", "WAVEX", "RF64"),
    Container.FLAC: ("FLAC",),
    Container.OGG: ("OGG",),
    Container.MP3: ("MP3",),
}
_WAV_SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_READABLE = "Send wav, flac, mp3, ogg (Vorbis or Opus), m4a, aac or webm."


def decode_audio(
    data: bytes,
    *,
    origin: str,
    max_seconds: float = MAX_SECONDS,
    min_seconds: float = MIN_SECONDS,
    extension_hint: str | None = None,
    seconds: float = DECODE_SECONDS,
    cancel: CancelToken | None = None,
) -> NDArray[np.float32]:
    """Decode one clip to float32 [N], mono, 24 kHz, in [-1, 1] but for the resampler's overshoot.

    data: an encoded file; its content says what it is. origin: what the payload calls the clip, for error sentences.
    extension_hint: what the client called the file; it only makes the sentence about unreadable content clearer.
    seconds: how long a child process may take.  cancel: ends it when another thread cancels.

    Raises ReferenceAudioError when the content is not audio that can be read, takes too much time or memory to decode,
    is shorter than `min_seconds`, longer than `max_seconds`, silent, or holds samples that are not numbers;
    GenerationCancelled once it was cancelled.
    """
    container = sniff(data)
    if container is None:
        raise _not_audio(data, origin, extension_hint)
    try:
        if container in NEEDS_FFMPEG:
            rate = SAMPLING_RATE
            mono = decode_with_ffmpeg(
                data,
                container,
                origin=origin,
                sampling_rate=rate,
                audio_seconds=max_seconds + 1,
                seconds=seconds,
                cancel=cancel,
            )
            if len(mono) > max_seconds * rate:
                raise _too_long(origin, max_seconds)
        elif container is Container.WAV:  # plain samples: here, as a child takes longer to start than they to read
            sound = SoundReader(data)
            mono, rate = _read_blocks(sound.header, sound.blocks(), container, origin, max_seconds)
        else:
            with SndfileChild(data, seconds=seconds, cancel=cancel) as child:
                mono, rate = _read_blocks(child.header, child.blocks(), container, origin, max_seconds)
    except ChildTimeout:
        raise ReferenceAudioError(
            f"{origin} takes too long to decode.", field=origin, hint="Send a short clip as wav."
        ) from None
    except (ChildFailed, Unreadable):
        raise ReferenceAudioError(
            f"{origin} looks like {container} audio but cannot be decoded.",
            field=origin,
            hint="The file may be damaged, or need more memory than a clip may take; send it as plain PCM wav.",
        ) from None
    _check_samples(mono, rate, origin, min_seconds)
    return resample(np.clip(mono, -1, 1), rate)


def resample(mono: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """float32 [N] at `rate` Hz -> float32 [M] at 24 kHz, through a Kaiser-windowed sinc."""
    # The filter bank grows with rate / gcd(rate, 24000): 4 GB for 44101 Hz. Rounding the rate to 25 or 100 Hz bounds it
    # to 9 MB and changes the pitch by less than 3 cents, which is inaudible; usual rates are such multiples already.
    step = 25 if rate < 48_000 else 100
    rate = round(rate / step) * step
    if rate == SAMPLING_RATE:
        return mono
    import torch
    import torchaudio.functional

    resampled = torchaudio.functional.resample(
        torch.from_numpy(mono),
        rate,
        SAMPLING_RATE,
        lowpass_filter_width=64,
        rolloff=0.95,
        resampling_method="sinc_interp_kaiser",
        beta=14.77,
    )
    return np.asarray(resampled.numpy(), dtype=np.float32)


def _read_blocks(
    header: SoundHeader, blocks: Iterator[NDArray[np.float32]], container: Container, origin: str, max_seconds: float
) -> tuple[NDArray[np.float32], int]:
    """Mono samples and their rate."""
    _check_header(header, container, origin)
    kept: list[NDArray[np.float32]] = []
    frames = 0
    for block in blocks:
        frames += len(block)
        if frames > max_seconds * header.samplerate:
            raise _too_long(origin, max_seconds)
        kept.append(block)
    return np.concatenate(kept) if kept else np.zeros(0, np.float32), header.samplerate


def _check_header(sound: SoundHeader, container: Container, origin: str) -> None:
    if sound.format not in _SNDFILE_FORMATS[container] or (
        container is Container.WAV and sound.subtype not in _WAV_SUBTYPES
    ):
        raise ReferenceAudioError(
            f"{origin} is {container} audio with an encoding inside that is not read.",
            field=origin,
            hint="Send wav with PCM or float samples, flac, mp3, or ogg with Vorbis or Opus.",
        )
    if not _MIN_RATE <= sound.samplerate <= _MAX_RATE:
        raise ReferenceAudioError(
            f"{origin} has a sampling rate of {sound.samplerate} Hz; allowed is {_MIN_RATE} to {_MAX_RATE} Hz.",
            field=origin,
            hint=f"Resample the clip to {SAMPLING_RATE} Hz.",
        )
    if not 1 <= sound.channels <= _MAX_CHANNELS:
        raise ReferenceAudioError(
            f"{origin} has {sound.channels} channels; allowed is 1 to {_MAX_CHANNELS}.",
            field=origin,
            hint="Mix the clip down to mono.",
        )


def _check_samples(mono: NDArray[np.float32], rate: int, origin: str, min_seconds: float) -> None:
    seconds = len(mono) / rate
    if seconds < min_seconds or not len(mono):
        raise ReferenceAudioError(
            f"{origin} lasts {seconds:.2f} s; at least {min_seconds:g} s are needed.",
            field=origin,
            hint="Send 3 to 30 seconds of clear speech.",
        )
    peak = float(np.abs(mono).max())  # NaN and infinity propagate
    if not np.isfinite(peak):
        raise ReferenceAudioError(
            f"{origin} holds samples that are not finite numbers (NaN or infinity).",
            field=origin,
            hint="Export the clip again, as 16-bit PCM.",
        )
    if peak < SILENT_PEAK:
        raise silent_clip(origin)
    if peak > _LARGEST_PEAK:
        raise ReferenceAudioError(
            f"{origin} has samples up to {peak:.4g} where full scale is 1.",
            field=origin,
            hint="Scale float samples to -1 to 1, or send 16-bit PCM.",
        )


def silent_clip(origin: str) -> ReferenceAudioError:
    """The error of a clip without a sound. origin: what the payload calls it."""
    return ReferenceAudioError(f"{origin} is silent.", field=origin, hint="Send a clip whose speech is above -60 dBFS.")


def _too_long(origin: str, max_seconds: float) -> ReferenceAudioError:
    return ReferenceAudioError(
        f"{origin} lasts longer than {max_seconds:g} s.", field=origin, hint="Cut the clip; 3 to 30 seconds are enough."
    )


def _not_audio(data: bytes, origin: str, extension_hint: str | None) -> ReferenceAudioError:
    if not data:
        return ReferenceAudioError(f"{origin} is empty.", field=origin, hint=_READABLE)
    if looks_like_a_page(data):
        return ReferenceAudioError(f"{origin} is a page or text, not audio.", field=origin, hint=_READABLE)
    named = (extension_hint or "").lower().lstrip(".")
    announced = f" although it was announced as {named}" if named in tuple(Container) else ""
    return ReferenceAudioError(
        f"{origin} does not hold audio in a format that is read{announced}.", field=origin, hint=_READABLE
    )
