"""Limits of requests and results: what a client may send, and what the platform accepts."""

from __future__ import annotations

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field

from higgs_core.audio import MAX_SECONDS, MIN_SECONDS
from higgs_core.engine_config import AUTO
from higgs_core.speech.voices import MAX_CLIP_BYTES
from serverless.config.types import HangSeconds

PREFIX = "HIGGS_AUDIO_"


class Limits(BaseModel):
    """The limits, a part of Settings. Each is the variable HIGGS_AUDIO_<FIELD>."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: f"{PREFIX}{name.upper()}"),
    )

    # Requests.
    # The default holds sixteen clips of 15 seconds: 24 kHz, 16 bits, in base64.
    max_request_bytes: int = Field(16_000_000, ge=1_000, le=30_000_000, description="1000 to 30000000")
    max_script_characters: int = Field(20_000, ge=1, le=1_000_000, description="1 to 1000000")
    max_message_parts: int = Field(512, ge=1, le=10_000, description="1 to 10000")
    max_pieces: int = Field(512, ge=1, le=10_000, description="1 to 10000")
    max_audio_seconds: float = Field(7_200, ge=1, le=86_400, description="1 to 86400")
    max_queued_requests: int = Field(64, ge=0, le=10_000, description="0 to 10000")
    # Connections of the HTTP server. Seconds: to send a request's headers, to send its body, to take something of an
    # answer, and without a message on a WebSocket on which nothing is spoken. Bytes: the bodies of all requests under
    # way, the audio that is generated and not yet read, and the audio of one batch.
    max_connections: int = Field(512, ge=16, le=10_000, description="16 to 10000")
    max_header_seconds: float = Field(20.0, gt=0, le=600, description="above 0 and at most 600")
    max_body_seconds: float = Field(120.0, gt=0, le=600, description="above 0 and at most 600")
    max_stalled_seconds: float = Field(60.0, gt=0, le=600, description="above 0 and at most 600")
    max_idle_seconds: float = Field(300.0, gt=0, le=86_400, description="above 0 and at most 86400")
    max_bodies_bytes: int = Field(128_000_000, ge=1_000, le=100_000_000_000, description="1000 to 100000000000")
    max_unread_bytes: int = Field(1_000_000_000, ge=1_000, le=100_000_000_000, description="1000 to 100000000000")
    max_batch_bytes: int = Field(100_000_000, ge=1_000, le=1_000_000_000, description="1000 to 1000000000")
    # The engine.
    hang_seconds: HangSeconds = Field(AUTO, description="auto (120 on a GPU, 3600 on a CPU) or 1 to 86400")
    # Reference clips.
    max_references: int = Field(16, ge=0, le=64, description="0 to 64")
    max_reference_bytes: int = Field(MAX_CLIP_BYTES, ge=1_000, le=100_000_000, description="1000 to 100000000")
    min_reference_seconds: float = Field(MIN_SECONDS, ge=0, le=10, description="0 to 10")
    max_reference_seconds: float = Field(MAX_SECONDS, ge=1, le=300, description="1 to 300")
    max_total_reference_seconds: float = Field(300.0, ge=1, le=3600, description="1 to 3600")
    # Fetched files and decoded clips of all requests together; the oldest request alone may exceed it.
    max_clip_memory_bytes: int = Field(
        500_000_000, ge=1_000_000, le=100_000_000_000, description="1000000 to 100000000000"
    )
    max_download_timeout: float = Field(300.0, gt=0, le=3600, description="above 0 and at most 3600")
    # Voices that were added over HTTP.
    max_saved_voices: int = Field(256, ge=0, le=10_000, description="0 to 10000")
    max_redirects: int = Field(3, ge=0, le=10, description="0 to 10")
    # Results; the platform drops anything larger.
    max_inline_bytes: int = Field(18_000_000, ge=1_000, le=19_000_000, description="1000 to 19000000")
    max_upload_seconds: float = Field(120.0, gt=0, le=3600, description="above 0 and at most 3600")
    max_stream_chunk_bytes: int = Field(700_000, ge=1_000, le=700_000, description="1000 to 700000")
    max_result_hold: float = Field(300.0, ge=1, le=3600, description="1 to 3600")  # seconds
