"""Phones, dark mode, contrast and names for screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests

from higgs_core.built_in import DEMO, BuiltIn
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.serverless.http.playground.steps import open_advanced, speak, until, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AA = 4.5
# The ratio of WCAG 2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio. Backgrounds here are opaque or fully clear, but
# for gradients, which are passed over.
LOW_CONTRAST = """
(least) => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const channel = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const off = element.closest(":disabled, [aria-disabled=true]"); // WCAG asks nothing of what cannot be used
    if (!(words || element.placeholder) || off || !element.checkVisibility()) continue;
    const style = getComputedStyle(element, element.placeholder && !element.value ? "::placeholder" : null);
    const [one, other] = [luminance(rgb(style.color)), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    const about = `${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 30)}`;
    if (ratio < least) low.push(`${about}: ${ratio.toFixed(2)}`);
  }
  return low;
}
"""

SMALL = """
() => [...document.querySelectorAll("button, select, summary, .button, input, label.check")]
  .filter((e) => e.checkVisibility() && !["checkbox", "radio"].includes(e.type)) // their labels are pressed
  .filter((e) => e.getBoundingClientRect().height < 44)
  .map((e) => `${e.outerHTML.slice(0, 90)}: ${e.getBoundingClientRect().height}`)
"""


@contextmanager
def phone(browser: Browser, server: Running, width: int = 390, height: int = 844) -> Iterator[Page]:
    """The playground, ready, on a phone of that many CSS pixels."""
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{server.url}/")
    page.get_by_text("Ready · tiny").wait_for()
    yield page
    context.close()


@pytest.mark.parametrize("built_in", [DEMO, None])
def test_a_phone_shows_everything_in_one_column(
    browser: Browser, server: Running, monkeypatch: pytest.MonkeyPatch, built_in: BuiltIn | None
) -> None:
    monkeypatch.setattr(SpeechService, "built_in", built_in)
    with phone(browser, server, 360, 740) as page:
        speak_button = page.get_by_role("button", name="Speak", exact=True).bounding_box()
        assert speak_button is not None
        assert speak_button["y"] + speak_button["height"] <= 740  # in reach without scrolling
        page.get_by_role("button", name="Greeting").tap()
        page.get_by_role("button", name="Speak", exact=True).tap()
        page.locator("#phase", has_text="Finished").wait_for()
        open_advanced(page)
        page.get_by_role("button", name="Conversation").first.tap()
        page.get_by_role("button", name="Compare with another seed").tap()
        page.get_by_role("button", name="Keep A").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_stop_is_in_reach_on_a_phone_while_the_result_is_looked_at(browser: Browser, server: Running) -> None:
    with phone(browser, server) as page:
        write(page, "Many words, said one after the other. " * 400)
        page.get_by_role("button", name="Speak", exact=True).tap()
        page.locator("#phase", has_text="so far").wait_for()
        for shown in (page.locator("#wave"), page.get_by_role("button", name="Stop", exact=True)):
            box = shown.bounding_box()
            assert box is not None
            assert 0 <= box["y"] <= 844 - box["height"]
        page.get_by_role("button", name="Stop", exact=True).tap()
        page.locator("#phase", has_text="Stopped").wait_for()


def test_what_a_finger_presses_is_at_least_44_pixels_tall(browser: Browser, server: Running) -> None:
    with phone(browser, server) as page:
        page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").tap()
        speak(page)
        open_advanced(page)
        small = page.evaluate(SMALL)
        page.get_by_role("button", name="Describe a voice").tap()
        assert small + page.evaluate(SMALL) == []


def test_an_error_on_a_phone_is_scrolled_into_view(browser: Browser, server: Running) -> None:
    with phone(browser, server) as page:
        write(page)
        page.get_by_label("Longest piece, seconds", exact=True).fill("100000")
        page.locator("#advanced").evaluate("details => { details.open = false; scrollTo(0, 0); }")
        page.get_by_role("button", name="Speak", exact=True).tap()
        said = page.locator(".wrong")
        said.wait_for()
        box = said.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < page.evaluate("document.getElementById('generate').getBoundingClientRect().top")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_words_can_be_read(page: Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").click()
    page.get_by_role("button", name="Add a turn").click()
    page.get_by_role("button", name="Whisper").click()
    speak(page)
    until(page, "document.querySelectorAll('#spoken .now').length === 1")
    open_advanced(page)
    page.get_by_label("Longest piece, seconds", exact=True).fill("-1")
    page.get_by_role("textbox", name="Turn 4, Ben").fill("And what else?")
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator(".wrong").wait_for()
    assert page.evaluate(LOW_CONTRAST, AA) == []
    page.get_by_role("button", name="Describe a voice").click()
    assert page.evaluate(LOW_CONTRAST, AA) == []


def test_the_theme_is_switched_and_kept(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Switch between dark and light").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    assert page.evaluate(paper) == dark


def test_every_control_has_a_name(page: Page, server: Running) -> None:
    body = {"name": "newcomer", "description": "feminine, warm"}
    requests.post(f"{server.url}/v1/audio/voices", json=body, timeout=PATIENCE)
    page.reload()
    page.get_by_text("Ready · tiny").wait_for()
    open_advanced(page)
    page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").click()
    page.get_by_role("button", name="Describe a voice").click()
    nameless = nameless_controls(page)
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert nameless + nameless_controls(page) == []


def nameless_controls(page: Page) -> list[Any]:
    found = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), select, textarea, a, [role=slider]")]
        .filter(e => e.checkVisibility())
        .filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim() || e.title))
        .map(e => e.outerHTML)"""
    )
    return list(found)
