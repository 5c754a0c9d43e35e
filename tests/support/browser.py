"""A real Chromium, driven through chromedriver's own HTTP protocol (W3C WebDriver).

Only the standard library. Each `Browser` has a chromedriver and an empty profile of its own,
and ends both. A missing program is a failure that says what to install, never a skip.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_ARGUMENTS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--no-default-browser-check --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --disable-default-apps --disable-extensions "
    "--hide-scrollbars --force-color-profile=srgb --font-render-hinting=none"
).split()
_PORT = re.compile(r"started successfully on port (\d+)")


class BrowserError(AssertionError):
    """The browser could not do what the test asked for."""


def _program(*names: str) -> str:
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise BrowserError(
        f"The tests of the pages need {names[0]}; on Debian: "
        "apt-get install chromium chromium-driver"
    )


class Element:
    """One element of the page."""

    def __init__(self, browser: Browser, reference: str) -> None:
        self._browser = browser
        self.reference = reference

    def _call(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> Any:
        return self._browser.call(method, f"/element/{self.reference}{path}", body)

    def click(self) -> None:
        """Click its middle, as a person does: fails where something lies over it."""
        self._call("POST", "/click", {})

    def type(self, text: str) -> None:
        """Type into it, after what is there."""
        self._call("POST", "/value", {"text": text})

    def clear(self) -> None:
        """Empty a field."""
        self._call("POST", "/clear", {})

    @property
    def text(self) -> str:
        """The text that can be seen."""
        return str(self._call("GET", "/text"))

    def attribute(self, name: str) -> Optional[str]:
        """An attribute as the document has it; None if it is not there."""
        value = self._call("GET", f"/attribute/{name}")
        return None if value is None else str(value)

    def value(self, name: str = "value") -> Any:
        """A property, for example the `value` of a field."""
        return self._call("GET", f"/property/{name}")

    @property
    def rect(self) -> dict[str, float]:
        """x, y, width and height, in CSS pixels of the document."""
        result: dict[str, float] = self._call("GET", "/rect")
        return result


class Browser:
    """A browser with one window. Use as a context manager, or call `close`."""

    def __init__(
        self,
        language: str = "en",
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        javascript: bool = True,
    ) -> None:
        self.language = language
        self.forgiven: list[str] = []  # parts of console errors that are meant to come
        self._profile = tempfile.mkdtemp(prefix="minici-browser-")
        self._driver, self._port = _start_driver(self._profile)
        self._session = ""
        try:
            self._session = self._open(_capabilities(self._profile, language, javascript))
            self._cdp("Emulation.setLocaleOverride", {"locale": language})
            self.size(width, height)
            self.dark(dark)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _open(self, capabilities: dict[str, Any]) -> str:
        answer = self._http("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        return str(answer["sessionId"])

    def close(self) -> None:
        """End the browser and its driver, and remove the profile."""
        try:
            if self._session:
                self._http("DELETE", f"/session/{self._session}", None)
        except (OSError, BrowserError):
            pass
        finally:
            self._driver.terminate()
            self._driver.wait(10)
            assert self._driver.stdout is not None
            self._driver.stdout.close()
            shutil.rmtree(self._profile, ignore_errors=True)

    def _http(self, method: str, path: str, body: Optional[dict[str, Any]]) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            data = None if body is None else json.dumps(body).encode("utf-8")
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read().decode("utf-8"))
        finally:
            connection.close()
        value = answer.get("value")
        if isinstance(value, dict) and "error" in value:
            raise BrowserError(f"{value['error']}: {value.get('message', '')[:500]}")
        return value

    def call(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> Any:
        """One command of the WebDriver protocol in this session."""
        return self._http(method, f"/session/{self._session}{path}", body)

    def _cdp(self, command: str, parameters: dict[str, Any]) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width: int, height: int) -> None:
        """The size of the viewport in CSS pixels; below 500 wide it is a phone's."""
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        }
        self._cdp("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, dark: bool) -> None:
        """What `prefers-color-scheme` says from now on."""
        self.prefer("color-scheme", "dark" if dark else "light")

    def prefer(self, what: str, value: str) -> None:
        """What `prefers-WHAT` says from now on, and nothing else of its kind."""
        feature = {"name": f"prefers-{what}", "value": value}
        self._cdp("Emulation.setEmulatedMedia", {"features": [feature]})

    def zone(self, name: str) -> None:
        """The reader's time zone, for example "Asia/Tokyo"."""
        self._cdp("Emulation.setTimezoneOverride", {"timezoneId": name})

    def block(self, *patterns: str) -> None:
        """Let requests for these addresses (with `*`) fail; without any, let all through."""
        self._cdp("Network.enable", {})
        self._cdp("Network.setBlockedURLs", {"urls": list(patterns)})

    def go(self, url: str) -> None:
        """Open an address and wait until it is loaded."""
        self.call("POST", "/url", {"url": url})

    def back(self) -> None:
        """One page back."""
        self.call("POST", "/back", {})

    def reload(self) -> None:
        """Load the page again."""
        self.call("POST", "/refresh", {})

    @property
    def url(self) -> str:
        """The address of the page."""
        return str(self.call("GET", "/url"))

    @property
    def path(self) -> str:
        """The path of the address of the page."""
        return urlsplit(self.url).path

    @property
    def title(self) -> str:
        """The title of the page."""
        return str(self.call("GET", "/title"))

    @property
    def source(self) -> str:
        """The document as it stands now."""
        return str(self.call("GET", "/source"))

    @property
    def text(self) -> str:
        """All text that can be seen."""
        return self.find("body").text

    def find_all(self, selector: str) -> list[Element]:
        """The elements that a CSS selector chooses."""
        query = {"using": "css selector", "value": selector}
        return [Element(self, item[_ELEMENT]) for item in self.call("POST", "/elements", query)]

    def find(self, selector: str) -> Element:
        """The first element that a CSS selector chooses. BrowserError if there is none."""
        found = self.find_all(selector)
        if not found:
            raise BrowserError(f"no element {selector} on {self.url}")
        return found[0]

    def keys(self, text: str) -> None:
        """Press keys, one after another, wherever the focus is."""
        pressed = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": pressed}]})

    @property
    def active(self) -> Element:
        """The element that has the focus."""
        return Element(self, self.call("GET", "/element/active")[_ELEMENT])

    def shift_click(self, element: Element) -> None:
        """Click an element with the shift key held."""
        origin = {_ELEMENT: element.reference}
        mouse = [
            {"type": "pointerMove", "origin": origin, "x": 0, "y": 0, "duration": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        pauses = [{"type": "pause"}] * len(mouse)
        keys = [{"type": "keyDown", "value": "\ue008"}, *pauses]
        keys += [{"type": "keyUp", "value": "\ue008"}]
        mouse = [{"type": "pause"}, *mouse]
        both = [
            {"type": "key", "id": "k", "actions": keys},
            {"type": "pointer", "id": "m", "actions": mouse},
        ]
        self.call("POST", "/actions", {"actions": both})

    def script(self, source: str, *arguments: Any) -> Any:
        """The value that a function body returns in the page; arguments may be elements."""
        given = [{_ELEMENT: a.reference} if isinstance(a, Element) else a for a in arguments]
        return self.call("POST", "/execute/sync", {"script": source, "args": given})

    def tree(self) -> dict[str, Any]:
        """The page as a screen reader has it."""
        self._cdp("Accessibility.enable", {})
        found: dict[str, Any] = self._cdp("Accessibility.getFullAXTree", {})
        return found

    def wait(self, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        """What `condition()` returns as soon as it is true. BrowserError after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = condition()
            except BrowserError:
                value = None
            if value:
                return value
            if time.monotonic() > deadline:
                raise BrowserError(f"nothing came of it within {seconds} s on {self.url}")
            time.sleep(0.05)

    def screenshot(self, path: Path, whole: bool = False) -> Path:
        """A PNG of the viewport, or of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole:
            data = self._cdp("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        else:
            data = self.call("GET", "/screenshot")
        path.write_bytes(base64.b64decode(data))
        return path

    def console_errors(self) -> list[str]:
        """What the console said of errors and warnings since the last call."""
        entries = self.call("POST", "/se/log", {"type": "browser"})
        said = [str(e["message"]) for e in entries if e["level"] in ("SEVERE", "WARNING")]
        return [each for each in said if not any(part in each for part in self.forgiven)]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        addresses = []
        for entry in self.call("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                addresses.append(str(message["params"]["request"]["url"]))
        own = ("chrome:", "chrome-untrusted:", "devtools:")  # the browser's first tab
        return [address for address in addresses if not address.startswith(own)]


def _capabilities(profile: str, language: str, javascript: bool) -> dict[str, Any]:
    preferences: dict[str, Any] = {"intl.accept_languages": language}
    if not javascript:
        preferences["profile.managed_default_content_settings.javascript"] = 2
    options = {
        "binary": _program("chromium", "chromium-browser", "google-chrome"),
        "args": [*_ARGUMENTS, f"--user-data-dir={profile}/data", f"--lang={language}"],
        "prefs": preferences,
    }
    return {
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }


def _start_driver(profile: str) -> tuple[subprocess.Popen[str], int]:
    """A driver and its port. It takes a port that is free for IPv4 and looks for the same one of
    IPv6 only then: when another has that, it ends, and the next one is luckier."""
    program = _program("chromedriver")
    for _ in range(5):
        driver = subprocess.Popen(
            [program, "--port=0", f"--log-path={profile}/driver.log"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert driver.stdout is not None
        for line in driver.stdout:
            match = _PORT.search(line)
            if match:
                return driver, int(match.group(1))
        driver.stdout.close()
        driver.wait(10)
    raise BrowserError(f"{program} ends before it listens")
