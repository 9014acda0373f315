"""The playground's sound: heard while it arrives, stopped, saved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from higgs_core.built_in import TINY
from tests.helpers.http_server import Running
from tests.serverless.http.playground.steps import LASTING, WORDS, download, speak, text_box, until, write

if TYPE_CHECKING:
    from playwright.sync_api import Page


def position_after(page: Page, frames: int) -> str:
    """The playback position that is shown when the page has been drawn so many times more."""
    shown = page.evaluate(
        """async (frames) => {
            for (let drawn = 0; drawn < frames; drawn++) await new Promise(requestAnimationFrame);
            return document.getElementById("position").textContent;
        }""",
        frames,
    )
    return str(shown)


def test_typing_and_speaking_is_heard_and_downloaded(page: Page, server: Running, tmp_path: Path) -> None:
    write(page)
    speak(page)
    until(page, "window.heard.peak > 0.01")
    saved = download(page, tmp_path)
    audio, rate = soundfile.read(saved, dtype="int16")
    assert (saved.name, rate) == ("speech-7.wav", 24_000)
    assert np.abs(audio.astype(int)).max() > 300
    until(page, f"window.heard.samples === {len(audio)}")

    answer = server.generate({"script": WORDS, "seed": 7, "response_format": "pcm", "stream": True})
    items = [json.loads(line) for line in answer.text.splitlines()]
    assert len(audio) == round(items[-1]["duration_seconds"] * 24_000)
    facts = page.locator("#facts").inner_text()
    assert f"{len(audio) / 24_000:.2f} s" in facts
    assert "7" in facts
    assert page.locator("#notice").inner_text() == TINY.description


def test_stop_silences_at_once_and_keeps_what_has_arrived(page: Page, tmp_path: Path) -> None:
    write(page, "Many words, said one after the other. " * 400)  # far more than is spoken before the first is heard
    page.get_by_role("button", name="Speak", exact=True).click()
    until(page, "window.heard.peak > 0.01")
    assert "Finished" not in page.locator("#phase").inner_text()
    # in the same turn of the browser's loop: nothing that arrives later is waited for
    silent = page.evaluate(
        """() => {
            const before = window.stops;
            document.getElementById("generate").click();
            return window.stops > before;
        }"""
    )
    assert silent
    page.locator("#phase", has_text="Stopped").wait_for()
    heard = page.evaluate("window.heard.samples")
    assert position_after(page, frames=30) == position_after(page, frames=2)
    assert page.evaluate("window.heard.samples") == heard
    assert page.get_by_role("button", name="Speak", exact=True).is_visible()
    page.get_by_role("button", name="Download this part").wait_for()
    saved = download(page, tmp_path)
    assert saved.name == "speech-partial.wav"
    assert soundfile.info(saved).frames >= heard > 0


def test_a_part_of_a_compressed_file_is_heard_and_kept(page: Page, tmp_path: Path) -> None:
    write(page, "Many words, said one after the other. " * 400)
    page.get_by_label("File", exact=True).select_option("mp3")
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator("#phase", has_text="kB so far").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#phase", has_text=re.compile(r"^Stopped, 0:\d\d\.\d kept$")).wait_for()
    saved = download(page, tmp_path)
    assert saved.name == "speech-partial.mp3"
    assert soundfile.info(saved).frames > 0
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "window.heard.samples > 0")


def test_escape_stops_too(page: Page) -> None:
    write(page, "Many words, said one after the other. " * 400)
    page.get_by_role("button", name="Speak", exact=True).click()
    until(page, "window.heard.peak > 0.01")
    page.keyboard.press("Escape")
    page.locator("#phase", has_text="Stopped").wait_for()


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    write(page, "", seed=1)  # the rest is done by keys
    text_box(page).focus()
    page.keyboard.type(LASTING)
    page.keyboard.press("Control+Enter")
    page.locator("#phase", has_text="Finished").wait_for()
    position = page.get_by_role("slider", name="Playback position")
    position.focus()
    page.keyboard.press("End")
    until(
        page, "(({ ariaValueNow: now, ariaValueMax: all }) => now === all && +all > 0)(document.getElementById('wave'))"
    )
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    page.get_by_role("button", name="Pause", exact=True).wait_for()


def test_the_pause_button_holds_the_position(page: Page) -> None:
    write(page, LASTING, seed=1)
    speak(page)
    pause = page.get_by_role("button", name="Pause", exact=True)
    if pause.is_visible():
        pause.click()
    page.get_by_role("slider", name="Playback position").press("Home")
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "parseFloat(document.getElementById('wave').ariaValueNow) > 0.2")
    pause.click()
    page.get_by_role("button", name="Play", exact=True).wait_for()
    held = position_after(page, frames=2)  # drawn once more after the sound has stopped
    assert position_after(page, frames=30) == held


def test_a_kept_seed_says_the_same_again(page: Page, tmp_path: Path) -> None:
    write(page, seed=None)
    speak(page)
    first = download(page, tmp_path)
    page.get_by_role("button", name=re.compile("Keep seed")).click()
    speak(page)
    second = download(page, tmp_path / "again")
    assert first.name == second.name
    one, other = (soundfile.read(path, dtype="int16")[0].astype(int) for path in (first, second))
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("fmt", ["flac", "mp3", "opus"])
def test_another_format_is_heard_and_saved_as_it_came(page: Page, tmp_path: Path, fmt: str) -> None:
    write(page)
    page.get_by_label("File", exact=True).select_option(fmt)
    speak(page)
    until(page, "window.heard.peak > 0.01")
    saved = download(page, tmp_path)
    assert saved.suffix == f".{fmt}"
    assert soundfile.info(saved).frames > 2_400
