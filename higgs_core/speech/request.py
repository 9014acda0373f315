"""What a client asked for, checked and complete; its reference clips are sources that are fetched later.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from higgs_core.errors import RequestError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import AudioContent, Role, TextContent
from higgs_core.speech.voices import Voice
from higgs_core.speech.work_limits import WorkLimits
from higgs_core.text.chunking import ChunkMethod

MAX_RETRIES = 3
"""How often a piece that went wrong may be generated again."""


@dataclass(frozen=True)
class ReferenceSource:
    """Where one reference clip comes from: exactly one of url, base64, path, voice and codes is set.

    origin: the payload's name for it ("references[0]"), for error messages.
    codes: integers [8, T], undelayed; sources of one request differ in their origin.
    speaker_tag: "SPEAKER0" without brackets, or None.
    """

    origin: str
    url: str | None = None
    base64: str | None = None
    path: str | None = None
    voice: Voice | None = None
    codes: NDArray[Any] | None = field(default=None, compare=False)
    transcript: str | None = None
    speaker_tag: str | None = None
    file_extension: str | None = None


Clips = Mapping[ReferenceSource, AudioContent]
"""The audio of each of a request's sources, once it has been fetched."""


def clip_of(source: ReferenceSource, clips: Clips) -> AudioContent:
    """Raises RequestError when the source's audio is missing."""
    if source not in clips:
        raise RequestError(f"{source.origin} has no audio.", field=source.origin)
    return clips[source]


@dataclass(frozen=True)
class RequestMessage:
    """A turn of `messages`: its audio parts are still sources."""

    role: Role
    parts: tuple[TextContent | ReferenceSource, ...]


@dataclass(frozen=True)
class Speaker:
    """One entry of `speakers`: a clip, or a voice described in words."""

    tag: str
    reference: ReferenceSource | None = None
    description: str | None = None


@dataclass(frozen=True)
class SpeechRequest:
    """One utterance to speak: `messages`, or a `script` (the parser turns a `dialogue` into a tagged script).

    script_field: the payload's name for the script, for error messages.
    system_prompt: None means no system turn; the default has been filled in by the parser.
    system_prompt_is_default: the parser filled it in, so a better-suited built-in prompt may replace it.
    speaker_names: what the client calls the speakers, tag -> name; tags that are not in it are the client's own.
    normalize_numbers: the language in whose words numbers are read, a key of LANGUAGES; None leaves them as they are.
    chunk_max_word_num: None lets a piece hold as many words as the slowest voice speaks within its decode steps.
    chunk_parallel: speak the pieces at the same time, each without earlier ones as context, where every speaker has a
    clip.
    cap_follows_text: a piece gets the decode steps that its text may need, `params.max_new_tokens` at the most; the
    client who sends max_new_tokens gets just those for every piece.
    retries: how often a piece that went wrong is generated again, the best generation being kept; None is once, and
    never where params bring a seed.
    prepare_references: mend clips that come with the request; False takes them as they are.
    trim: cut the silence after a piece to a natural length.
    limits: how much a script may ask for; None leaves it to the caller.
    """

    script: str | None = None
    script_field: str = "script"
    script_speaker_tag: str | None = None
    system_prompt: str | None = None
    system_prompt_is_default: bool = True
    scene_prompt: str | None = None
    messages: tuple[RequestMessage, ...] | None = None
    references: tuple[ReferenceSource, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    speaker_names: Mapping[str, str] = field(default_factory=dict, hash=False)
    ref_audio_in_system_message: bool = False
    prepare_references: bool = True
    normalize: bool = True
    normalize_numbers: str | None = None
    chunk_method: ChunkMethod = "auto"
    chunk_max_word_num: int | None = None
    chunk_max_num_turns: int = 1
    generation_chunk_buffer_size: int | None = 2
    chunk_parallel: bool = False
    params: GenerationParams = field(default_factory=GenerationParams)
    cap_follows_text: bool = True
    retries: int | None = None
    trim: bool = True
    limits: WorkLimits | None = None

    @property
    def retry_limit(self) -> int:
        """How often a piece that went wrong is generated again. A seed stands for one outcome, so none then."""
        if self.retries is not None:
            return self.retries
        return 0 if self.params.seed is not None else 1

    @property
    def reference_sources(self) -> tuple[ReferenceSource, ...]:
        """Every clip that has to be fetched, each once, in the order of first use."""
        found = list(self.references)
        found += [speaker.reference for speaker in self.speakers if speaker.reference is not None]
        for message in self.messages or ():
            found += [part for part in message.parts if isinstance(part, ReferenceSource)]
        return tuple(dict.fromkeys(found))
