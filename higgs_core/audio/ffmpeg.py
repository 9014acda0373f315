"""Decodes and encodes with ffmpeg, through pipes, what libsndfile cannot (m4a, aac, webm).

ffmpeg never gets a file name or an address, as playlists and external references would make it fetch other files. The
container and the decoders are forced; output, time, processor time, memory, the largest allocation and the temporary
file are bounded.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.child_process import ChildFailed, ChildLimits, output_of
from higgs_core.audio.ffmpeg_pipe import QUIET, FfmpegPipe, ffmpeg_path
from higgs_core.audio.sniff import Container
from higgs_core.cancellation import CancelToken
from higgs_core.errors import DeliveryError, ReferenceAudioError

_LARGEST_ALLOCATION = 64 * 2**20
_MEMORY_BYTES = 768 * 2**20  # of address space, of which the program and its libraries are a third
_CPU_SECONDS = 20
_AAC_BITS_PER_SECOND = 96_000
_DEMUXERS = {Container.MP4: "mov", Container.WEBM: "matroska", Container.AAC: "aac"}
_DECODERS = "aac,aac_latm,alac,flac,mp3,mp3float,opus,libopus,vorbis,pcm_s16le,pcm_s16be,pcm_s24le,pcm_f32le"


def decode_with_ffmpeg(
    data: bytes,
    container: Container,
    *,
    origin: str,
    sampling_rate: int,
    audio_seconds: float,
    seconds: float,
    cancel: CancelToken | None = None,
) -> NDArray[np.float32]:
    """The first `audio_seconds` of the clip's first audio stream, mono at `sampling_rate`: float32 [N].

    seconds: how long ffmpeg may take.  cancel: ends it when another thread cancels.
    Raises ReferenceAudioError without ffmpeg, and as `output_of` does.
    """
    program = ffmpeg_path()
    if program is None:
        raise ReferenceAudioError(
            f"{origin} is {container} audio, which only ffmpeg reads, and this worker has no ffmpeg.",
            field=origin,
            hint="Send wav, flac, mp3 or ogg.",
        )
    # An mp4 often has its index at the end, so the input must be seekable: the cache protocol makes the pipe so.
    seekable = container is Container.MP4
    source = ["-read_ahead_limit", "-1", "-i", "cache:pipe:0"] if seekable else ["-i", "pipe:0"]
    bounds = f"-max_alloc {_LARGEST_ALLOCATION} -threads 1 -protocol_whitelist cache,pipe -codec_whitelist {_DECODERS}"
    output = f"-map 0:a:0 -t {audio_seconds:.3f} -ac 1 -ar {sampling_rate} -f f32le pipe:1"
    arguments = [program, *QUIET, "-nostdin", *bounds.split(), "-f", _DEMUXERS[container], *source, *output.split()]
    # The cache protocol's temporary file, which has no name and goes with the process, is a copy of what was read.
    limits = ChildLimits(_MEMORY_BYTES, _CPU_SECONDS, file_bytes=len(data) if seekable else 0)
    most = round((audio_seconds + 1) * sampling_rate) * 4
    decoded = bytearray()
    with closing(output_of(arguments, data, limits, seconds=seconds, cancel=cancel)) as pieces:
        for piece in pieces:
            decoded += piece
            if len(decoded) > most:
                raise ChildFailed("more output than it was asked for")
    if not decoded:
        raise ChildFailed("no output")
    return np.frombuffer(decoded, dtype="<f4").astype(np.float32, copy=False)


class AacStream(FfmpegPipe):
    """AAC in ADTS frames, encoded by ffmpeg while the audio arrives. Raises DeliveryError without ffmpeg."""

    def __init__(self, sampling_rate: int) -> None:
        program = ffmpeg_path()
        if program is None:
            raise DeliveryError(
                "response_format aac needs ffmpeg, and this worker has no ffmpeg.",
                field="response_format",
                hint="Use mp3 or opus.",
            )
        output = f"-c:a aac -b:a {_AAC_BITS_PER_SECOND} -f adts"
        super().__init__(
            program, sampling_rate, output.split(), what="encoding AAC", remedy="Use another response_format."
        )
