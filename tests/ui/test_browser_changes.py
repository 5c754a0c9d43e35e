"""What is new in a failed build's output, in a real browser: asked for, counted, marked, walked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser
from tests.support.browsers import leave, watched
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess

pytestmark = pytest.mark.browser

DOWN = "\ue015"
SHOWN = (
    "return [...document.querySelectorAll('#log .line')]"
    ".filter((line) => line.getClientRects().length).map((line) => line.id)"
)


class Bench:
    """A server, and an agent that answers what a test wants."""

    def __init__(self, place: Place) -> None:
        self.server: ServerProcess = place.server()
        self.agent = place.keep(FakeAgent(self.server))

    def run(self, command: str, stdout: str, status: int = 0) -> int:
        number = self.server.start_build(command=command)
        self.agent.result(self.agent.wait_build(number), status, stdout)
        return number

    def open(self, browser: Browser, number: int, more: str = "") -> None:
        browser.go(f"http://{self.server.address}/build/{number}{more}")


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


def numbered(first: int, last: int, word: str = "step") -> str:
    return "".join(f"{word} {n}\n" for n in range(first, last + 1))


def ids(browser: Browser, selector: str) -> list[str]:
    return [str(each.attribute("id")) for each in browser.find_all(selector)]


def wait_for_text(browser: Browser, text: str) -> None:
    browser.wait(lambda: text in browser.find("#changes [role=status]").text)


def asked(browser: Browser) -> list[str]:
    return [url for url in browser.requests() if url.endswith("/changes")]


def test_new_lines_are_counted_marked_and_walked(browser: Browser, bench: Bench) -> None:
    success = bench.run("walk", f"took 1.2s\n{numbered(1, 200)}")
    output = f"took 3.4s\n{numbered(1, 99)}other\n{numbered(101, 198)}more\nlast"
    number = bench.run("walk", output, 1)
    assert b'id="changes"' not in bench.server.get(f"/build/{number}").body
    bench.open(browser, number)
    ask = browser.wait(lambda: browser.find("#changes button"))
    assert ask.text == "What is new?" and not asked(browser) and not ids(browser, ".new")
    ask.click()
    wait_for_text(browser, f"3 lines are new since build {success}")
    assert len(asked(browser)) == 1
    assert ids(browser, ".new") == ["L101", "L200", "L201"]
    browser.keys("d")
    browser.wait(lambda: browser.url.endswith("#L101"))
    wait_for_text(browser, f"new line 1 of 3 since build {success}")
    previous, following, _ = browser.find_all("#changes button")
    following.click()
    assert browser.url.endswith("#L200")
    previous.click()
    previous.click()
    assert browser.url.endswith("#L201"), "from the first to the last"
    assert browser.script("return document.querySelector('#L201').getBoundingClientRect().top") > 0


def test_only_new_lines_are_shown_where_one_wants_it(browser: Browser, bench: Bench) -> None:
    bench.run("only", numbered(1, 300))
    number = bench.run("only", f"first\n{numbered(1, 250)}last\n", 1)
    bench.open(browser, number, "#L9")
    browser.keys("d")
    only = browser.wait(lambda: browser.find("#changes [aria-pressed=false]"))
    only.click()
    assert only.attribute("aria-pressed") == "true"
    assert browser.script(SHOWN) == ["L1", "L9", "L252"], "with the line of the address"
    browser.script("document.querySelector('#L1 .n').focus()")
    browser.keys(DOWN + DOWN)
    assert browser.script("return document.activeElement.textContent") == "252"
    only.click()
    assert len(browser.script(SHOWN)) == 252


def test_a_line_in_another_part_of_a_long_output_is_opened(browser: Browser, bench: Bench) -> None:
    pad = "a word that makes the lines as long as lines of output usually are"
    lines = [f"line {n} {pad}\n" for n in range(1, 20_001)]
    success = bench.run("long", "".join(lines))
    lines[6], lines[19_000] = "early\n", "late\n"
    number = bench.run("long", "".join(lines), 1)
    bench.open(browser, number)
    assert "L20000" in ids(browser, "#log .line:last-child"), "it opens at its end"
    browser.wait(lambda: browser.find("#changes button")).click()
    wait_for_text(browser, f"2 lines are new since build {success}")
    browser.find("#changes [aria-pressed]").click()
    browser.keys("d")
    browser.wait(lambda: browser.url.endswith("?line=7#L7"))
    wait_for_text(browser, f"new line 1 of 2 since build {success}")
    browser.wait(lambda: browser.script(SHOWN) == ["L7"])
    assert len(asked(browser)) == 1, "the answer is kept for the other parts"
    browser.find_all("#changes button")[1].click()
    browser.wait(lambda: browser.url.endswith("?line=19001#L19001"))
    browser.wait(lambda: browser.script(SHOWN) == ["L19001"])
    bench.open(browser, bench.run("long", "other\n", 1))
    assert browser.wait(lambda: browser.find("#changes")).text == "What is new?", "of another build"


def test_what_is_said_where_there_is_nothing_to_mark(browser: Browser, bench: Bench) -> None:
    alone = bench.run("say", "a\n", 1)
    success = bench.run("say", "a\nb\n")
    for number, text in (
        (alone, "this command had no success before"),
        (bench.run("say", "b\na\n", 1), f"nothing is new since build {success}"),
        (bench.run("say", "c\n", 1), f"1 line is new since build {success}"),
    ):
        bench.open(browser, number)
        browser.wait(lambda: browser.find("#changes button")).click()
        wait_for_text(browser, text)
    for number in (success, bench.run("say", "", 1)):
        bench.open(browser, number)
        assert not browser.find_all("#changes"), "a success, or no output"


def test_a_comparison_that_fails_can_be_asked_for_again(browser: Browser, bench: Bench) -> None:
    bench.run("again", "a\n")
    number = bench.run("again", "b\n", 1)
    bench.open(browser, number)
    browser.forgiven.append("net::ERR_")
    browser.block("*/changes")
    ask = browser.wait(lambda: browser.find("#changes button"))
    ask.click()
    wait_for_text(browser, "the comparison failed, try again")
    browser.block()
    ask.click()
    wait_for_text(browser, "1 line is new")


def test_a_build_that_fails_while_one_looks_offers_it(browser: Browser, bench: Bench) -> None:
    success = bench.run("watch", "a\n")
    number = bench.server.start_build(command="watch")
    request = bench.agent.wait_build(number)
    bench.open(browser, number)
    browser.wait(lambda: "Running" in browser.find("#verdict h1").text)
    assert not browser.find_all("#changes")
    bench.agent.result(request, 1, "a\nb\n")
    browser.wait(lambda: browser.find("#changes button")).click()
    wait_for_text(browser, f"1 line is new since build {success}")
    browser.wait(lambda: ids(browser, ".new") == ["L2"])
    leave(browser)


def test_it_is_said_in_russian(bench: Bench) -> None:
    success = bench.run("russian", "a\n")
    number = bench.run("russian", "b\nc\n", 1)
    with Browser("ru") as browser:
        bench.open(browser, number)
        ask = browser.wait(lambda: browser.find("#changes button"))
        assert ask.text == "Что нового?"
        ask.click()
        wait_for_text(browser, f"новых строк по сравнению со сборкой {success}: 2")
