"""Samples of voices: what is heard is the voice that has the name now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

NOTE_SAMPLES = """(() => {
  window.samples = [];
  const made = URL.createObjectURL;
  URL.createObjectURL = (blob) => { window.samples.push(blob.size); return made.call(URL, blob); };
})()"""


def test_a_new_voice_of_an_old_name_is_heard_and_not_the_old_one(page: Page, server: Running) -> None:
    route = f"{server.url}/v1/audio/voices"

    def save(frames: int) -> None:
        body = {"name": "changing", "audio_tokens": [[1] * frames] * 8, "transcript": "Hi."}
        requests.post(route, json=body, timeout=PATIENCE).raise_for_status()

    def hear() -> int:
        heard = page.evaluate("window.samples.length")
        page.get_by_role("button", name="Play a sample of Changing").click()
        until(page, f"window.samples.length > {heard} && window.urls.size === 0")  # it has ended
        return int(page.evaluate("window.samples.at(-1)"))

    save(10)
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    page.evaluate(NOTE_SAMPLES)
    first = hear()
    assert hear() == first
    requests.delete(f"{route}/changing", timeout=PATIENCE).raise_for_status()
    save(20)
    assert hear() - first == 10 * 960 * 2
