"""The voice routes as the page sees them, answered in the browser: what is listed, made and deleted."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route


def voice(name: str, source: str = "shipped", description: str | None = None, **rest: Any) -> dict[str, Any]:
    return {
        "id": name.lower(),
        "name": name,
        "object": "voice",
        "source": source,
        "description": description,
        "transcript": None,
        "ready": True,
        "deletable": source in ("uploaded", "designed", "saved"),
        "created_at": None,
        "preview_url": f"/v1/audio/voices/{name.lower()}/preview",
        **rest,
    }


def sample() -> bytes:
    """A second of a tone, as WAV."""
    file = io.BytesIO()
    soundfile.write(file, 0.2 * np.sin(np.arange(24_000) / 10), 24_000, format="WAV")
    return file.getvalue()


class Voices:
    """A library of voices, and what the page asked of it."""

    def __init__(self) -> None:
        shipped = ("Alloy", "Ash", "Ballad", "Coral", "Echo", "Fable", "Nova", "Onyx")
        self.listed = [voice("default", "model"), voice("Belinda", "folder")]
        self.listed += [voice(name, description=f"{name} in a few words") for name in shipped]
        self.added: list[dict[str, Any]] = []
        self.uploads: list[bytes] = []
        self.refusal: dict[str, Any] | None = None

    def serve(self, context: BrowserContext) -> None:
        context.route(re.compile(r"/v1/audio/voices(?:$|[/?])"), self._answer)

    def _answer(self, route: Route) -> None:
        method, parts = route.request.method, route.request.url.split("/v1/audio/voices")[1].strip("/").split("/")
        if method == "POST":
            self._add(route)
        elif method == "DELETE":
            self.listed = [each for each in self.listed if each["id"] != parts[0]]
            route.fulfill(json={"success": True, "message": "Deleted."})
        elif parts[-1] == "preview":
            route.fulfill(body=sample(), content_type="audio/wav")
        else:
            route.fulfill(json={"object": "list", "voices": self.listed, "data": self.listed, "uploaded_voices": []})

    def _add(self, route: Route) -> None:
        if self.refusal is not None:
            route.fulfill(status=400, json={"error": self.refusal})
            return
        body = route.request.post_data_buffer or b""
        if route.request.headers["content-type"].startswith("multipart/form-data"):
            self.uploads.append(body)
            found = re.search(rb'name="name"\r\n\r\n([^\r]+)', body)
            name, source = (found[1].decode() if found else ""), "uploaded"
        else:
            self.added.append(json.loads(body))
            name, source = self.added[-1]["name"], "saved" if "audio_tokens" in self.added[-1] else "designed"
        made = voice(name, source, created_at=1)
        self.listed.append(made)
        route.fulfill(json={"success": True, "voice": made, "warnings": ["The clip is short."]})
