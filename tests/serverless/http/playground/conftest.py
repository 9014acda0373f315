"""Chromium with the playground open, served by the real server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
# Listens where the speakers are: the loudest sample of everything that any context plays. Counts sounds that were
# stopped, and keeps the object URLs that are alive.
EAR = """
window.heard = {peak: 0, samples: 0};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target === this.context.destination && this.buffer) {
    const played = this.buffer.getChannelData(0);
    window.heard.samples += played.length;
    window.heard.peak = played.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), window.heard.peak);
  }
  return connect.call(this, target, ...rest);
};
window.stops = 0;
const stop = AudioBufferSourceNode.prototype.stop;
AudioBufferSourceNode.prototype.stop = function (...rest) { window.stops++; return stop.apply(this, rest); };
window.urls = new Set();
const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
URL.createObjectURL = (blob) => { const url = create.call(URL, blob); window.urls.add(url); return url; };
URL.revokeObjectURL = (url) => { window.urls.delete(url); revoke.call(URL, url); };
window.broken = false;
window.addEventListener("error", () => { window.broken = true; });
"""


@pytest.fixture(scope="package")  # playwright holds an event loop while it runs: it must end here
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET), timeout=1000 * PATIENCE)
        yield launched
        launched.close()


@pytest.fixture
def server(server: Running) -> Iterator[Running]:
    """The shared server, in which no test leaves a voice behind."""
    yield server
    voices = f"{server.url}/v1/audio/voices"
    for voice in requests.get(voices, timeout=PATIENCE).json()["uploaded_voices"]:
        requests.delete(f"{voices}/{voice['id']}", timeout=PATIENCE)


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    """The playground, ready. Nothing may go to another host, and nothing may be complained about."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(1000 * PATIENCE)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.add_init_script(EAR)
    opened.goto(f"{server.url}/")
    until(opened, "window.broken || document.body.innerText.includes('Ready · tiny')")
    assert complaints == []
    yield opened
    context.close()
    assert [url for url in asked if not url.startswith((server.url, "blob:"))] == []
    assert [words for words in complaints if "status of 4" not in words] == []  # the browser notes every refusal


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    import numpy as np
    import soundfile

    path = tmp_path / "clip.flac"
    seconds = np.arange(4 * 48_000) / 48_000
    stereo = np.stack([np.sin(2_000 * seconds), 0.3 * np.sin(1_400 * seconds)], axis=1)
    soundfile.write(path, 0.4 * stereo, 48_000)
    return path
