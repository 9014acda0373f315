"""What is written: text, turns, scene, settings; errors at their place; the draft."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import requests

from serverless.payload.presets import PRESETS
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import WORDS, card, open_advanced, request_of, speak, text_box, until, write

if TYPE_CHECKING:
    from playwright.sync_api import Page


def focused(page: Page) -> Any:
    return page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.id")


def reload(page: Page) -> None:
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()


def test_only_what_was_changed_is_sent(page: Page) -> None:
    write(page, seed=None)
    assert request_of(page) == {"script": WORDS}
    open_advanced(page)
    page.get_by_label("How lively", exact=True).fill("0")
    page.get_by_label("Seed", exact=True).fill(str(2**62 + 1))
    page.get_by_label("Scene", exact=True).fill("By the sea.")
    told = {"script": WORDS, "scene_prompt": "By the sea."}
    assert request_of(page) == told | {"temperature": 0, "seed": str(2**62 + 1)}
    page.get_by_role("button", name="Back to the defaults").click()
    assert request_of(page) == told
    page.get_by_label("Longest piece, seconds", exact=True).fill(
        "104"
    )  # not the same as saying nothing, which follows the text
    page.get_by_label(re.compile("^Speed")).fill("1.25")
    assert request_of(page) == told | {"max_new_tokens": 2600, "speed": 1.25}


def test_a_kind_of_sound_sets_what_nobody_has_set(page: Page) -> None:
    write(page, seed=None)
    open_advanced(page)
    lively, kind = page.get_by_label("How lively", exact=True), page.get_by_label("Kind of sound", exact=True)
    page.get_by_label("Sounds to choose from", exact=True).fill("20")
    kind.select_option("music")
    assert lively.input_value() == "1"
    assert request_of(page) == {"script": WORDS, "preset": "music", "top_k": 20}
    lively.fill("0.8")
    kind.select_option("speech")
    assert request_of(page) == {"script": WORDS, "temperature": 0.8, "top_k": 20}
    page.get_by_label("Pieces of a long text", exact=True).select_option("true")
    page.get_by_label("Numbers and units", exact=True).select_option("de")
    page.get_by_label("Loudness", exact=True).select_option("-16")
    told = {"chunk_parallel": True, "normalize_numbers": "de", "loudness": -16}
    assert request_of(page) == {"script": WORDS, "temperature": 0.8, "top_k": 20} | told
    speak(page)
    assert not page.locator("#warnings", has_text="ignored").count()


def test_the_page_knows_the_presets_of_the_server(page: Page) -> None:
    shown = page.evaluate("import('./playground/form/presets.js').then(({ PRESETS }) => PRESETS)")
    assert shown == {name: dict(fields) for name, fields in PRESETS.items()}
    assert page.locator("#preset option").evaluate_all("all => all.map(one => one.value)") == list(PRESETS)


def test_a_style_fills_the_scene_and_a_second_press_empties_it(page: Page) -> None:
    whisper = page.get_by_role("button", name="Whisper")
    whisper.click()
    assert "whispers" in request_of(page)["scene_prompt"]
    assert whisper.get_attribute("aria-pressed") == "true"
    page.get_by_label("Scene", exact=True).fill("By the sea.")
    assert whisper.get_attribute("aria-pressed") == "false"
    page.get_by_role("button", name="Radio host").click()
    page.get_by_role("button", name="Radio host").click()
    assert "scene_prompt" not in request_of(page)


def test_a_pause_goes_in_at_the_caret_and_its_number_can_be_typed_over(page: Page) -> None:
    text_box(page).fill("One two")
    text_box(page).evaluate("area => area.setSelectionRange(3, 3)")
    page.get_by_role("button", name="Insert a pause").click()
    page.keyboard.type("2.5")
    assert text_box(page).input_value() == "One [pause 2.5s] two"
    assert page.locator("#script-count").inner_text().startswith("2 words")


def test_a_conversation_is_written_in_turns_by_keys_alone(page: Page) -> None:
    page.get_by_role("button", name="Conversation").first.focus()
    page.keyboard.press("Enter")
    assert focused(page) == "Turn 1, Alice"
    page.keyboard.type("Good morning.")
    page.keyboard.press("Enter")
    assert focused(page) == "Turn 2, Ben"
    page.keyboard.type("Is it?")
    page.keyboard.press("Enter")
    assert focused(page) == "Turn 3, Alice"
    page.keyboard.type("It was.")
    script = "[Alice] Good morning.\n[Ben] Is it?\n[Alice] It was."
    everyone = {name: {"voice": "default"} for name in ("Alice", "Ben")}
    assert request_of(page) == {"script": script, "speakers": everyone}

    page.get_by_role("textbox", name="Turn 3, Alice").focus()
    page.keyboard.press("Alt+ArrowUp")
    assert focused(page) == "Turn 2, Alice"
    assert request_of(page)["script"] == "[Alice] Good morning.\n[Alice] It was.\n[Ben] Is it?"
    page.get_by_role("button", name="Remove turn 2").click()
    assert request_of(page)["script"] == "[Alice] Good morning.\n[Ben] Is it?"
    page.get_by_role("button", name="Move up turn 2").press("Enter")
    assert request_of(page)["script"] == "[Ben] Is it?\n[Alice] Good morning."
    colours = page.locator(".turn").evaluate_all("turns => turns.map(turn => getComputedStyle(turn).borderLeftColor)")
    assert len(set(colours)) == 2
    speak(page)


def test_plain_text_and_turns_are_the_same_script(page: Page) -> None:
    write(page, "[SPEAKER0] Good morning.\n[SPEAKER1] Is it? [laugh]", seed=None)
    page.get_by_role("button", name="Conversation").first.click()
    assert page.get_by_role("textbox", name="Turn 2, SPEAKER1").input_value() == "Is it? [laugh]"
    name = page.get_by_role("combobox", name="Speaker of turn 2")
    name.fill("Ben")
    name.press("Tab")
    page.get_by_role("button", name="Plain text").click()
    assert text_box(page).input_value() == "[SPEAKER0] Good morning.\n[Ben] Is it? [laugh]"


def test_a_renamed_speaker_keeps_the_voice(page: Page) -> None:
    page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").click()
    page.get_by_role("group", name="Speakers").get_by_role("button", name="Ben").click()
    card(page, "Belinda").check()
    assert request_of(page)["speakers"]["Ben"] == {"voice": "belinda"}
    name = page.get_by_role("combobox", name="Speaker of turn 2")
    name.fill("Benjamin")
    name.press("Tab")
    assert request_of(page)["speakers"] == {"Alice": {"voice": "default"}, "Benjamin": {"voice": "belinda"}}


def test_a_wrong_value_is_told_at_its_control_before_it_is_sent(page: Page) -> None:
    write(page)
    page.get_by_label("Longest piece, seconds", exact=True).fill("-5")
    page.get_by_role("button", name="Speak", exact=True).click()
    field = page.get_by_label("Longest piece, seconds", exact=True)
    said = page.get_by_role("alert").filter(has_text="Longest piece must be at least 0.4 seconds.")
    said.wait_for()
    assert field.get_attribute("aria-invalid") == "true"
    assert str(said.get_attribute("id")) in str(field.get_attribute("aria-describedby"))
    assert focused(page) == "longest_piece"
    field.fill("50")
    assert said.count() == 0
    assert field.get_attribute("aria-describedby") == "longest_piece-help"


def test_what_the_server_refuses_is_told_at_its_control_in_the_labels_words(page: Page) -> None:
    write(page)
    page.get_by_label("Longest piece, seconds", exact=True).fill("100000")
    page.get_by_role("button", name="Speak", exact=True).click()
    said = page.locator(".wrong", has_text="Longest piece is 100000")
    said.wait_for()
    assert "max_new_tokens" not in said.inner_text()
    assert "allowed is a number of seconds, 0.04 to" in said.inner_text()
    assert focused(page) == "longest_piece"
    assert not page.locator("#problem").is_visible()


def test_a_warning_is_told_in_the_words_of_the_page(page: Page) -> None:
    write(page, "[Alice] Good morning.\n[Ben] Is it?")
    page.get_by_label("Pieces of a long text", exact=True).select_option("true")
    speak(page)
    warning = page.locator("#warnings li", has_text="“Pieces of a long text” was not used")
    assert "the voice of Alice, Ben," in warning.inner_text()


def test_empty_text_is_asked_for_at_the_text(page: Page) -> None:
    page.get_by_role("button", name="Speak", exact=True).click()
    page.get_by_role("alert").get_by_text("Write the text").wait_for()
    assert focused(page) == "script"


def test_the_draft_outlives_a_reload(page: Page) -> None:
    write(page, "A draft.", seed=11)
    page.get_by_label("Scene", exact=True).fill("By the sea.")
    card(page, "Belinda").check()
    told = {"script": "A draft.", "scene_prompt": "By the sea.", "voice": "belinda", "seed": 11}
    assert request_of(page) == told
    reload(page)
    assert request_of(page) == told
    page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").click()
    reload(page)
    assert page.get_by_role("textbox", name="Turn 3, Alice").input_value() == "It nearly did!"


def test_a_draft_that_cannot_be_read_is_left_out(page: Page) -> None:
    page.evaluate("addEventListener('pagehide', () => localStorage.setItem('higgs-audio-draft', '{broken'))")
    reload(page)
    assert request_of(page) == {"script": ""}


def test_a_voice_that_is_gone_leaves_the_draft(page: Page, server: Running) -> None:
    voices = f"{server.url}/v1/audio/voices"
    requests.post(voices, json={"name": "passing", "description": "feminine, warm"}, timeout=PATIENCE)
    reload(page)
    write(page, seed=None)
    card(page, "Passing").check()
    until(page, "localStorage.getItem('higgs-audio-draft')?.includes('passing')")
    requests.delete(f"{voices}/passing", timeout=PATIENCE)
    reload(page)
    page.get_by_text("has no voice passing any more").wait_for()
    assert request_of(page) == {"script": WORDS}
