"""What the service returns for a job, typed: the entry point that asked turns it into JSON, bytes or events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from higgs_core.audio import AudioFormat
    from higgs_core.speech.result import SpeechResult
    from serverless.delivery.s3 import Upload
    from serverless.payload.parse import ParsedJob


@dataclass(frozen=True)
class Accepted:
    """The first event of a stream: the job was read and is going to be spoken.

    streams: audio parts follow; otherwise the response comes alone, with its audio.
    warnings: fields of the request that have no effect.
    """

    streams: bool
    audio_format: AudioFormat
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class AudioPart:
    """A part of the encoded file while it is generated; the data of all parts joined is the file.

    start_seconds: where in the audio the samples begin that were encoded since the part before.
    text: what the pieces of the script say that begin in this part, None where none begins.
    warnings: about the request's clips and voices; the first part has them.
    """

    index: int
    data: bytes
    start_seconds: float
    audio_format: AudioFormat
    text: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SpeechResponse:
    """A finished job.

    audio: the encoded file, and upload: where it can be fetched. A whole response has exactly one of the two. After a
    stream audio is None, and upload is set only if the file was uploaded too.
    parts: how many parts left before; None where the response answers alone.
    timings: measured seconds by name, as seen from the moment at which the job came in.
    warnings: of the request, of its speech and of its delivery.
    """

    job_id: str
    job: ParsedJob
    speech: SpeechResult
    audio_format: AudioFormat
    model: str
    timings: Mapping[str, float]
    warnings: tuple[str, ...]
    audio: bytes | None = None
    upload: Upload | None = None
    parts: int | None = None

    @property
    def duration_seconds(self) -> float:
        """Of the audio."""
        return len(self.speech.audio) / self.speech.sampling_rate

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work a second of audio: below 1 is faster than speech."""
        return self.timings["total"] / self.duration_seconds if self.duration_seconds > 0 else None


StreamEvent = Accepted | AudioPart | SpeechResponse
"""What a stream gives: Accepted once and first, SpeechResponse once and last."""
