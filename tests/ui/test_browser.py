"""The pages in a real browser, with a real server and agents: from the form to the verdict.

Live output, search and keys are in test_pages_live.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minici.web.passwords import hash_password
from tests.support.browser import Browser, BrowserError
from tests.support.browsers import NARROW, SMALL, leave, take_picture, watched
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess
from tests.support.repositories import Repository

pytestmark = pytest.mark.browser

LOG = """printf '\\033[1mcollecting\\033[0m ... \\033[32mok\\033[0m\\n'
for i in 1 2 3 4 5 6 7 8; do echo "test_requeue[$i] ... \\033[32mPASSED\\033[0m"; done
echo 'warning: see https://example.org/old-api.' >&2
printf 'downloading 10%%\\rdownloading 100%%\\n'"""
SENTENCES = {
    "en": ("Success in", "Failure: exit status 3 after", "Enter a command"),
    "ru": ("Успешно за", "Неуспешно: код выхода 3 через", "Введите команду"),
}


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    server = shared.server(command="echo from the form")
    shared.agent(server, slots=2)
    return server


@pytest.fixture(scope="module", params=["en", "ru"])
def chromium(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with Browser(language=request.param) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, place: Place) -> Iterator[Browser]:
    """A browser that is looked at before the test's own servers end: its pages ask on and on."""
    yield from watched(chromium)


@pytest.fixture(scope="module")
def without_javascript() -> Iterator[Browser]:
    with Browser(javascript=False) as browser:
        yield browser


def start(browser: Browser, server: ServerProcess, command: str, commit: str = "HEAD") -> int:
    """Fill in the form and press the button; the number of the build whose page that opens."""
    browser.go(f"http://{server.address}/")
    for name, text in (("commit", commit), ("command", command)):
        field = browser.find(f"[name={name}]")
        field.clear()
        field.type(text)
    browser.find("button.primary").click()
    browser.wait(lambda: browser.path.startswith("/build/"))
    return int(browser.path.rsplit("/", 1)[1])


def verdict(browser: Browser) -> str:
    return browser.find("#verdict h1").text.replace("\u00a0", " ")


def width(browser: Browser) -> int:
    """How wide the page is, what stands out of the window included."""
    return int(browser.script("return document.documentElement.scrollWidth"))


def test_from_the_form_to_the_verdict(browser: Browser, server: ServerProcess) -> None:
    browser.go(f"http://{server.address}/")
    assert browser.find("[name=commit]").value() == "HEAD"
    assert browser.find("[name=command]").value() == "echo from the form"
    button = {"ru": "Запустить сборку", "en": "Start build"}[browser.language]
    assert browser.find("button.primary").text == button
    number = start(browser, server, LOG)
    success = SENTENCES[browser.language][0]
    browser.wait(lambda: success in verdict(browser))
    assert success in browser.title and browser.title.startswith(str(number))
    text = browser.wait(lambda: "PASSED" in browser.find("#log").text and browser.text)
    for shown in ("downloading 100%", "https://example.org/old-api", "Third: ünï", "HEAD"):
        assert shown in text, shown
    assert "downloading 10%\n" not in browser.find("#log").text
    browser.wait(lambda: browser.find_all(".log-end-ok"))
    take_picture(browser, f"build-success-{browser.language}")
    browser.find(".crumb a").click()
    browser.wait(lambda: browser.path == "/")
    row = browser.find(f"#build-{number}")
    assert {"en": "Success", "ru": "Успешно"}[browser.language] in row.text
    assert "Third: ünï" in row.text


def test_a_failing_build(browser: Browser, server: ServerProcess) -> None:
    start(browser, server, f"{LOG}\necho assertion failed >&2; exit 3")
    failure = SENTENCES[browser.language][1]
    browser.wait(lambda: failure in verdict(browser))
    assert browser.find("#icon").attribute("href").startswith("/static/icon-failure.svg")  # type: ignore[union-attr]
    browser.wait(lambda: browser.find_all(".log-end-bad"))
    stderr = browser.find(".line.stderr")
    sign = browser.script("return getComputedStyle(arguments[0], '::before').content", stderr)
    assert sign == '"err"', "told by more than its colour"
    take_picture(browser, f"build-failure-{browser.language}")


def test_an_error_stands_beside_its_field(browser: Browser, server: ServerProcess) -> None:
    browser.go(f"http://{server.address}/")
    for name, text in (("commit", "my-branch"), ("command", "  ")):
        browser.find(f"[name={name}]").clear()
        browser.find(f"[name={name}]").type(text)
    browser.find("button.primary").click()
    error = browser.wait(lambda: browser.find("#command-error"))
    assert SENTENCES[browser.language][2] in error.text
    assert browser.find("[name=commit]").value() == "my-branch"
    field = browser.find("[name=command]")
    assert field.attribute("aria-describedby") == "command-error command-hint"
    below = error.rect["y"] - (field.rect["y"] + field.rect["height"])
    assert 0 <= below < 20 and abs(error.rect["x"] - field.rect["x"]) < 5
    focused = browser.script("return document.activeElement.id")
    assert focused == "command"
    take_picture(browser, f"form-error-{browser.language}")


def test_without_javascript(without_javascript: Browser, server: ServerProcess) -> None:
    for browser in watched(without_javascript):
        start(browser, server, f"{LOG}\nsleep 1; exit 3")
        assert browser.find("h1").text
        browser.wait(lambda: SENTENCES["en"][1] in verdict(browser), 30)
        assert "PASSED" in browser.text and "exit status 3" in browser.text
        assert not browser.find_all("button.follow"), "what only a script can do is not offered"
        browser.find("[name=find]").type("passed")
        browser.find("#search button").click()
        browser.wait(lambda: "8 lines found" in browser.find(".found").text)
        browser.find(".found a").click()
        browser.wait(lambda: browser.url.endswith("#L2"))
        assert browser.find("#L2:target").text
        browser.find("form[action$=rebuild] button").click()
        browser.wait(lambda: "Rebuild of build" in browser.text)
        browser.go(f"http://{server.address}/")
        assert "Failure" in browser.text


def test_a_command_of_several_lines_comes_through_as_it_was_typed(
    browser: Browser, server: ServerProcess
) -> None:
    number = start(browser, server, "printf '%s\\n' 'a  b' \"$CI\"\nfalse || echo '<ü>'")
    build = server.wait_final(number)
    assert build["command"] == "printf '%s\\n' 'a  b' \"$CI\"\nfalse || echo '<ü>'"
    browser.wait(lambda: "<ü>" in browser.text)
    assert browser.find("#L1 .text").value("textContent") == "a  b"


def test_cancel_and_rebuild(browser: Browser, server: ServerProcess) -> None:
    number = start(browser, server, "echo begun; sleep 60")
    browser.wait(lambda: "begun" in browser.find("#log").text)
    browser.find("form[action$=cancel] button").click()
    cancelled = {"en": "Cancelled", "ru": "Отменена"}[browser.language]
    browser.wait(lambda: cancelled in verdict(browser))
    browser.find("form[action$=rebuild] button").click()
    browser.wait(lambda: browser.path == f"/build/{number + 1}")
    link = f'#facts a[href="/build/{number}"]'
    browser.wait(lambda: browser.find(link).text == str(number))
    server.post(f"/build/{number + 1}/cancel")


def test_who_started_and_who_cancelled_a_build(browser: Browser, place: Place) -> None:
    server = place.configure_server(secret="word")
    server.sections["users"] = {"ada": hash_password("engine", 10)}
    server.start()
    place.agent(server.address, secret="word")
    browser.go(f"http://ada:engine@{server.address}/")  # and the browser remembers them
    start(browser, server, "echo begun; sleep 60")
    browser.wait(lambda: "begun" in browser.find("#log").text)
    said = {"en": ("Started by ada", "by ada after"), "ru": ("Кто запустил: ada", "ada через")}
    started, cancelled = said[browser.language]
    assert browser.find(".origin").text == started
    browser.find("form[action$=cancel] button").click()
    browser.wait(lambda: cancelled in verdict(browser))
    browser.find("form[action$=rebuild] button").click()
    repeat = {"en": "Rebuild of build 1", "ru": "Перезапуск сборки 1"}[browser.language]
    browser.wait(lambda: browser.find(".origin").text == f"{repeat} · {started}")
    take_picture(browser, f"who-{browser.language}")
    leave(browser)


def test_every_page_fits_a_phone(browser: Browser, server: ServerProcess) -> None:
    number = server.start_build(command=f"{LOG}; echo {'x' * 400}; exit 3")
    server.wait_final(number)
    for path in ("/", f"/build/{number}", "/agents", "/nothing", "/?status=lost"):
        for size in (NARROW, SMALL):
            browser.size(*size)
            browser.go(f"http://{server.address}{path}")
            assert width(browser) <= size[0], (path, size)
    browser.go(f"http://{server.address}/")
    assert browser.find("button.primary").rect["height"] >= 40, "as large as a thumb"
    take_picture(browser, f"list-{browser.language}")
    browser.go(f"http://{server.address}/agents")
    take_picture(browser, f"agents-{browser.language}")


def test_the_frame_stays_where_it_is_from_page_to_page(
    browser: Browser, server: ServerProcess
) -> None:
    number = start(browser, server, "true")
    places = set()
    for path in ("/", f"/build/{number}", "/agents", "/nothing"):
        browser.go(f"http://{server.address}{path}")
        places.add((browser.find(".brand").rect["x"], browser.find("main").rect["width"]))
    assert len(places) == 1, places


def test_the_form_is_one_row_and_grows_over_the_list(
    browser: Browser, server: ServerProcess
) -> None:
    browser.go(f"http://{server.address}/")
    boxes = [browser.find(each).rect for each in ("#commit", "#command", "button.primary")]
    assert max(box["y"] for box in boxes) - min(box["y"] for box in boxes) < 8
    assert browser.find(".start").rect["height"] < 80
    below, command = browser.find("#builds-title").rect["y"], browser.find("#command")
    command.click()
    assert command.rect["height"] > boxes[1]["height"] + 50, "room to type in"
    assert browser.find("#builds-title").rect["y"] == below, "and nothing moves"
    command.clear()
    command.type("make\nmake test\nmake docs")
    browser.find("#commit").click()
    assert command.rect["height"] > boxes[1]["height"] + 30, "three lines are seen"


def test_a_page_that_is_not_there(browser: Browser, server: ServerProcess) -> None:
    browser.go(f"http://{server.address}/build/999999")
    there_is_none = {"en": "There is no such page", "ru": "Такой страницы нет"}
    assert there_is_none[browser.language] in browser.text
    take_picture(browser, f"not-found-{browser.language}")
    browser.find("a.button").click()
    browser.wait(lambda: browser.path == "/")


def test_no_builds_and_no_agents(browser: Browser, place: Place) -> None:
    server = place.server(command="make test")
    browser.go(f"http://{server.address}/")
    assert "curl" in browser.text and "minici.agent" in browser.text
    take_picture(browser, f"empty-{browser.language}")
    start(browser, server, "echo at last")
    no_agent = {"en": "no agent is connected", "ru": "ни одного агента на связи"}
    assert no_agent[browser.language] in verdict(browser)
    assert "minici.agent" in browser.find("#notes").text
    take_picture(browser, f"queued-{browser.language}")
    place.agent(server)
    browser.wait(lambda: SENTENCES[browser.language][0] in verdict(browser), 30)
    browser.wait(lambda: "at last" in browser.find("#log").text)


def test_the_list_renews_itself_and_leaves_the_reader_alone(
    browser: Browser, server: ServerProcess
) -> None:
    first = server.start_build(command="echo first")
    server.wait_final(first)
    browser.go(f"http://{server.address}/")
    browser.find("[name=command]").type(" and more, typed just now")
    row = f"document.getElementById('build-{first}')"
    browser.script(f"{row}.querySelector('.subject').mark = 'the same element'")
    browser.script(f"getSelection().selectAllChildren({row}.querySelector('.subject'))")
    second = server.start_build(command="echo second")
    browser.wait(lambda: browser.find(f"#build-{second}"))
    assert browser.script(f"return {row}.querySelector('.subject').mark") == "the same element"
    assert browser.script("return String(getSelection())").strip() == "Third: ünï"
    assert str(browser.find("[name=command]").value()).endswith("typed just now")
    rows = browser.script(
        "return [...document.querySelectorAll('.builds tbody tr')].map((row) => row.dataset.id)"
    )
    assert [int(each) for each in rows] == sorted(map(int, rows), reverse=True)


def test_a_server_that_is_away_is_said_and_comes_back(browser: Browser, place: Place) -> None:
    server = place.server()
    browser.go(f"http://{server.address}/")
    browser.forgiven.append("net::ERR_")
    server.kill()
    browser.wait(lambda: browser.find(".notice").text)
    server.restart()
    browser.wait(lambda: not browser.find(".notice").text, 40)


BAD = "<img/src=x/onerror=document.title='pwned'>"
SCRIPT = "<script>document.title='pwned'</script>\"'>" + BAD


def test_hostile_text_in_every_field_is_shown_and_inert(
    browser: Browser, place: Place, own_repository: Repository
) -> None:
    server = place.server(repository=own_repository.path, max_attempts=1)
    agent = place.keep(FakeAgent(server, name=f"{SCRIPT}\x1b[31m"))
    number = server.start_build("x/\"'><img/src=x/onerror=alert(1)>", f"echo {SCRIPT}\u202e")
    output = f"{SCRIPT}\x1b]0;t\x07\x1b[2J\u202e\x08\n"
    about = {"reason": SCRIPT, "subject": f"{SCRIPT}\u202egpj.exe", "author": SCRIPT}
    agent.result(agent.wait_build(), 3, output, output, revision="1" * 40, **about)
    waiting = server.start_build(command=BAD)
    for path in (f"/build/{number}", f"/build/{waiting}", "/", "/agents", "/nothing"):
        browser.go(f"http://{server.address}{path}")
        assert "<img/src=x" in browser.text or path == "/nothing", path
        for foreign in ("img", "script:not([src])", "[onerror]", "style", "iframe"):
            assert not browser.find_all(foreign), (path, foreign)
        assert not {"\u202e", "\x1b", "\x08"} & set(browser.source), path
        assert browser.title != "pwned"
        with pytest.raises(BrowserError):
            browser.call("GET", "/alert/text")
    browser.go(f"http://{server.address}/build/{number}")
    assert "<U+202E>" in browser.find("#log").text
    take_picture(browser, f"hostile-{browser.language}")
