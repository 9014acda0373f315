"""The clips of one request, as a service of its own resolves them."""

from __future__ import annotations

from collections.abc import Sequence

from higgs_core.speech.request import Clips, ReferenceSource
from serverless.config.settings import Settings
from serverless.network.fetch_guard import FetchGuard
from serverless.references.resolve import ClipResolver


async def resolve(
    sources: Sequence[ReferenceSource], settings: Settings, *, timeout_seconds: float, guard: FetchGuard | None = None
) -> Clips:
    """As `ClipResolver.resolved`, but the clips outlive it."""
    resolver = ClipResolver(settings, guard)
    try:
        async with resolver.resolved(sources, timeout_seconds=timeout_seconds) as clips:
            return clips.audio
    finally:
        resolver.close()
