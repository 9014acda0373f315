"""The playground as a person uses it: typing, hearing, keeping."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from pydantic import SecretStr

from higgs_core.built_in import DEMO, TINY, BuiltIn
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.patience import PATIENCE, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WORDS = "Hello from the playground."
LASTING = "Only keys, but enough of them for the sound to last a while."
"""With seed 1 it lasts 11 seconds."""


def write(page: Page, text: str = WORDS, seed: int | None = 7) -> None:
    page.get_by_role("textbox", name="Text", exact=True).fill(text)
    if seed is not None:
        page.locator("#sampling").evaluate("details => { details.open = true; }")
        page.get_by_label("Seed", exact=True).fill(str(seed))


def speak(page: Page) -> None:
    page.get_by_role("button", name="Speak").click()
    page.locator("#phase", has_text="Finished").wait_for()


def until(page: Page, holds: str) -> None:
    """Wait for a JavaScript expression. The page's policy forbids the evaluation that the driver's own wait uses."""
    wait_until(lambda: bool(page.evaluate(holds)))


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


def download(page: Page, folder: Path) -> Path:
    with page.expect_download() as started:
        page.locator("#download").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def request_of(page: Page) -> dict[str, Any]:
    """What the page shows as the request, with long base64 shortened."""
    page.get_by_role("tab", name="JSON").click()
    return dict(json.loads(page.locator("#code").inner_text())["input"])


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


def test_it_plays_while_it_still_arrives(page: Page) -> None:
    write(page, "Many words, said one after the other. " * 400)  # far more than is spoken before the first is heard
    page.get_by_role("button", name="Speak").click()
    until(page, "window.heard.peak > 0.01")
    assert page.get_by_role("button", name="Stop").is_visible()
    assert "Finished" not in page.locator("#phase").inner_text()
    page.keyboard.press("Escape")
    page.locator("#phase", has_text="Stopped").wait_for()
    assert page.get_by_role("button", name="Speak").is_visible()


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    write(page, "", seed=1)  # the rest is done by keys
    page.get_by_role("textbox", name="Text", exact=True).focus()
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
    page.get_by_role("button", name="Pause").wait_for()


def test_the_pause_button_holds_the_position(page: Page) -> None:
    write(page, LASTING, seed=1)
    speak(page)
    pause = page.get_by_role("button", name="Pause")
    if pause.is_visible():
        pause.click()
    page.get_by_role("slider", name="Playback position").press("Home")
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "parseFloat(document.getElementById('wave').ariaValueNow) > 0.2")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Play", exact=True).wait_for()
    held = position_after(page, frames=2)  # drawn once more after the sound has stopped
    assert position_after(page, frames=30) == held


def test_the_copied_curl_saves_the_same_speech(page: Page, tmp_path: Path) -> None:
    write(page, 'It\'s "quoted", $HOME and `ticks`\nover two lines.')
    page.get_by_role("tab", name="curl").click()
    subprocess.run(["bash", "-c", copied(page)], cwd=tmp_path, check=True, timeout=PATIENCE)
    speak(page)
    by_page, _ = soundfile.read(download(page, tmp_path), dtype="int16")
    by_curl, _ = soundfile.read(tmp_path / "speech.wav", dtype="int16")
    assert by_page.shape == by_curl.shape
    assert np.abs(by_page.astype(int) - by_curl).max() <= 1


def copied(page: Page) -> str:
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_role("button", name="Copied").wait_for()
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_an_uploaded_clip_is_sent_as_24_khz_mono_in_a_job_that_the_server_takes(
    page: Page, server: Running, clip: Path
) -> None:
    write(page)
    page.locator("input[type=file]").set_input_files(clip)
    page.get_by_label("Words spoken in the clip").fill("Two tones.")
    assert page.get_by_role("combobox", name="Voice", exact=True).input_value() == "clip"
    assert request_of(page)["references"][0]["audio_base64"].endswith("kB)")
    job = json.loads(copied(page))["input"]
    reference = job["references"][0]
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(reference["audio_base64"])))
    assert (rate, audio.ndim, reference["transcript"]) == (24_000, 1, "Two tones.")
    assert len(audio) == pytest.approx(24_000, abs=300)
    assert server.generate(job | {"max_new_tokens": 20}).status_code == 200
    speak(page)
    page.get_by_role("button", name="Remove").click()
    assert "references" not in request_of(page)


def test_a_file_that_is_no_audio_is_told_so(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("These are words, not sound.")
    page.locator("input[type=file]").set_input_files(text)
    page.get_by_text("cannot read that file as audio").wait_for()


def test_the_microphone_gives_a_clip(page: Page) -> None:
    write(page)
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name=re.compile("Stop, 1 s")).click()
    page.get_by_role("button", name="Remove").wait_for()
    assert request_of(page)["references"][0]["audio_base64"]
    speak(page)


def test_each_speaker_of_a_conversation_gets_a_voice(page: Page) -> None:
    write(page, "[SPEAKER0] Good morning.\n[SPEAKER1] Is it?")
    page.get_by_label("Voice of Speaker 1").select_option("belinda")
    assert request_of(page)["speakers"] == {"SPEAKER1": {"voice": "belinda"}}
    speak(page)
    write(page, "No speakers any more.")
    assert page.get_by_label("Voice of Speaker 1").count() == 0


def test_only_what_was_changed_is_sent(page: Page) -> None:
    write(page, seed=None)
    assert request_of(page) == {"script": WORDS}
    page.locator("#sampling").evaluate("details => { details.open = true; }")
    page.get_by_label(re.compile("^Temperature")).fill("0")
    page.get_by_label("Seed", exact=True).fill(str(2**62 + 1))
    page.get_by_label("Scene").fill("By the sea.")
    told = {"script": WORDS, "scene_prompt": "By the sea."}
    assert request_of(page) == told | {"temperature": 0, "seed": str(2**62 + 1)}
    page.get_by_role("button", name="Back to the defaults").click()
    assert request_of(page) == told
    page.get_by_label("Longest piece, frames").fill("2600")  # not the same as saying nothing, which follows the text
    assert request_of(page) == told | {"max_new_tokens": 2600}


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
    page.get_by_label("Format").select_option(fmt)
    speak(page)
    until(page, "window.heard.peak > 0.01")
    saved = download(page, tmp_path)
    assert saved.suffix == f".{fmt}"
    assert soundfile.info(saved).frames > 2_400


def test_a_wrong_value_is_explained_where_it_stands(page: Page) -> None:
    write(page)
    page.get_by_label("Longest piece, frames").fill("-5")
    page.get_by_role("button", name="Speak").click()
    page.get_by_role("alert").get_by_text("max_new_tokens").wait_for()
    field = page.get_by_label("Longest piece, frames")
    assert field.get_attribute("aria-invalid") == "true"
    said = page.locator(".wrong", has_text="max_new_tokens is -5")
    assert said.is_visible()
    field.fill("50")
    assert said.count() == 0


def test_empty_text_is_asked_for(page: Page) -> None:
    page.get_by_role("button", name="Speak").click()
    page.get_by_role("alert").get_by_text("Write the text").wait_for()


def test_recent_results_outlive_a_reload(page: Page) -> None:
    write(page)
    speak(page)
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    page.get_by_role("button", name=f"Play: {WORDS}").click()
    until(page, "window.heard.peak > 0.01")
    page.get_by_role("button", name=f"Use this request again: {WORDS}").click()
    assert request_of(page) == {"script": WORDS, "seed": 7}
    page.get_by_role("button", name="Clear").click()
    page.locator("#recent-empty").wait_for()
    assert page.locator("#recent li").count() == 0


def test_a_locked_server_asks_for_its_key_once(browser: Browser) -> None:
    key = "correct horse battery staple"
    with serving_http(Settings(model_id="tiny", device="cpu", api_key=SecretStr(key))) as locked:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{locked.url}/")
        dialog = page.get_by_role("dialog", name="API key")
        dialog.get_by_label("Key", exact=True).fill("wrong")
        dialog.get_by_role("button", name="Use this key").click()
        dialog.get_by_text("is wrong").wait_for()
        dialog.get_by_label("Key", exact=True).fill(key)
        dialog.get_by_role("button", name="Use this key").click()
        page.get_by_text("Ready · tiny").wait_for()
        write(page)
        speak(page)
        page.get_by_role("tab", name="curl").click()
        shown = page.locator("#code").inner_text()
        assert "Bearer $HIGGS_AUDIO_API_KEY" in shown
        assert key not in page.content()
        page.reload()
        page.get_by_text("Ready · tiny").wait_for()
        assert not dialog.is_visible()
        context.close()


@pytest.mark.parametrize("built_in", [DEMO, None])
def test_the_page_says_what_a_built_in_checkpoint_is_and_nothing_of_another(
    browser: Browser, server: Running, monkeypatch: pytest.MonkeyPatch, built_in: BuiltIn | None
) -> None:
    monkeypatch.setattr(SpeechService, "built_in", built_in)
    page = browser.new_page()
    page.goto(f"{server.url}/")
    page.get_by_text("Ready · tiny").wait_for()
    assert page.locator("#notice").is_visible() == (built_in is not None)
    assert page.locator("#notice").inner_text() == (built_in.description if built_in is not None else "")
    page.close()


@pytest.mark.parametrize("built_in", [DEMO, None])
def test_a_phone_shows_everything_in_one_column(
    browser: Browser, server: Running, monkeypatch: pytest.MonkeyPatch, built_in: BuiltIn | None
) -> None:
    monkeypatch.setattr(SpeechService, "built_in", built_in)
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{server.url}/")
    page.get_by_text("Ready · tiny").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    speak_button = page.get_by_role("button", name="Speak").bounding_box()
    assert speak_button is not None
    assert speak_button["y"] + speak_button["height"] <= 740  # in reach without scrolling
    page.get_by_role("button", name="Greeting").tap()
    page.get_by_role("button", name="Speak").tap()
    page.locator("#phase", has_text="Finished").wait_for()
    context.close()


def test_every_control_has_a_name(page: Page) -> None:
    page.locator("#sampling").evaluate("details => { details.open = true; }")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), select, textarea, a, [role=slider]")]
        .filter(e => e.checkVisibility())
        .filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.title))
        .map(e => e.outerHTML)"""
    )
    assert nameless == []
