"""The system turn and its scene block: where a recording's surroundings and the voices in it are described.

The block's marks are control tokens to the model: the prompt builder takes the first start mark and the last end mark
of a system turn for them. Whatever a scene or a description holds lies between the two, so it stays words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from higgs_core.prompt.chatml import AudioContent, Content, Message, TextContent
from higgs_core.speech.request import Clips, SpeechRequest, clip_of
from higgs_core.text.speaker_tags import bracketed

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


def system_turn_of(request: SpeechRequest, clips: Clips, tags: Sequence[str]) -> Message | None:
    """The system turn before a script. tags: the speakers whom the script names.

    Several speakers of whom nothing is known get Boson AI's prompt for dialogue in place of the default prompt.
    """
    prompt, scene, voices = request.system_prompt, request.scene_prompt or "", _scene_voices(request, clips)
    is_default = request.system_prompt_is_default
    if len(tags) > 1 and prompt and is_default and not voices and not request.references:
        scene = scene.strip() or scene_of(prompt)
        prompt, voices = MULTI_SPEAKER_PROMPT, default_voices(tags)
    return system_turn(prompt, scene=scene, voices=voices, replace_scene=is_default)


def _scene_voices(request: SpeechRequest, clips: Clips) -> list[SceneVoice]:
    """Who speaks, as far as it is said in the scene block and not by turns."""
    voices = []
    for speaker in request.speakers:
        if speaker.reference is not None:
            voices.append(SceneVoice(speaker.tag, clip_of(speaker.reference, clips)))
        elif speaker.description:
            voices.append(SceneVoice(speaker.tag, speaker.description))
    if request.ref_audio_in_system_message:
        tags = tags_in_scene(request)
        voices += [
            SceneVoice(tag, clip_of(source, clips)) for tag, source in zip(tags, request.references, strict=True)
        ]
    return voices


def tags_in_scene(request: SpeechRequest) -> list[str]:
    """The speakers of the references where they stand in the scene block: one without a tag has the next free one."""
    tags = [bracketed(source.speaker_tag)[1:-1] if source.speaker_tag else None for source in request.references]
    described = {speaker.tag for speaker in request.speakers if speaker.reference is not None or speaker.description}
    taken = described | set(tags)
    free = (tag for tag in map("SPEAKER{}".format, range(len(taken) + len(tags))) if tag not in taken)
    return [tag or next(free) for tag in tags]


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
