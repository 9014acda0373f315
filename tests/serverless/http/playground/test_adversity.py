"""What goes wrong around the page: storage that is refused, servers that fail, voices that vanish, hostile words."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
import soundfile

from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import (
    WORDS,
    card,
    download,
    request_of,
    speak,
    text_box,
    until,
    write,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

SECOND_OF_PCM = base64.b64encode(bytes(48_000)).decode()
REFUSED = """
const refuse = () => { throw new DOMException("The request was denied.", "SecurityError"); };
Object.defineProperty(window, "localStorage", { get: refuse });
Object.defineProperty(window, "sessionStorage", { get: refuse });
Object.defineProperty(window, "indexedDB", { get: refuse });
"""
FULL = """Storage.prototype.setItem = () => { throw new DOMException("The disk is full.", "QuotaExceededError"); };"""
TOUCHED_ROWS = """() => {
  const touched = new Set();
  const watch = new MutationObserver((records) => {
    for (const { target } of records) touched.add(target.closest?.(".turn") ?? target);
  });
  watch.observe(document.getElementById("turns"), { subtree: true, attributes: true, childList: true });
  const words = document.querySelector(".turn-text");
  words.value = "Something else.";
  words.dispatchEvent(new Event("input", { bubbles: true }));
  for (const { target } of watch.takeRecords()) touched.add(target.closest(".turn") ?? target);
  return touched.size;
}"""


def add_voice(server: Running, name: str) -> str:
    """The address of a new voice."""
    voices = f"{server.url}/v1/audio/voices"
    body = {"name": name, "description": "feminine, warm"}
    requests.post(voices, json=body, timeout=PATIENCE).raise_for_status()
    return f"{voices}/{name}"


@pytest.mark.parametrize("storage", [REFUSED, FULL])
def test_a_browser_that_keeps_nothing_is_enough(browser: Browser, server: Running, storage: str) -> None:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(storage)
    page.goto(f"{server.url}/")
    page.get_by_text("Ready · tiny").wait_for()
    write(page)
    page.get_by_role("button", name="Switch between dark and light").click()
    page.get_by_role("button", name="API key").click()
    page.get_by_role("dialog").get_by_label("Key", exact=True).fill("a key")
    page.get_by_role("dialog").get_by_label("Key", exact=True).press("Enter")
    with page.expect_request("**/generate") as asked:
        speak(page)
    assert asked.value.headers["authorization"] == "Bearer a key"  # it lasts as long as the page
    assert errors == []
    page.close()


def test_a_letter_in_a_conversation_leaves_the_other_turns_alone(page: Page) -> None:
    text_box(page).fill("[Alice] Yes.\n[Ben] No.\n" * 50)
    page.get_by_role("button", name="Conversation").first.click()
    assert page.locator(".turn").count() == 100
    assert page.evaluate(TOUCHED_ROWS) == 1


def test_a_name_that_is_markup_stays_words(page: Page) -> None:
    write(page)
    page.get_by_role("button", name="Conversation").first.click()
    name = page.get_by_role("combobox", name="Speaker of turn 1")
    name.fill("<img src=x onerror=alert(1)>")
    name.press("Tab")
    speak(page)
    assert page.locator("#spoken b").inner_text() == "<img src=x onerror=alert(1)>"
    assert page.locator("main img").count() == 0


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (429, {"Retry-After": "7"}, "too many requests at the moment. Try again in 7 seconds."),
        (502, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "cannot be reached at the moment."),
        (507, {}, "The server answered with status 507."),
    ],
)
def test_a_refusal_without_words_is_told_in_words(
    browser: Browser, server: Running, status: int, headers: dict[str, str], told: str
) -> None:
    page = browser.new_page()
    page.route("**/generate", lambda route: route.fulfill(status=status, headers=headers, body="<html></html>"))
    page.goto(f"{server.url}/")
    page.get_by_text("Ready · tiny").wait_for()
    write(page, seed=None)
    page.get_by_role("button", name="Speak", exact=True).click()
    problem = page.locator("#problem")
    problem.wait_for()
    assert " ".join(problem.inner_text().split()).endswith(told)
    page.close()


def test_a_stream_that_ends_early_is_told_and_its_part_is_kept(page: Page, tmp_path: Path) -> None:
    def cut(route: Route) -> None:
        item = {"index": 0, "start_seconds": 0.0, "text": "Word " * 60, "audio_base64": SECOND_OF_PCM}
        route.fulfill(body=json.dumps(item) + "\n", content_type="application/x-ndjson")

    page.route("**/generate", cut)
    write(page, "Word " * 60, seed=None)
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator("#problem", has_text="The connection broke off").wait_for()
    page.locator("#phase", has_text="Broke off, 0:01.0 kept").wait_for()
    saved = download(page, tmp_path)
    assert (saved.name, soundfile.info(saved).frames) == ("speech-partial.wav", 24_000)
    page.get_by_role("slider", name="Playback position").press("End")
    until(page, "document.querySelectorAll('#spoken .heard').length > 0")
    assert page.locator("#spoken .heard").count() < 10  # sixty words are not hurried through one second
    assert page.locator("#recent li").count() == 0


def test_a_line_that_was_cut_is_no_riddle(page: Page) -> None:
    page.route("**/generate", lambda route: route.fulfill(body='{"index": 0, "audio'))
    write(page, seed=None)
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator("#problem", has_text="The connection broke off").wait_for()


def test_a_voice_deleted_in_another_tab_is_told_at_its_speaker(page: Page, server: Running) -> None:
    passing = add_voice(server, "passing")
    page.reload()
    page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").click()
    speakers = page.get_by_role("group", name="Speakers")
    speakers.get_by_role("button", name="Ben").click()
    card(page, "Passing").check()
    speakers.get_by_role("button", name="Alice").click()
    requests.delete(passing, timeout=PATIENCE).raise_for_status()
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator("#voice-note", has_text="has no voice passing any more").wait_for()
    assert speakers.get_by_role("button", name="Ben").get_attribute("aria-pressed") == "true"
    assert card(page, "The model chooses").is_checked()
    assert card(page, "Passing").count() == 0
    assert request_of(page)["speakers"]["Ben"] == {"voice": "default"}
    speak(page)


def test_a_card_of_a_deleted_voice_goes_when_it_is_used(page: Page, server: Running) -> None:
    first, second = add_voice(server, "first"), add_voice(server, "second")
    page.reload()
    page.get_by_role("button", name="Play a sample of First").wait_for()
    requests.delete(first, timeout=PATIENCE).raise_for_status()
    page.get_by_role("button", name="Play a sample of First").click()
    page.locator("#voice-note", has_text="This server has no voice First any more.").wait_for()
    card(page, "First").wait_for(state="detached")
    requests.delete(second, timeout=PATIENCE).raise_for_status()
    page.get_by_role("button", name="Delete Second").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.locator("#voice-note", has_text="Second is deleted.").wait_for()
    assert card(page, "Second").count() == 0


def test_a_tab_that_is_looked_at_again_knows_new_voices(page: Page, server: Running) -> None:
    add_voice(server, "newcomer")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    card(page, "Newcomer").wait_for()


def test_a_draft_of_another_shape_is_left_out(page: Page) -> None:
    draft = {"text": {"mode": "turns", "turns": [None]}, "voices": {}}
    page.evaluate(
        f"addEventListener('pagehide', () => localStorage.setItem('higgs-audio-draft', '{json.dumps(draft)}'))"
    )
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    write(page, WORDS, seed=None)
    assert request_of(page) == {"script": WORDS}
