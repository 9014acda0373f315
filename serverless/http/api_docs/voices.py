"""The routes of the voices and what they take and answer, for the OpenAPI document."""

from __future__ import annotations

from serverless.http.api_docs.answers import FLAG, TEXT, WHOLE, listed, null_or, record
from serverless.http.api_docs.operations import ASKED, BINARY, JSON, Operation, of
from serverless.http.api_docs.request_schema import ref
from serverless.payload.readers.json_schema import Schema

VOICES: dict[str, Schema] = {
    "Voice": record(
        {
            "id": TEXT,
            "name": TEXT,
            "object": TEXT,
            "source": {**TEXT, "enum": ["model", "shipped", "folder", "uploaded", "designed", "saved"]},
            "description": null_or(TEXT),
            "transcript": null_or(TEXT),
            "ready": FLAG,
            "deletable": FLAG,
            "created_at": null_or(WHOLE),
            "preview_url": null_or(TEXT),
        },
    ),
    "VoiceList": record(
        {
            "object": TEXT,
            "voices": {"type": "array", "items": {"oneOf": [ref("Voice"), TEXT]}},
            "uploaded_voices": listed("Voice"),
            "data": listed("Voice"),
        },
        *("object", "uploaded_voices", "data"),
    ),
    "MadeVoice": record({"success": FLAG, "voice": ref("Voice"), "warnings": {"type": "array", "items": TEXT}}),
    "DeletedVoice": record({"success": FLAG, "message": TEXT}),
    "VoiceError": {"allOf": [record({"success": FLAG}), ref("Error")]},
}
_ALL, _ONE = "/v1/audio/voices", "/v1/audio/voices/{}"
VOICE_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", _ALL): Operation(
        "Voices",
        "The voices; with legacy=true their names alone",
        {200: of("VoiceList")},
        errors=(400, 401, 503),
        key="lists",
    ),
    ("post", _ALL): Operation(
        "Voices",
        "Make a voice: of a sample, of a description, or of the codes of a result",
        {200: of("MadeVoice")},
        {"multipart/form-data": ref("UploadedVoice"), JSON: {"oneOf": [ref("DesignedVoice"), ref("SavedVoice")]}},
        (*ASKED, 403, 409, 507),
        error="VoiceError",
    ),
    ("get", _ONE): Operation("Voices", "A voice", {200: of("Voice")}, errors=(401, 404, 503)),
    ("delete", _ONE): Operation(
        "Voices", "Delete a voice", {200: of("DeletedVoice")}, errors=(401, 403, 404, 503), error="VoiceError"
    ),
    ("get", f"{_ONE}/preview"): Operation(
        "Voices", "The sound of a voice", {200: {"audio/wav": BINARY}, 304: {}}, errors=(401, 404, 503)
    ),
}
