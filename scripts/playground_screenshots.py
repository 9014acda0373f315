"""Renders the README's two pictures of the playground: the real page, served with the `demo` model.

    .venv/bin/python -m scripts.playground_screenshots

Needs chromium and the playwright package. It takes a minute, most of which `demo` needs to make its voices.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
PATIENCE_MS = 600_000
MAX_BYTES = 300_000
DESKTOP = {"width": 1280, "height": 1330}
PHONE = {"width": 390, "height": 844}
SEED = "4"
STORY = (
    "The lighthouse had been dark for eleven years when the lamp came on by itself. "
    "Nobody in the village said a word about it."
)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def served() -> Iterator[str]:
    """The address of a server of its own with `demo`, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {"HIGGS_AUDIO_MODEL_ID": "demo", "HIGGS_AUDIO_HOST": "127.0.0.1", "PORT": str(port)}
    command = [sys.executable, "-m", "serverless.http_server"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL) as server:
        try:
            while not answers(port):
                if server.poll() is not None:
                    raise SystemExit("The server has ended; its lines say why.")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def opened(browser: Browser, url: str, **options: object) -> Page:
    """The page, when its server is ready."""
    context = browser.new_context(reduced_motion="reduce", **options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(url, wait_until="load")
    page.get_by_text("Ready · demo").wait_for()
    page.locator("#advanced").evaluate("details => { details.open = true; }")
    page.get_by_label("Seed", exact=True).fill(SEED)
    page.locator("#advanced").evaluate("details => { details.open = false; }")
    return page


def spoken(page: Page, steps: int) -> None:
    """Speak, and show the result as it is heard so many seconds later."""
    page.get_by_role("button", name="Speak", exact=True).click()
    page.locator("#phase", has_text="Finished").wait_for()
    pause = page.get_by_role("button", name="Pause", exact=True)
    if pause.is_visible():
        pause.click()
    position = page.get_by_role("slider", name="Playback position")
    position.press("Home")
    for _ in range(steps):
        position.press("ArrowRight")
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)


def desktop(browser: Browser, url: str, file: Path) -> None:
    """A conversation of two voices."""
    page = opened(browser, url, viewport=DESKTOP)
    page.get_by_role("group", name="Examples").get_by_role("button", name="Conversation").click()
    for speaker, voice in (("Ben", "onyx"), ("Alice", "coral")):
        page.get_by_role("group", name="Speakers").get_by_role("button", name=speaker).click()
        page.locator("#more-voices").click()
        page.locator(f".voice[data-id={voice}] input").check()
        page.locator("#more-voices").click()
    spoken(page, steps=1)  # the voices are made while the first reading waits for them
    spoken(page, steps=3)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=file)


def phone(browser: Browser, url: str, file: Path) -> None:
    """A story on a phone, in the dark."""
    page = opened(
        browser, url, viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True, color_scheme="dark"
    )
    page.get_by_role("textbox", name="Text", exact=True).fill(STORY)
    page.get_by_role("button", name="Bedtime story").click()
    spoken(page, steps=4)
    page.locator("#listen").evaluate("card => scrollTo(0, card.getBoundingClientRect().top + scrollY - 14)")
    page.screenshot(path=file)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the pictures")
    folder: Path = parser.parse_args().out
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("chromium is not installed")
    with served() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, render in (("playground.png", desktop), ("playground-phone.png", phone)):
            render(browser, url, folder / name)
            if (size := (folder / name).stat().st_size) > MAX_BYTES:
                parser.error(f"{name} has {size} bytes; allowed are {MAX_BYTES}")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
