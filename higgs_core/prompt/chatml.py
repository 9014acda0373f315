"""A conversation as data: the input of the prompt builder. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from higgs_core.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class TextContent:
    """Text, which may contain event and instruction tokens; nothing in it can become a control token."""

    text: str


@dataclass(frozen=True, eq=False)
class AudioContent:
    """One clip, given in exactly one of four ways.

    waveform: float32 [N] at 24 kHz, mono.
    codes: integers [8, T], already encoded, undelayed.
    path: an audio file on this machine (from trusted callers only: the worker checks paths before).
    raw_audio: base64 of an encoded audio file.

    Raises RequestError when none or several are given.
    """

    waveform: np.ndarray[Any, Any] | None = None
    codes: Any | None = None
    path: str | None = None
    raw_audio: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("waveform", "codes", "path", "raw_audio") if getattr(self, name) is not None]
        if len(given) != 1:
            raise RequestError(
                f"AudioContent takes exactly one of waveform, codes, path and raw_audio; it got {given or 'none'}."
            )


Content = TextContent | AudioContent


@dataclass(frozen=True)
class Message:
    """One turn. `content` may be a string, a part or a list of parts; `parts` is always a tuple of parts.

    Raises RequestError for an unknown role or a part of another type.
    """

    role: Role
    content: str | Content | list[Content] | tuple[Content, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RequestError(f"Message role {self.role!r} is unknown; use one of {', '.join(ROLES)}.", field="role")
        for part in self.parts:
            if not isinstance(part, Content):
                raise RequestError(
                    f"Message content must be text or audio parts; it holds {type(part).__name__}.", field="content"
                )

    @property
    def parts(self) -> tuple[Content, ...]:
        if isinstance(self.content, str):
            return (TextContent(self.content),)
        if isinstance(self.content, Content):
            return (self.content,)
        return tuple(TextContent(part) if isinstance(part, str) else part for part in self.content)


@dataclass(frozen=True)
class ChatMLSample:
    """The turns of one generation, in order.

    shared_turns: how many leading turns other samples will repeat, so that their prefill is cached; None is all but the
    last. It changes what is reused, never what is generated.
    Raises RequestError when there is no turn or shared_turns names more than there are.
    """

    messages: list[Message] | tuple[Message, ...]
    shared_turns: int | None = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise RequestError("A sample needs at least one message.", field="messages")
        if self.shared_turns is not None and not 0 <= self.shared_turns < len(self.messages):
            raise RequestError(f"shared_turns is {self.shared_turns}; allowed is 0 to {len(self.messages) - 1}.")
