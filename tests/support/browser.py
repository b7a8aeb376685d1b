"""A browser for the tests of pages: the machine's own Chromium, where there is one."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest


def chromium() -> Iterator[Any]:
    """A browser of Playwright's, closed in the end; the test is skipped where it cannot be had.

    For a fixture: `yield from chromium()`, of a module at most, since an event loop runs until it is closed.
    """
    library = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed")
    with library.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def complaints(page: Any) -> list[str]:
    """What the page goes on to complain of: errors on its console and in its code, and all that it loads from afar."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    local = ("http://127.0.0.1:", "data:", "file:", "about:")
    page.on("request", lambda request: None if request.url.startswith(local) else found.append(request.url))
    return found
