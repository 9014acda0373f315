"""The snippets run as they are copied and give the speech that the page gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from tests.helpers.http_server import Running
from tests.helpers.http_stub import Request, answering
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import card, copied, download, speak, write

if TYPE_CHECKING:
    from playwright.sync_api import Page

HARD = 'It\'s "quoted", $HOME, `ticks`, a \\ and ünïcode 🙂\nover two lines.'


def same_sound(one: Path, other: Path) -> None:
    first, second = (soundfile.read(path, dtype="int16")[0].astype(int) for path in (one, other))
    assert first.shape == second.shape
    assert np.abs(first - second).max() <= 1


def run(program: str, text: str, folder: Path) -> Path:
    """Run a snippet from a file: with a clip in it, it is too long for a command line."""
    (folder / "snippet").write_text(text)
    environment = os.environ | {"ENDPOINT_ID": "abc", "RUNPOD_API_KEY": "secret"}
    subprocess.run([program, "snippet"], cwd=folder, check=True, timeout=PATIENCE, env=environment)
    return folder / "speech.wav"


def snippet(page: Page, name: str) -> str:
    page.get_by_role("tab", name=name).click()
    return copied(page)


def filled(page: Page, clip: Path) -> None:
    """Everything at once: hard text, a scene, a clip, settings."""
    write(page, HARD)
    page.get_by_label("Scene", exact=True).fill('By the sea, it\'s "windy".')
    page.locator("input[type=file]").set_input_files(clip)
    page.get_by_label("Words spoken in the clip").fill("Two tones.")
    page.get_by_label("How lively", exact=True).fill("0.5")


def test_curl_python_and_openai_save_the_same_speech(page: Page, clip: Path, tmp_path: Path) -> None:
    filled(page, clip)
    speak(page)
    by_page = download(page, tmp_path / "page")
    same_sound(by_page, run("bash", snippet(page, "curl"), tmp_path))
    for name in ("Python", "OpenAI"):
        (tmp_path / "speech.wav").unlink()
        same_sound(by_page, run(sys.executable, snippet(page, name), tmp_path))


def test_the_runpod_snippet_waits_for_its_job(page: Page, server: Running, tmp_path: Path) -> None:
    write(page, "[Alice] Good morning.\n[Ben] Is it?")
    card(page, "Belinda").check()
    speak(page)
    by_page = download(page, tmp_path / "page")
    asked: list[str] = []

    def answer(request: Request) -> tuple[int, bytes]:
        asked.append(request.path)
        if request.headers["Authorization"] != "Bearer secret":
            return 401, b"{}"
        if request.path == "/v2/abc/runsync":
            answer.output = server.generate(json.loads(request.body)["input"]).json()  # type: ignore[attr-defined]
            return 200, b'{"id": "1", "status": "IN_PROGRESS"}'
        done = {"id": "1", "status": "COMPLETED", "output": [answer.output]}  # type: ignore[attr-defined]
        return 200, json.dumps(done).encode()

    with answering(answer) as address:
        code = snippet(page, "RunPod").replace("https://api.runpod.ai", address).replace("time.sleep(1)", "pass")
        same_sound(by_page, run(sys.executable, code, tmp_path))
    assert asked == ["/v2/abc/runsync", "/v2/abc/status/1"]


def test_what_is_shown_is_short_and_what_is_copied_is_whole(page: Page, clip: Path) -> None:
    filled(page, clip)
    for name in ("JSON", "curl", "Python", "OpenAI", "RunPod"):
        whole = snippet(page, name)
        assert "kB)" in page.locator("#code").inner_text()
        assert "kB)" not in whole
        assert len(whole) > 40_000


def test_the_tabs_are_walked_by_arrows(page: Page) -> None:
    page.get_by_role("tab", name="JSON").focus()
    page.keyboard.press("ArrowLeft")
    assert page.get_by_role("tab", name="RunPod").get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="JSON").get_attribute("aria-selected") == "true"
