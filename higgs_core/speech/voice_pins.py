"""Which speakers of a request have a clip that gives their voice. Imports no torch.

A voice that is only described, or that the model chooses, is another one in every generation that does not hear it.
"""

from __future__ import annotations

from collections.abc import Iterable

from higgs_core.prompt.chatml import Message, TextContent
from higgs_core.speech.request import SpeechRequest
from higgs_core.speech.system_turn import tags_in_scene
from higgs_core.text.speaker_tags import bracketed, reference_tags, speaker_tags

ANYBODY = ""
"""Who speaks a piece without a tag."""


def unpinned_speakers(request: SpeechRequest, turns: Iterable[Message], *, tagged: bool) -> tuple[str, ...]:
    """The tags, without brackets, of those who speak the turns of a script and have no clip; ANYBODY for no tag.

    tagged: the script names its speakers.
    """
    pinned = {speaker.tag for speaker in request.speakers if speaker.reference is not None}
    if request.ref_audio_in_system_message:
        pinned |= set(tags_in_scene(request))
    else:
        tags = reference_tags([source.speaker_tag for source in request.references], tagged=tagged)
        pinned |= {ANYBODY if tag is None else bracketed(tag)[1:-1] for tag in tags}
    spoken = {tag for turn in turns for tag in speaker_tags(_words(turn)) or (ANYBODY,)}
    if ANYBODY in pinned and len(spoken) == 1:
        return ()  # one voice, and it has a clip
    if pinned:
        spoken -= {ANYBODY}
    return tuple(sorted(spoken - pinned))


def _words(turn: Message) -> str:
    return "".join(part.text for part in turn.parts if isinstance(part, TextContent))
