"""The server as the page sees it: its key, its absence, its return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import requests
from pydantic import SecretStr

from higgs_core.built_in import DEMO, BuiltIn
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import speak, text_box, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

KEY = "correct horse battery staple"


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with serving_http(Settings(model_id="tiny", device="cpu", api_key=SecretStr(KEY))) as running:
        yield running


def test_a_locked_server_asks_for_its_key_once_and_enter_saves_it(browser: Browser, locked: Running) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{locked.url}/")
    dialog = page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Key", exact=True).fill("wrong")
    dialog.get_by_role("button", name="Use this key").click()
    dialog.get_by_text("is wrong").wait_for()
    dialog.get_by_label("Key", exact=True).fill(KEY)
    dialog.get_by_label("Key", exact=True).press("Enter")
    page.get_by_text("Ready · tiny").wait_for()
    write(page)
    speak(page)
    for name in ("curl", "Python", "OpenAI"):
        page.get_by_role("tab", name=name).click()
        assert "HIGGS_AUDIO_API_KEY" in page.locator("#code").inner_text()
    assert KEY not in page.content()
    assert page.evaluate("document.getElementById('key').value") == ""
    kept = "JSON.stringify([{...localStorage}, [...document.querySelectorAll('input')].map(e => e.value)])"
    assert KEY not in page.evaluate(kept)
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    assert not dialog.is_visible()
    context.close()


def test_cancelling_the_key_changes_nothing(page: Page) -> None:
    page.get_by_role("button", name="API key").click()
    dialog = page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Key", exact=True).fill("never used")
    dialog.get_by_role("button", name="Cancel").click()
    assert page.evaluate("sessionStorage.length") == 0


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


def test_a_server_that_goes_away_is_told_and_its_return_noticed(page: Page, server: Running) -> None:
    write(page, seed=None)
    button = page.get_by_role("button", name="Speak", exact=True)

    def gone(route: Route) -> None:
        route.fulfill(status=204)

    page.route("**/ping", gone)
    page.evaluate("dispatchEvent(new Event('online'))")  # asks at once
    page.get_by_text("The model is still loading").wait_for()
    assert button.is_disabled()
    assert button.get_attribute("aria-describedby") == "speak-reason"
    text_box(page).press("Control+Enter")
    assert page.locator("#phase").inner_text() == ""

    body = {"name": "newcomer", "description": "feminine, warm"}
    requests.post(f"{server.url}/v1/audio/voices", json=body, timeout=PATIENCE)
    page.unroute("**/ping", gone)
    page.get_by_text("Ready · tiny").wait_for()
    page.locator("#gallery").get_by_role("radio", name="Newcomer").wait_for()  # it may be another server now
    assert button.is_enabled()
    assert text_box(page).input_value() != ""
    speak(page)


def test_offline_is_said_and_ends_by_itself(browser: Browser, server: Running) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server.url}/")
    page.get_by_text("Ready · tiny").wait_for()
    context.set_offline(True)
    page.get_by_text("This device is offline").wait_for()
    page.get_by_text("The server does not answer").first.wait_for()
    assert page.get_by_role("button", name="Speak", exact=True).is_disabled()
    context.set_offline(False)
    page.get_by_text("Ready · tiny").wait_for()
    assert page.get_by_role("button", name="Speak", exact=True).is_enabled()
    context.close()


def test_a_connection_that_breaks_off_is_told_in_words(browser: Browser, server: Running) -> None:
    page = browser.new_page()
    page.route("**/generate", lambda route: route.abort())
    page.goto(f"{server.url}/")
    page.get_by_text("Ready · tiny").wait_for()
    write(page, seed=None)
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator("#problem", has_text="The server does not answer.").wait_for()
    page.close()
