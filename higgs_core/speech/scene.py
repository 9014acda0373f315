"""The system turn and its scene block: where a recording's surroundings and the voices in it are described.

The block's marks are control tokens to the model: the prompt builder takes the first start mark and the last end mark
of a system turn for them. Whatever a scene or a description holds lies between the two, so it stays words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from higgs_core.prompt.chatml import AudioContent, Content, Message, TextContent

SCENE_START = "<|scene_desc_start|>"
SCENE_END = "<|scene_desc_end|>"

MULTI_SPEAKER_PROMPT = (
    "You are an AI assistant designed to convert text into speech.\n"
    "If the user's message includes a [SPEAKER*] tag, do not read out the tag and generate speech for the following "
    "text, using the specified voice.\n"
    "If no speaker tag is present, select a suitable voice on your own."
)
_VOICES_IN_TURN = ("feminine", "masculine")


@dataclass(frozen=True)
class SceneVoice:
    """One line of the block, `SPEAKER0: ` and the voice: a clip, or a few words."""

    tag: str
    voice: AudioContent | str


def default_voices(tags: Sequence[str]) -> list[SceneVoice]:
    """Alternating voices for speakers of whom nothing is known."""
    return [SceneVoice(tag, _VOICES_IN_TURN[at % len(_VOICES_IN_TURN)]) for at, tag in enumerate(tags)]


def scene_of(prompt: str) -> str:
    """What the scene block of a system prompt holds; "" without one."""
    return _split(prompt)[1]


def system_turn(
    prompt: str | None, *, scene: str = "", voices: Sequence[SceneVoice] = (), replace_scene: bool = False
) -> Message | None:
    """The system turn with a scene and voices put in its block, which is added where the prompt has none.

    A prompt that nothing has to be put in is kept as it is. replace_scene: the prompt's own scene gives way to `scene`
    instead of standing before it. None when there is nothing to say.
    """
    scene = scene.strip()
    if not scene and not voices:
        return Message("system", prompt) if prompt else None
    before, own_scene, after = _split(prompt or "")
    scenes = [scene] if scene and replace_scene else [text for text in (own_scene, scene) if text]
    text = f"{before}{SCENE_START}\n" + "\n".join(scenes)
    separator = "\n\n" if scenes else ""
    parts: list[Content] = []
    for line in voices:
        text += f"{separator}{line.tag}: "
        if isinstance(line.voice, str):
            text += " ".join(line.voice.split())
        else:
            parts += [TextContent(text), line.voice]
            text = ""
        separator = "\n"
    parts.append(TextContent(f"{text}\n{SCENE_END}{after}"))
    return Message("system", parts)


def _split(prompt: str) -> tuple[str, str, str]:
    """What stands before the block, in it and after it; a prompt without one gets it at its end."""
    start = prompt.find(SCENE_START)
    end = prompt.rfind(SCENE_END)
    if start < 0 or end < start:
        return (f"{prompt}\n\n" if prompt else ""), "", ""
    return prompt[:start], prompt[start + len(SCENE_START) : end].strip(), prompt[end + len(SCENE_END) :]
