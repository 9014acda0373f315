"""Voices: cards that are heard and chosen, clips, saving and deleting."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import soundfile

from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import LASTING, WORDS, card, copied, request_of, speak, until, write

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

KEPT_CLIPS = """new Promise((resolve) => {
  indexedDB.open("higgs-audio-playground").onsuccess = ({ target: { result: database } }) => {
    const count = database.transaction("clips").objectStore("clips").count();
    count.onsuccess = () => { database.close(); resolve(count.result); };
  };
})"""


def told_of(server: Running, voice: str) -> dict[str, Any]:
    """The server's facts about a voice."""
    answer = requests.get(f"{server.url}/v1/audio/voices/{voice}", timeout=PATIENCE)
    assert answer.status_code == 200
    return dict(answer.json())


def dialog(page: Page, name: str) -> Locator:
    return page.get_by_role("dialog", name=name)


def test_a_card_says_who_speaks_and_is_heard_and_chosen(page: Page) -> None:
    write(page, seed=None)
    page.get_by_role("button", name="All 15 choices").click()
    belinda = page.locator(".voice[data-id=belinda]")
    assert "of this server" in belinda.inner_text()
    assert "confident and energetic" in page.locator(".voice[data-id=nova]").inner_text()
    belinda.get_by_role("button", name="Play a sample of Belinda").click()
    belinda.get_by_role("button", name="Stop the sample of Belinda").wait_for()
    belinda.get_by_role("button", name="Play a sample of Belinda").wait_for()  # when it has ended
    until(page, "window.urls.size === 0")
    card(page, "Nova").check()
    assert request_of(page) == {"script": WORDS, "voice": "nova"}
    card(page, "Nova").press("ArrowUp")  # a group of radio buttons
    assert request_of(page)["voice"] != "nova"
    page.get_by_role("button", name="Fewer voices").click()
    assert page.locator("#gallery .voice").count() == 6
    assert page.locator("#gallery input:checked").count() == 1


def test_two_samples_are_never_heard_at_once(page: Page) -> None:
    page.get_by_role("button", name="Play a sample of Belinda").click()
    page.get_by_role("button", name="Stop the sample of Belinda").wait_for()
    page.get_by_role("button", name="Play a sample of Alloy").click()
    page.get_by_role("button", name="Stop the sample of Alloy").wait_for()
    assert page.get_by_role("button", name=re.compile("^Stop the sample")).count() == 1
    page.get_by_role("button", name="Stop the sample of Alloy").click()
    until(page, "window.urls.size === 0")


def test_each_speaker_of_a_conversation_gets_a_voice(page: Page) -> None:
    write(page, "[SPEAKER0] Good morning.\n[SPEAKER1] Is it?")
    cast = page.get_by_role("group", name="Speakers")
    cast.get_by_role("button", name="Speaker 1").click()
    page.get_by_role("radiogroup", name="Voice of Speaker 1").wait_for()
    card(page, "Belinda").check()
    assert request_of(page)["speakers"] == {"SPEAKER1": {"voice": "belinda"}}
    assert "Belinda" in cast.get_by_role("button", name="Speaker 1").inner_text()
    speak(page)
    write(page, "No speakers any more.")
    assert not cast.is_visible()
    assert "speakers" not in request_of(page)


def test_an_uploaded_clip_is_sent_as_24_khz_mono_in_a_job_that_the_server_takes(
    page: Page, server: Running, clip: Path
) -> None:
    write(page)
    page.locator("input[type=file]").set_input_files(clip)
    page.get_by_label("Words spoken in the clip").fill("Two tones.")
    assert card(page, "Your clip").is_checked()
    assert request_of(page)["references"][0]["audio_base64"].endswith("kB)")
    job = json.loads(copied(page))["input"]
    reference = job["references"][0]
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(reference["audio_base64"])))
    assert (rate, audio.ndim, reference["transcript"]) == (24_000, 1, "Two tones.")
    assert len(audio) == pytest.approx(96_000, abs=300)
    assert server.generate(job | {"max_new_tokens": 20}).status_code == 200
    speak(page)
    page.get_by_role("button", name="Remove", exact=True).click()
    assert "references" not in request_of(page)


def test_a_clip_is_kept_with_the_draft_and_another_voice_does_not_lose_it(page: Page, clip: Path) -> None:
    write(page)
    page.locator("input[type=file]").set_input_files(clip)
    page.get_by_label("Words spoken in the clip").fill("Two tones.")
    page.get_by_text("Kept in this browser").wait_for()
    card(page, "Belinda").check()
    card(page, "Your clip").check()
    before = request_of(page)
    until(page, KEPT_CLIPS)
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    assert request_of(page) == before
    assert page.get_by_label("Words spoken in the clip").input_value() == "Two tones."


def test_a_file_that_is_no_audio_is_told_so(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("These are words, not sound.")
    page.locator("input[type=file]").set_input_files(text)
    page.get_by_text("cannot read that file as audio").wait_for()


def test_the_microphone_gives_a_clip(page: Page) -> None:
    write(page)
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name=re.compile("Stop, 1 s")).click()
    page.get_by_role("button", name="Remove", exact=True).wait_for()
    assert request_of(page)["references"][0]["audio_base64"]
    speak(page)


def test_a_clip_is_saved_as_a_voice_with_consent_only(page: Page, server: Running, clip: Path) -> None:
    write(page, seed=None)
    page.locator("input[type=file]").set_input_files(clip)
    page.get_by_label("Words spoken in the clip").fill("Two tones.")
    page.locator("#clip").get_by_role("button", name="Save this voice").click()
    saving = dialog(page, "Save this voice")
    saving.get_by_label("Name", exact=True).fill("my sister")
    saving.get_by_role("button", name="Save this voice").click()
    saving.get_by_text("only with the agreement").wait_for()
    assert card(page, "My sister").count() == 0
    saving.get_by_role("checkbox").check()
    saving.get_by_role("button", name="Save this voice").click()
    page.locator("#voice-note", has_text="is saved.").wait_for()
    told = told_of(server, "my_sister")
    assert (told["source"], told["transcript"]) == ("uploaded", "Two tones.")
    assert request_of(page) == {"script": WORDS, "voice": "my_sister"}
    speak(page)


def test_the_voice_of_a_result_is_saved_from_its_codes(page: Page, server: Running) -> None:
    write(page, LASTING, seed=1)
    speak(page)
    page.locator("#save-result").click()
    saving = dialog(page, "Save this voice")
    assert saving.get_by_label("Words spoken in it").input_value() == LASTING
    assert not saving.get_by_role("checkbox").is_visible()
    saving.get_by_label("Name", exact=True).fill("mine")
    saving.get_by_label("Name", exact=True).press("Enter")
    page.locator("#voice-note", has_text="is saved.").wait_for()
    told = told_of(server, "mine")
    assert (told["source"], told["transcript"], told["ready"]) == ("saved", LASTING, True)
    assert request_of(page)["voice"] == "mine"


def test_a_voice_is_made_from_a_description(page: Page, server: Running) -> None:
    page.get_by_role("button", name="Describe a voice").click()
    making = dialog(page, "Describe a voice")
    name, make = making.get_by_label("Name", exact=True), making.get_by_role("button", name="Make this voice")
    name.fill("nova")
    make.click()
    making.get_by_text("Say in a few words").wait_for()
    making.get_by_label(re.compile("^Description")).fill("feminine, warm, Scottish")
    making.get_by_label(re.compile("^Seed")).fill("3")
    make.click()
    making.get_by_text("There is a voice nova already.").wait_for()  # at the name
    assert name.get_attribute("aria-invalid") == "true"
    name.fill("moira")
    make.click()
    page.locator("#voice-note", has_text="is saved.").wait_for()
    told = told_of(server, "moira")
    assert (told["source"], told["description"]) == ("designed", "feminine, warm, Scottish")
    assert page.locator(".voice[data-id=moira] input").is_checked()


def test_deleting_asks_first_and_takes_the_choice_away(page: Page, server: Running) -> None:
    voices = f"{server.url}/v1/audio/voices"
    requests.post(voices, json={"name": "moira", "description": "feminine, warm"}, timeout=PATIENCE)
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    moira = page.locator(".voice[data-id=moira]")
    moira.get_by_role("radio").check()
    assert page.get_by_role("button", name="Delete Alloy").count() == 0
    moira.get_by_role("button", name="Delete Moira").click()
    dialog(page, "Delete Moira?").get_by_role("button", name="Keep it").click()
    assert moira.get_by_role("radio").is_checked()
    moira.get_by_role("button", name="Delete Moira").click()
    dialog(page, "Delete Moira?").get_by_role("button", name="Delete").click()
    page.get_by_text("Moira is deleted").wait_for()
    assert moira.count() == 0
    assert card(page, "The model chooses").is_checked()
    assert requests.get(f"{voices}/moira", timeout=PATIENCE).status_code == 404
