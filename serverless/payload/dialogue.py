"""The turns of `dialogue`, and the script that a request's words make: bounded before they are put together."""

from __future__ import annotations

from collections.abc import Sequence

from higgs_core.errors import RequestError
from serverless.payload.field_table import ParseContext
from serverless.payload.readers.texts import SHORTEST_TURN
from serverless.payload.request_fields import RequestFields, TurnFields
from serverless.payload.speakers import SpeakerMap


def parse_turns(fields: RequestFields, context: ParseContext) -> list[TurnFields]:
    """The turns of `dialogue`. Reading ends where they are too long together.

    Raises RequestError naming the turn, or `dialogue` where all are too long.
    """
    limit = context.settings.max_script_characters
    turns: list[TurnFields] = []
    characters = 0  # that the script has at the least
    for index, entry in enumerate(fields.dialogue or ()):
        turn = TurnFields(entry, context, f"dialogue[{index}]")
        turns.append(turn)
        characters += len(turn.text) - 1 + SHORTEST_TURN
        if characters - 1 > limit:  # the last turn ends in no line break
            raise RequestError(
                f"dialogue has over {limit} characters in its first {index + 1} turns, with their tags; allowed is at "
                f"most {limit} in all.",
                field="dialogue",
            )
    return turns


def script_of(
    fields: RequestFields, turns: Sequence[TurnFields], speaker_map: SpeakerMap, context: ParseContext
) -> str | None:
    """The script, or the dialogue as a script, with the tags of the model.

    Raises RequestError when it is too long with them.
    """
    if turns:
        for name in ("script", "script_speaker_tag"):
            if name in fields.given:
                context.warn_ignored(fields.given[name], "dialogue")
        name, script = "dialogue", speaker_map.script_of(turns)
    elif fields.script is not None:
        name, script = fields.given["script"], speaker_map.retag(fields.script)
    else:
        return None
    limit = context.settings.max_script_characters
    if len(script) > limit:
        raise RequestError(
            f"{name} is {len(script)} characters long with its tags; allowed is at most {limit}.", field=name
        )
    return script
