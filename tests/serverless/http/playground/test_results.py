"""Results: words that light up, two readings compared, the list of the last ones."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.serverless.http.playground.steps import LASTING, WORDS, card, request_of, speak, until, write

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

HEARD = "document.querySelectorAll('#spoken .heard').length"
SECOND_OF_PCM = base64.b64encode(bytes(48_000)).decode()


def paused(page: Page) -> None:
    """Silence, whether the sound has ended meanwhile or not."""
    page.evaluate("() => { const { play } = window; if (play.ariaLabel === 'Pause') play.click(); }")
    page.get_by_role("button", name="Play", exact=True).wait_for()


def test_words_light_up_as_far_as_they_are_heard_and_follow_seeking(page: Page) -> None:
    write(page, LASTING, seed=1)
    speak(page)
    words = page.locator("#spoken .word")
    assert words.all_inner_texts() == LASTING.split()
    until(page, f"{HEARD} > 0")
    paused(page)
    position = page.get_by_role("slider", name="Playback position")
    position.press("End")
    until(page, f"{HEARD} === {len(LASTING.split())}")
    position.press("Home")
    until(page, f"{HEARD} === 0")
    page.locator("#spoken .word", has_text="while").click()  # a word leads to its sound
    until(page, f"{HEARD} >= {len(LASTING.split()) - 1}")


def test_pieces_of_a_stream_have_their_own_times(page: Page) -> None:
    def answer(route: Route) -> None:
        items: list[dict[str, Any]] = [
            {"index": 0, "start_seconds": 0.0, "text": "[Alice] One two.", "audio_base64": SECOND_OF_PCM},
            {"index": 1, "start_seconds": 1.0, "audio_base64": SECOND_OF_PCM},
            {"index": 2, "start_seconds": 2.0, "text": "[Ben] Three.", "audio_base64": SECOND_OF_PCM},
            {"is_final": True, "duration_seconds": 3.0, "sampling_rate": 24_000, "seed": 5},
        ]
        route.fulfill(body="\n".join(map(json.dumps, items)), content_type="application/x-ndjson")

    page.route("**/generate", answer)
    write(page, "[Alice] One two.\n[Ben] Three. Four is still to come.", seed=None)
    speak(page)
    assert page.locator("#spoken p").all_inner_texts() == ["Alice One two.", "Ben Three. Four is still to come."]
    assert page.locator("#spoken .later").inner_text() == "Four is still to come."
    paused(page)
    position = page.get_by_role("slider", name="Playback position")
    position.press("Home")
    for _ in range(2):
        position.press("ArrowRight")
    until(page, f"{HEARD} === 2")  # the second piece begins at 2 s
    position.press("ArrowRight")
    until(page, f"{HEARD} === 3")


def test_a_piece_that_goes_on_with_a_turn_and_one_with_several_turns(page: Page) -> None:
    def answer(route: Route) -> None:
        items: list[dict[str, Any]] = [
            {"index": 0, "start_seconds": 0.0, "text": "[Alice] One, [laugh]", "audio_base64": SECOND_OF_PCM},
            {
                "index": 1,
                "start_seconds": 1.0,
                "text": "two. [Ben] Three. [Alice] Four.",
                "audio_base64": SECOND_OF_PCM,
            },
            {"is_final": True, "duration_seconds": 2.0, "sampling_rate": 24_000, "seed": 5},
        ]
        route.fulfill(body="\n".join(map(json.dumps, items)), content_type="application/x-ndjson")

    page.route("**/generate", answer)
    write(page, "[Alice] One, [laugh] two. [Ben] Three. [Alice] Four.\n[Ben] Five.", seed=None)
    speak(page)
    shown = ["Alice One, [laugh] two.", "Ben Three.", "Alice Four.", "Ben Five."]
    assert page.locator("#spoken p").all_inner_texts() == shown
    assert page.locator("#spoken .later").inner_text() == "Five."


@pytest.mark.parametrize(
    ("script", "piece", "shown", "later"),
    [
        (
            "[Alice] It costs $5. [pause 1s] Really? [laugh]\n[Ben] Yes, on 3 May.",
            "[Alice] It costs five dollars.",
            ["Alice It costs five dollars. Really? [laugh]", "Ben Yes, on 3 May."],
            ["Really? [laugh]", "Yes, on 3 May."],
        ),
        (
            "Ha! [laugh] “Why?” she asked.",
            "Ha! <SE>[Laughter]</SE>",
            ["Ha! [Laughter] “Why?” she asked."],
            ["“Why?” she asked."],
        ),
        ("你好。今天很好。", "你好。", ["你好。 今天很好。"], ["今天很好。"]),
    ],
)
def test_what_is_still_to_come_stands_behind_words_that_are_read_otherwise(
    page: Page, script: str, piece: str, shown: list[str], later: list[str]
) -> None:
    items: list[dict[str, Any]] = [
        {"index": 0, "start_seconds": 0.0, "text": piece, "audio_base64": SECOND_OF_PCM},
        {"is_final": True, "duration_seconds": 1.0, "sampling_rate": 24_000, "seed": 5},
    ]
    body = "\n".join(map(json.dumps, items))
    page.route("**/generate", lambda route: route.fulfill(body=body, content_type="application/x-ndjson"))
    write(page, script, seed=None)
    speak(page)
    assert page.locator("#spoken p").all_inner_texts() == shown
    assert page.locator("#spoken .later").all_inner_texts() == later


def test_two_seeds_are_compared_at_the_same_position_and_one_is_kept(page: Page) -> None:
    write(page, LASTING, seed=1)
    speak(page)
    page.get_by_role("button", name="Compare with another seed").click()
    first = page.get_by_role("button", name=re.compile("^Listen to A"))
    second = page.get_by_role("button", name=re.compile("^Listen to B"))
    second.wait_for()
    assert (first.get_attribute("aria-pressed"), second.get_attribute("aria-pressed")) == ("false", "true")
    paused(page)
    position = page.get_by_role("slider", name="Playback position")
    position.press("Home")
    position.press("ArrowRight")
    until(page, "document.getElementById('wave').ariaValueNow !== '0.0'")
    now = position.get_attribute("aria-valuenow")
    first.click()
    page.locator("#facts").get_by_role("button", name="Keep seed 1 for").wait_for()
    until(page, f"document.getElementById('wave').ariaValueNow === '{now}'")
    assert first.get_attribute("aria-pressed") == "true"
    assert page.locator("#recent li").count() == 2
    page.get_by_role("button", name="Keep A").click()
    page.locator("#phase", has_text="Kept").wait_for()
    assert not page.locator("#compare").is_visible()
    assert page.locator("#recent li").count() == 1
    assert "seed 1 " in page.locator("#recent li").inner_text()


def test_recent_results_outlive_a_reload_and_are_used_again_whole(page: Page, clip: Path) -> None:
    page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").click()
    write_turn = page.get_by_role("textbox", name="Turn 1, Alice")
    write_turn.fill(WORDS)
    page.locator("input[type=file]").set_input_files(clip)
    page.get_by_label("Words spoken in the clip").fill("Two tones.")
    page.get_by_role("group", name="Speakers").get_by_role("button", name="Ben").click()
    card(page, "Belinda").check()
    page.locator("#advanced").evaluate("details => { details.open = true; }")
    page.get_by_label("Seed", exact=True).fill("7")
    asked = request_of(page)
    speak(page)
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    page.get_by_role("button", name="Plain text").click()
    write(page, "Something else.", seed=8)
    page.get_by_role("button", name=f"Play: [Alice] {WORDS}").click()
    until(page, "window.heard.peak > 0.01")
    page.get_by_role("button", name=f"Use again: [Alice] {WORDS}").click()
    assert request_of(page) == asked
    assert page.get_by_role("textbox", name="Turn 1, Alice").input_value() == WORDS
    page.get_by_role("button", name="Clear").click()
    page.locator("#recent-empty").wait_for()
    assert page.locator("#recent li").count() == 0


def test_no_object_url_outlives_what_it_was_for(page: Page) -> None:
    write(page)
    for _ in range(2):
        speak(page)
    assert page.evaluate("window.urls.size") == 1  # the download of the result that is shown
