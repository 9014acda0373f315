"""The page of the OpenAPI document in the real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_page_draws_the_document_within_its_policy(browser: Browser, server: Running) -> None:
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/docs")
    page.locator("#operations-OpenAI-post_v1_audio_speech .opblock-summary-control").click()
    page.get_by_text("It is a fine day.").first.wait_for()
    page.get_by_role("button", name="Authorize").wait_for()
    context.close()
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []
    assert complaints == []
