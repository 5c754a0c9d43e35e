"""The pages for those who have no mouse, no screen, or no liking for what moves: one browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import Browser, Element
from tests.support.browsers import leave, watched
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for

pytestmark = pytest.mark.browser

ENTER, TAB, SPACE = "\ue007", "\ue004", " "
OUTLINE = (
    "const style = getComputedStyle(document.activeElement);"
    "return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2"
)
LEVELS = (
    "return [...document.querySelectorAll('h1, h2, h3, h4')].filter((e) => e.checkVisibility())"
    ".map((e) => Number(e.tagName[1]))"
)
FAILED = "make test\na.c:1:2: error: one\nmake: *** [all] Error 1\n"


class Bench:
    """A server with builds of all kinds, and an agent that runs one and lets others wait."""

    def __init__(self, place: Place) -> None:
        self.server: ServerProcess = place.server()
        self.agent = place.keep(FakeAgent(self.server, "builder"))
        for stdout, status in (("make test\n", 0), (FAILED, 2)):
            self.failed = self.server.start_build(command="make test")
            build = self.agent.wait_build(self.failed)
            self.agent.file(build, "report.xml", 0, b"<x/>", last=True)
            self.agent.result(build, status, stdout)
        self.running = self.server.start_build(command="make docs")
        self.agent.wait_build(self.running)
        self.queued = [self.server.start_build(command="make all") for _ in range(2)]

    def open(self, browser: Browser, path: str) -> None:
        browser.go(f"http://{self.server.address}{path}")


@pytest.fixture(scope="module")
def bench(shared: Place) -> Bench:
    return Bench(shared)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    yield from watched(chromium)
    leave(chromium)


def tab_to(browser: Browser, selector: str) -> Element:
    """Press the tab key until an element has the focus; each stop on the way can be seen."""
    for _ in range(80):
        browser.keys(TAB)
        assert browser.script(OUTLINE), browser.script("return document.activeElement.outerHTML")
        if browser.script("return document.activeElement.matches(arguments[0])", selector):
            return browser.active
    raise AssertionError(f"{selector} is no stop of the tab key on {browser.url}")


def test_the_list_is_used_by_the_keyboard_alone(browser: Browser, bench: Bench) -> None:
    bench.open(browser, "/")
    browser.keys(TAB + ENTER)
    assert browser.active.attribute("id") == "content", "past the header at once"
    tab_to(browser, "button.primary")
    tab_to(browser, ".chip-queued")
    browser.keys(ENTER)
    browser.wait(lambda: browser.url.endswith("/?status=queued"))
    tab_to(browser, ".text-filter input[type=search]")
    tab_to(browser, ".cancel-queued button")
    browser.keys(ENTER)
    browser.wait(lambda: browser.find_all(".chip-all[aria-current]"))
    statuses = [bench.server.build(number)["status"] for number in bench.queued]
    assert statuses == ["cancelled"] * 2
    tab_to(browser, f"a[href='/build/{bench.failed}']")
    browser.keys(ENTER)
    browser.wait(lambda: browser.path == f"/build/{bench.failed}")


def test_a_build_is_read_by_the_keyboard_alone(browser: Browser, bench: Bench) -> None:
    bench.open(browser, f"/build/{bench.failed}")
    browser.wait(lambda: browser.find_all("#failures button"))
    tab_to(browser, ".files li a")
    tab_to(browser, "#failures button:last-child")
    browser.keys(ENTER)
    browser.wait(lambda: browser.url.endswith("#L3"))
    tab_to(browser, "#changes button")
    browser.keys(SPACE)
    browser.wait(lambda: browser.find_all("#changes [aria-pressed]"))
    assert browser.active.attribute("aria-label") == "Next new line", "the focus is kept"
    tab_to(browser, "#changes [aria-pressed]").type(SPACE)
    assert browser.active.attribute("aria-pressed") == "true"
    tab_to(browser, "#search input")
    tab_to(browser, "#log")
    tab_to(browser, ".repeat summary").type(ENTER)
    assert browser.find_all(".repeat[open]")


def test_an_agent_is_paused_by_the_keyboard_alone(browser: Browser, bench: Bench) -> None:
    bench.open(browser, "/agents")
    for verb, paused in (("pause", True), ("resume", False)):
        tab_to(browser, f"form[action$={verb}] button")
        browser.keys(ENTER)
        wait_for(lambda wanted=paused: bench.server.agents()[0]["paused"] == wanted)
        browser.wait(lambda: browser.find_all("form[action$=pause], form[action$=resume]"))


def nodes(browser: Browser) -> list[dict[str, Any]]:
    """What a screen reader meets: role, name and properties."""
    return [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", ""),
            **{each["name"]: each["value"].get("value") for each in node.get("properties", [])},
        }
        for node in browser.tree()["nodes"]
        if not node.get("ignored")
    ]


def test_a_screen_reader_finds_its_way(browser: Browser, bench: Bench) -> None:
    """Headings without a gap, landmarks that are told apart, states that are said."""
    for path in ("/", "/?status=failure", "/agents", "/nothing", f"/build/{bench.failed}"):
        bench.open(browser, path)
        found = nodes(browser)
        levels = browser.script(LEVELS)
        assert levels.count(1) == 1, (path, levels)
        assert all(b - a <= 1 for a, b in zip([0, *levels], levels)), (path, levels)
        for role in ("navigation", "region", "search", "complementary"):
            names = [node["name"] for node in found if node["role"] == role]
            assert len(set(names)) == len(names), (path, role, names)
    browser.wait(lambda: browser.find_all("#failures button"))
    assert "Previous line that looks like a failure" in {node["name"] for node in nodes(browser)}


def test_a_screen_reader_is_told_how_a_build_ends(browser: Browser, bench: Bench) -> None:
    bench.open(browser, f"/build/{bench.running}")
    live = [node for node in nodes(browser) if node.get("live") == "polite"]
    assert live, "the state is a live region"
    log = [node for node in nodes(browser) if node["role"] == "log" or node.get("atomic")]
    assert not [node for node in log if node["name"] == "Output"], "the output is not read aloud"
    assert f"Build {bench.running}: Running" in browser.find("#state").value("textContent")


def test_nothing_moves_for_those_who_do_not_want_it(browser: Browser, bench: Bench) -> None:
    bench.open(browser, f"/build/{bench.running}")
    moving = "return document.getAnimations().length"
    assert browser.script(moving) > 0, "the sign of a running build turns"
    browser.prefer("reduced-motion", "reduce")
    try:
        bench.open(browser, f"/build/{bench.running}")
        assert browser.script(moving) == 0
    finally:
        browser.dark(False)
