"""`messages`: the turns of a conversation as the client wrote them, each of text and clips."""

from __future__ import annotations

from collections.abc import Mapping

from higgs_core.errors import RequestError
from higgs_core.prompt.chatml import TextContent
from higgs_core.speech.request import ReferenceSource, RequestMessage
from serverless.payload.clips import clip_of
from serverless.payload.field_table import ParseContext
from serverless.payload.readers.texts import verbatim
from serverless.payload.readers.values import JsonObject, Refused
from serverless.payload.request_fields import AudioPartFields, MessageFields, TextPartFields

Part = TextContent | ReferenceSource
_NO_MESSAGES = "'messages' must be an array of message objects."


def parse_messages(value: object, context: ParseContext) -> tuple[RequestMessage, ...]:
    """Read the turns. Content is a text, a part or a list of parts; missing content is an empty text.

    Raises RequestError naming the message and the part.
    """
    if not isinstance(value, list):
        raise RequestError(_NO_MESSAGES, field="messages")
    most_parts, most_characters = context.settings.max_message_parts, context.settings.max_script_characters
    if len(value) > most_parts:
        raise Refused(value, f"at most {most_parts} messages").as_error("messages")
    messages: list[RequestMessage] = []
    parts = characters = 0
    for index, entry in enumerate(value):
        message = _message(entry, index, context)
        parts += max(1, len(message.parts))
        characters += sum(len(part.text) for part in message.parts if isinstance(part, TextContent))
        if parts > most_parts or characters > most_characters:
            raise RequestError(
                f"messages is too long; allowed is at most {most_parts} parts and {most_characters} characters.",
                field="messages",
            )
        messages.append(message)
    return tuple(messages)


def _message(entry: object, index: int, context: ParseContext) -> RequestMessage:
    at = f"messages[{index}]"
    if not isinstance(entry, Mapping):
        raise RequestError(_NO_MESSAGES, field=at)
    if "role" not in entry:
        raise RequestError(f"Message at index {index} is missing 'role'.", field=f"{at}.role")
    fields = MessageFields(entry, context, at)
    content, path, limit = fields.content, fields.path_to("content"), context.settings.max_message_parts
    if not isinstance(content, list):
        return RequestMessage(fields.role, (_part(content, path, context),))
    if len(content) > limit:
        raise Refused(content, f"at most {limit} parts").as_error(path)
    return RequestMessage(fields.role, tuple(_part(part, f"{path}[{i}]", context) for i, part in enumerate(content)))


def _part(part: object, at: str, context: ParseContext) -> Part:
    if isinstance(part, Mapping):
        return _typed_part(part, at, context)
    if not isinstance(part, str):
        raise Refused(part, "a text, a part or a list of parts").as_error(at)
    try:
        return TextContent(verbatim(part, context.settings))
    except Refused as refused:
        raise refused.as_error(at) from None


def _typed_part(part: JsonObject, at: str, context: ParseContext) -> Part:
    kind = part.get("type", "text")
    if kind == "text":
        return TextContent(TextPartFields(part, context, at).text)
    if kind != "audio":
        raise Refused(kind, "text or audio").as_error(f"{at}.type")
    fields = AudioPartFields(part, context, at)
    clip = clip_of(fields, context, tag=fields.speaker_tag)
    if clip is None:
        raise RequestError(f"{at}.voice names no clip, and here the model cannot choose one.", field=f"{at}.voice")
    return clip
