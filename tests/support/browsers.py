"""What the tests of the pages share: a browser that is watched, and where pictures go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.browser import Browser

PICTURES = Path(__file__).resolve().parent.parent.parent / "screenshots"
WIDE, NARROW, SMALL = (1280, 900), (390, 844), (320, 568)


def watched(browser: Browser) -> Iterator[Browser]:
    """The browser as it begins, for one test; afterwards nothing must have gone wrong in it:
    no error in its console, no request to any host but this one."""
    browser.go("about:blank")
    browser.size(*WIDE)
    browser.dark(False)
    browser.forgiven.clear()
    browser.console_errors()
    browser.requests()
    yield browser
    # That an error page is an error is said by the browser in its console, too.
    expected = "Failed to load resource: the server responded with a status of"
    errors = [error for error in browser.console_errors() if expected not in error]
    assert not errors, errors
    hosts = {urlsplit(url).hostname for url in browser.requests() if not url.startswith("data:")}
    assert hosts - {None} <= {"127.0.0.1"}, hosts


def leave(browser: Browser) -> None:
    """Look at no server any more: for a test whose server ends before its browser does."""
    browser.go("about:blank")


def take_picture(browser: Browser, name: str) -> None:
    """A picture of the page as it stands, in light and dark, wide and narrow."""
    for shape, size in (("wide", WIDE), ("narrow", NARROW)):
        browser.size(*size)
        for dark in (False, True):
            browser.dark(dark)
            browser.screenshot(PICTURES / f"{name}-{shape}-{'dark' if dark else 'light'}.png")
    browser.size(*WIDE)
    browser.dark(False)
