"""How the sentences of a session are spoken: its configuration, checked, and what it makes of each sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.session import new_context, piece_seed
from serverless.http.live.messages import Config

if TYPE_CHECKING:
    from serverless.payload.parse import ParsedJob
    from serverless.service.service import SpeechService

DEFAULT_FORMAT = "wav"  # vllm-omni's
_PROBE = "Hello."  # in place of a text that is not known yet


@dataclass(frozen=True, eq=False)
class Voicing:
    """fields: of every sentence's job.  known_warnings: those about the fields, which every job repeats.

    speaker_tag: what a tag looks like that begins a speaker's turn.  context: the sentences that were spoken.
    """

    fields: Mapping[str, Any]
    stream_audio: bool
    response_format: str
    bytes_per_second: int | None
    known_warnings: frozenset[str]
    speaker_tag: re.Pattern[str]
    context: PieceContext = field(repr=False)

    def job_input(self, sentence: str, index: int, tag: str | None) -> dict[str, Any]:
        """The job of an utterance's index-th sentence. tag: the speaker in whose turn it begins.

        A seed is the utterance's: each sentence gets one of its own from it, the first the seed itself.
        """
        job_input = {**self.fields, "input": sentence, "stream": self.stream_audio, "delivery": "inline"}
        if tag is not None:
            job_input["script_speaker_tag"] = tag
        if (seed := self.fields.get("seed")) is not None:
            job_input["seed"] = piece_seed(int(seed), index)
        return job_input


async def voicing_of(config: Config, service: SpeechService) -> Voicing:
    """Raises RequestError for the first wrong field."""
    fields = {"response_format": DEFAULT_FORMAT, **config.fields}
    if not fields["response_format"]:
        fields["response_format"] = DEFAULT_FORMAT
    parsed = await service.parse({**fields, "input": _PROBE})
    seed = parsed.request.params.seed
    return Voicing(
        fields if seed is None else fields | {"seed": seed},
        config.stream_audio,
        parsed.output.response_format,
        _bytes_per_second(parsed),
        frozenset(parsed.warnings),
        _speaker_tag(fields),
        new_context(parsed.request),
    )


def _bytes_per_second(parsed: ParsedJob) -> int | None:
    """Of formats that say how long a part of them is; None for compressed ones."""
    if parsed.output.response_format not in ("pcm", "wav"):
        return None
    return 24_000 * (4 if parsed.output.wav_encoding == "float32" else 2)


def _speaker_tag(fields: Mapping[str, Any]) -> re.Pattern[str]:
    """Tags of the model, and names that the configuration gives to speakers."""
    speakers, references = fields.get("speakers"), fields.get("references")
    named = list(speakers) if isinstance(speakers, Mapping) else []
    for reference in references if isinstance(references, list) else [references]:
        if isinstance(reference, Mapping):
            named.append(reference.get("speaker_tag") or reference.get("speaker"))
    names = [re.escape(name) for name in named if isinstance(name, str) and name.strip()]
    return re.compile("|".join([r"\[SPEAKER\d{1,4}\]", *(rf"\[{name}\]" for name in names)]), re.IGNORECASE)
