"""A browser without a window that opens pages from the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
# It asks nothing of any network, and runs where there is neither a screen nor a user of its own.
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]


@contextmanager
def open_browser() -> Iterator:
    """Playwright's browser; a test is skipped where Chromium or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def open_page(browser, path: Path, **options) -> Iterator:
    """A page of a file, whose console is to stay without errors and which is to ask for nothing beside it."""
    page, errors, requests = browser.new_page(**options), [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    asked = [url for url in requests if not url.startswith("data:")]
    assert errors == [] and asked == [path.as_uri()]
