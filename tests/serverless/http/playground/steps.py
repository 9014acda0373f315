"""What a person does on the page, for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers.patience import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WORDS = "Hello from the playground."
LASTING = "Only keys, but enough of them for the sound to last a while."
"""With seed 1 it lasts 11 seconds."""


def text_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Text", exact=True)


def open_advanced(page: Page) -> None:
    page.locator("#advanced").evaluate("details => { details.open = true; }")


def write(page: Page, text: str = WORDS, seed: int | None = 7) -> None:
    text_box(page).fill(text)
    if seed is not None:
        open_advanced(page)
        page.get_by_label("Seed", exact=True).fill(str(seed))


def speak(page: Page) -> None:
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator("#phase", has_text="Finished").wait_for()


def card(page: Page, name: str) -> Locator:
    """The card of a voice; it is checked to choose the voice."""
    return page.locator("#gallery").get_by_role("radio", name=name)


def until(page: Page, holds: str) -> None:
    """Wait for a JavaScript expression. The page's policy forbids the evaluation that the driver's own wait uses."""
    wait_until(lambda: bool(page.evaluate(holds)))


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


def copied(page: Page) -> str:
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_role("button", name="Copied").wait_for()
    return str(page.evaluate("navigator.clipboard.readText()"))
