"""The speakers of a request: the client's names for them, and the tags SPEAKER0, SPEAKER1, … that the model knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import count

from higgs_core.errors import RequestError
from higgs_core.speech.request import Speaker
from higgs_core.text.speaker_tags import Turn, dialogue_to_script, speaker_tags
from serverless.payload.clips import CLIP_SOURCES, clip_of
from serverless.payload.field_table import ParseContext
from serverless.payload.readers.texts import is_canonical_tag, speaker_tag
from serverless.payload.readers.values import Refused
from serverless.payload.request_fields import RequestFields, SpeakerFields, TurnFields
from serverless.payload.speaker_names import retagged

MAX_NAMES = 100
_PLAIN_KEY = re.compile(r"[\w .\-\[\]]{1,64}")


class SpeakerMap:
    """Speaker names of one request -> tags of the model.

    A name that is a tag is its own tag. Any other gets the next free tag, in order of appearance: in `dialogue`, then
    in `speakers`, then of clips. Names are compared without regard to case. clip_speakers: whom the clips name.

    Raises RequestError for a key of `speakers` that cannot be a name, two keys for one speaker, or too many names.
    """

    def __init__(
        self, request: RequestFields, turns: Iterable[TurnFields], clip_speakers: Iterable[str], context: ParseContext
    ) -> None:
        self._described: dict[str, str] = {}  # tag -> key of `speakers`
        keys = {key: _name_of(key, context) for key in request.speakers or {}}
        written = (*(turn.speaker for turn in turns), *keys.values(), *clip_speakers)
        names = list(dict.fromkeys(name.casefold() for name in written))
        if len(names) > MAX_NAMES:
            raise RequestError(
                f"dialogue names {len(names)} speakers; allowed is at most {MAX_NAMES}.", field="dialogue"
            )
        in_texts = [request.script or "", *(turn.text for turn in turns)]
        taken = {name.upper() for name in (*names, request.script_speaker_tag or "")}
        taken = taken.union(*map(speaker_tags, in_texts))
        free = (tag for tag in map("SPEAKER{}".format, count()) if tag not in taken)
        self._tags = {name: name.upper() if is_canonical_tag(name.upper()) else next(free) for name in names}
        as_written = {self.tag_of(name): name for name in reversed(written)}  # the first one stays
        self._names = {tag: name for tag, name in as_written.items() if not is_canonical_tag(name.upper())}
        for key, name in keys.items():
            tag = self.tag_of(name)
            if tag in self._described:
                raise RequestError(f"speakers names {name} twice.", field="speakers")
            self._described[tag] = key

    @property
    def described(self) -> Mapping[str, str]:
        """tag -> key in `speakers`."""
        return self._described

    @property
    def names(self) -> Mapping[str, str]:
        """tag -> name as it was written first, of the names that are no tags."""
        return self._names

    def tag_of(self, name: str) -> str:
        """The tag of a name; a name that is not in the map is returned as it is."""
        return self._tags.get(name.casefold(), name)

    def retag(self, script: str) -> str:
        """The script with every speaker's name replaced by its tag, as `speaker_names.retagged` says."""
        return retagged(script, self._tags)

    def script_of(self, turns: Iterable[TurnFields]) -> str:
        """A dialogue as a tagged script."""
        return dialogue_to_script(Turn(self.tag_of(turn.speaker), self.retag(turn.text)) for turn in turns)


def speakers_of(request: RequestFields, speaker_map: SpeakerMap, context: ParseContext) -> tuple[Speaker, ...]:
    """The entries of `speakers` under their tags, without those that leave the voice to the model.

    Raises RequestError for an entry that is no object or describes no voice.
    """
    speakers = []
    for tag, key in speaker_map.described.items():
        entry, at = (request.speakers or {})[key], path_of_speaker(key)
        if not isinstance(entry, Mapping):
            raise Refused(entry, "an object with a reference key, voice or description").as_error(at)
        speaker = _speaker(SpeakerFields(entry, context, at), tag, context)
        if speaker is not None:
            speakers.append(speaker)
    return tuple(speakers)


def path_of_speaker(key: str) -> str:
    """The full name of an entry of `speakers`; an unusual key is not repeated."""
    return f"speakers.{key}" if _PLAIN_KEY.fullmatch(key) else "speakers"


def _speaker(fields: SpeakerFields, tag: str, context: ParseContext) -> Speaker | None:
    described = fields.description is not None
    if any(name in fields.given for name in CLIP_SOURCES):
        clip = clip_of(fields, context, tag=tag)
        if clip is not None:
            if described:
                context.warn(f"{fields.path_given('description')} was ignored because a clip is given.")
            return Speaker(tag, reference=clip)
        return Speaker(tag, description=fields.description) if described else None
    if not described:
        raise RequestError(
            f"{fields.at} says nothing about the voice; give a reference key, voice or description.", field=fields.at
        )
    return Speaker(tag, description=fields.description)


def _name_of(key: str, context: ParseContext) -> str:
    try:
        return speaker_tag(key, context.settings)
    except Refused as refused:
        raise RequestError(
            f"A key of speakers is not allowed; allowed is {refused.allowed}.", field="speakers"
        ) from None
