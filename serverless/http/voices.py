"""The routes of voices: the list, one of them, its preview; adding one from a clip, words or codes; removing one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from higgs_core.audio import encode_audio
from higgs_core.audio.clip_faults import clip_warning
from higgs_core.audio.sniff import Container, sniff
from higgs_core.errors import ReferenceAudioError
from higgs_core.speech.voices import DEFAULT_VOICE, VoiceLibrary
from serverless.http.body import media_type
from serverless.http.disconnect import until_disconnect
from serverless.http.entity_tags import names_tag, weak_tag
from serverless.http.errors import VOICES_ROUTE, HttpProblem
from serverless.http.forms import Form, read_form
from serverless.http.guard import require_key, require_key_to_list, require_same_site
from serverless.http.jobs import require_ready, require_room
from serverless.payload.field_table import ParseContext, Table
from serverless.payload.readers.values import Refused, is_empty, switch
from serverless.payload.voice_fields import DesignedVoiceFields, SavedVoiceFields, UploadedVoiceFields
from serverless.voices.additions import AddedVoice
from serverless.voices.errors import VoiceExistsError, VoiceNotFoundError
from serverless.voices.facts import VoiceFacts
from serverless.voices.library import Preview

router = APIRouter()
log = logging.getLogger(__name__)

LEAST_SOUND_SECONDS = 1.0
"""Of an uploaded clip: with less, hardly anything of a voice is in it."""
PREVIEW_CACHING = "private, no-cache"
"""A browser may keep a preview, and asks each time whether the voice still sounds so: a name may get another voice."""

_SAMPLE = "audio_sample"
_MIME_TYPES = {
    Container.WAV: "audio/wav",
    Container.FLAC: "audio/flac",
    Container.OGG: "audio/ogg",
    Container.MP3: "audio/mpeg",
    Container.MP4: "audio/mp4",
    Container.AAC: "audio/aac",
    Container.WEBM: "audio/webm",
}
_WITHOUT_WORDS = "ref_text is missing: with the words of the clip the copy comes closer."


# -- The list ---------------------------------------------------------------------------------------------------------


@router.get(VOICES_ROUTE, dependencies=[Depends(require_key_to_list)])
async def list_voices(
    request: Request, legacy: Annotated[str, Query(json_schema_extra={"type": "boolean"})] = "false"
) -> dict[str, Any]:
    """Every voice, first "default", which leaves the choice to the model. legacy: the names alone, as older clients of
    Kokoro-FastAPI read them."""
    require_ready(request)
    try:
        names_alone = switch(legacy, request.app.state.settings)
    except Refused as refused:
        raise HttpProblem("invalid_request", refused.as_error("legacy").message, field="legacy") from None
    listed = await request.app.state.service.voices.listed()
    if names_alone:
        return {"voices": [facts.id for facts in listed]}
    voices = [voice_json(facts) for facts in listed]
    uploaded = [voice_json(facts) for facts in listed if facts.deletable]
    return {"object": "list", "voices": voices, "uploaded_voices": uploaded, "data": voices}


@router.get(VOICES_ROUTE + "/{voice_id}", dependencies=[Depends(require_key)])
async def one_voice(request: Request, voice_id: str) -> dict[str, Any]:
    require_ready(request)
    return voice_json(await request.app.state.service.voices.get(voice_id))


@router.get(VOICES_ROUTE + "/{voice_id}/preview", dependencies=[Depends(require_key)])
async def preview(request: Request, voice_id: str) -> Response:
    """What the voice sounds like, as a wav file. A designed voice that nobody has used yet is made first."""
    require_ready(request)
    if voice_id == DEFAULT_VOICE:
        raise VoiceNotFoundError("default leaves the voice to the model, so it has no preview.", field="voice")
    sent = request.headers.get("if-none-match", "")
    file, tag = await until_disconnect(request, _preview(request.app.state.service, voice_id, sent))
    headers = {"Cache-Control": PREVIEW_CACHING, "ETag": tag}
    if file is None:
        return Response(status_code=304, headers=headers)
    return Response(file, media_type="audio/wav", headers=headers)


async def _preview(service: Any, name: str, sent: str) -> tuple[bytes | None, str]:
    """The file, None where the client has it, and what it is known by. sent: the client's If-None-Match."""
    held = names_tag(sent)
    preview: Preview = await service.on_device(partial(service.voices.preview, name, held))
    file = await asyncio.to_thread(encode_audio, preview.audio, "wav") if preview.audio is not None else None
    return file, weak_tag(preview.identity)


# -- Adding and removing ----------------------------------------------------------------------------------------------


@router.post(VOICES_ROUTE, dependencies=[Depends(require_key)])
async def add_voice(request: Request) -> JSONResponse:
    """Keep a voice: a clip in a form, or JSON with a description or with the codes of a result."""
    kind = media_type(request)
    if kind == "multipart/form-data":
        await require_same_site(request)
        require_room(request)
        form = await read_form(request, texts=UploadedVoiceFields.known, file=_SAMPLE)
        answer = await until_disconnect(request, _add_clip(request.app, form))
    elif kind == "application/json":
        require_room(request)
        body = await request.app.state.bodies.read(request)
        answer = await until_disconnect(request, _add_described(request.app, body))
    else:
        raise HttpProblem(
            "unsupported_media_type",
            "The body's type is neither a form nor JSON.",
            hint="Send a clip as multipart/form-data, a description or audio_tokens as application/json.",
        )
    log.info("a voice was added", extra={"job_id": request.state.request_id})
    return JSONResponse(answer)


@router.delete(VOICES_ROUTE + "/{voice_id}", dependencies=[Depends(require_key)])
async def remove_voice(request: Request, voice_id: str) -> dict[str, Any]:
    require_ready(request)
    await request.app.state.service.voices.remove(voice_id)
    log.info("a voice was removed", extra={"job_id": request.state.request_id})
    return {"success": True, "message": f"The voice {voice_id} was deleted."}


async def _add_clip(app: Any, form: Form) -> dict[str, Any]:
    service, context = app.state.service, ParseContext(app.state.settings, VoiceLibrary())
    fields = UploadedVoiceFields(form.texts, context)
    if not form.file:
        raise ReferenceAudioError(f"{_SAMPLE} is missing.", field=_SAMPLE, hint="Send the clip as a file of the form.")
    await _require_free(service, fields.name)  # before the work; the library decides
    async with service.clips.decoded(form.file, origin=_SAMPLE, file_extension=form.extension) as clip:
        sounding = clip.found.sounding_seconds
        if sounding < LEAST_SOUND_SECONDS:
            raise ReferenceAudioError(
                f"{_SAMPLE} has {sounding:.1f} s of sound; at least {LEAST_SOUND_SECONDS:g} s are needed.",
                field=_SAMPLE,
                hint="Send 3 to 30 seconds of clear speech.",
            )
        add = partial(service.voices.add_clip, fields.name, clip.waveform, fields.ref_text)
        added = await service.on_device(partial(add, consent=fields.consent, description=fields.speaker_description))
        told = clip_warning(_SAMPLE, clip, fields.ref_text)
    if form.unknown:
        context.warn(f"{form.unknown} parts of the form were ignored, as no field has their name.")
    if not fields.ref_text:
        context.warn(_WITHOUT_WORDS)
    container = sniff(form.file)
    about = {
        "consent": fields.consent,
        "mime_type": _MIME_TYPES[container] if container is not None else None,
        "file_size": len(form.file),
        "ref_text": fields.ref_text or None,
        "speaker_description": fields.speaker_description,
    }
    return _answer(added, about, (*((told,) if told else ()), *context.warnings))


async def _add_described(app: Any, body: Mapping[str, object]) -> dict[str, Any]:
    service, context = app.state.service, ParseContext(app.state.settings, VoiceLibrary())
    read = partial(app.state.bodies.in_thread, _read, body, context)
    if not all(is_empty(body.get(name)) for name in SavedVoiceFields.audio_tokens.names):
        saved: SavedVoiceFields = await read(SavedVoiceFields)
        add = partial(service.voices.add_saved, saved.name, saved.audio_tokens, saved.transcript)
    elif not is_empty(body.get("description")):
        designed: DesignedVoiceFields = await read(DesignedVoiceFields)
        await _require_free(service, designed.name)
        add = partial(service.voices.add_design, designed.name, designed.description, designed.seed)
    else:
        raise HttpProblem(
            "invalid_request",
            "Neither description nor audio_tokens is given.",
            hint="Send name and description, or name, audio_tokens and transcript; a clip comes as a form.",
        )
    added = await service.on_device(add)
    return _answer(added, {"seed": added.facts.seed}, context.warnings)


def _read(body: Mapping[str, object], context: ParseContext, table: type[Table]) -> Table:
    return table(body, context)


async def _require_free(service: Any, name: str) -> None:
    """Raises VoiceExistsError for a name that is taken, in whatever case."""
    if name.lower() in {facts.id.lower() for facts in await service.voices.listed()}:
        raise VoiceExistsError(
            f"There is a voice {name} already.", field="name", hint="Choose another name, or delete it first."
        )


def _answer(added: AddedVoice, about: Mapping[str, Any], warnings: tuple[str, ...]) -> dict[str, Any]:
    return {
        "success": True,
        "voice": {**voice_json(added.facts), **about},
        "warnings": [*warnings, *added.warnings],
    }


# -- Shapes -----------------------------------------------------------------------------------------------------------


def voice_json(facts: VoiceFacts) -> dict[str, Any]:
    """One voice as clients read it."""
    return {
        "id": facts.id,
        "name": facts.name,
        "object": "voice",
        "source": facts.source,
        "description": facts.description,
        "transcript": facts.transcript or None,
        "ready": facts.ready,
        "deletable": facts.deletable,
        "created_at": facts.created_at,
        "preview_url": f"{VOICES_ROUTE}/{facts.id}/preview" if facts.has_preview else None,
    }
