"""The start page and the agents in a real browser: what moves by itself, keys, and for everyone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.browsers import NARROW, SMALL, WIDE, take_picture, watched
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for
from tests.support.page_scene import COUNT, Scene
from tests.support.repositories import Repository

pytestmark = pytest.mark.browser

ENTER, ESCAPE = "\ue007", "\ue00c"


@pytest.fixture(scope="module", params=["en", "ru"])
def chromium(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with Browser(language=request.param) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, place: Place) -> Iterator[Browser]:
    """A browser that is looked at before the test's own servers end: its pages ask on and on."""
    chromium.zone("UTC")
    yield from watched(chromium)


@pytest.fixture(scope="module")
def scene(shared: Place) -> Scene:
    """More than sixty builds, three agents, one of which is gone."""
    return Scene(shared)


@pytest.fixture
def own(place: Place) -> ServerProcess:
    return place.server()


@pytest.fixture
def agent(place: Place, own: ServerProcess) -> FakeAgent:
    return place.keep(FakeAgent(own, "builder:8001"))


def open_page(browser: Browser, server: ServerProcess, path: str = "/") -> None:
    browser.go(f"http://{server.address}{path}")


def said(browser: Browser, english: str, russian: str) -> str:
    return english if browser.language == "en" else russian


def icon(browser: Browser) -> str:
    return str(browser.find("#icon").attribute("href")).split("?")[0].rsplit("/", 1)[1]


def ids(browser: Browser) -> list[int]:
    """The numbers of the builds in the list, from top to bottom."""
    rows = "return [...document.querySelectorAll('.builds tbody tr')].map((r) => r.dataset.id)"
    return [int(each) for each in browser.script(rows)]


# What follows the builds by itself


def test_the_tabs_title_and_icon_follow_the_builds(
    browser: Browser, own: ServerProcess, agent: FakeAgent
) -> None:
    open_page(browser, own)
    assert browser.title == "repository · minici" and icon(browser) == "icon.svg"
    own.start_build()
    running = said(browser, "1 build running", "Выполняется 1 сборка")
    browser.wait(lambda: browser.title == f"{running} · repository · minici")
    assert icon(browser) == "icon-running.svg"
    agent.result(agent.wait_build(), 1)
    failed = said(browser, "Failure: build 1", "Неуспешно: сборка 1")
    browser.wait(lambda: browser.title == f"{failed} · repository · minici")
    assert icon(browser) == "icon-failure.svg"
    open_page(browser, own, "/?status=success")
    assert browser.title.startswith(failed), "whatever is listed"
    own.start_build()
    agent.result(agent.wait_build(2), 0)
    browser.wait(lambda: icon(browser) == "icon-success.svg")
    browser.wait(lambda: ids(browser) == [2])


def test_a_tab_in_the_background_follows_them_too(
    browser: Browser, own: ServerProcess, agent: FakeAgent
) -> None:
    open_page(browser, own)
    browser.script(
        "Object.defineProperty(document, 'hidden', { get: () => !window.seen, configurable: true })"
    )
    own.start_build()
    agent.result(agent.wait_build(), 1)
    browser.wait(lambda: icon(browser) == "icon-failure.svg", 30)
    own.start_build()
    agent.result(agent.wait_build(2), 0)
    browser.script("window.seen = true; document.dispatchEvent(new Event('visibilitychange'))")
    browser.wait(lambda: icon(browser) == "icon-success.svg", 2)  # at once, not after ten seconds


def test_a_running_build_moves_towards_its_usual_time(
    browser: Browser, own: ServerProcess, agent: FakeAgent
) -> None:
    for number in (1, 2):
        own.start_build(command="sleep 1")
        build = agent.wait_build(number)
        if number == 1:
            agent.result(build, 0)
    open_page(browser, own)
    bar = browser.wait(lambda: browser.find("#build-2 progress"))
    assert bar.attribute("aria-label").startswith(said(browser, "usually", "обычно"))  # type: ignore[union-attr]
    first = browser.find("#build-2 [data-since]").text
    browser.wait(lambda: browser.find("#build-2 [data-since]").text != first)
    late = browser.wait(lambda: browser.find("#build-2 .late").text, 20)
    assert late.startswith(said(browser, "usually", "обычно"))
    agent.result(agent.wait_build(2), 0)
    browser.wait(lambda: not browser.find_all("progress"))


def test_a_bar_moves_between_two_refreshes(browser: Browser, scene: Scene) -> None:
    open_page(browser, scene.server)
    seen = (  # with so much room that it is not yet full, however long the tests have run
        "const bar = document.querySelector('#build-' + arguments[0] + ' progress'); bar.max = 1e6;"
        "const fetched = performance.getEntriesByType('resource')"
        ".filter((entry) => entry.initiatorType === 'fetch');"
        "return [fetched.length, bar.value]"
    )
    known = [browser.script(seen, COUNT + 6 - 3)]

    def moved() -> bool:
        known.append(browser.script(seen, COUNT + 6 - 3))
        before, after = known[-2:]
        return before[0] == after[0] and before[1] < after[1]

    browser.wait(moved)


def test_a_screen_reader_is_told_what_has_changed_and_no_more(
    browser: Browser, own: ServerProcess, agent: FakeAgent
) -> None:
    own.start_build()
    build = agent.wait_build()
    open_page(browser, own)
    spoken = "return [...document.querySelectorAll('[role=status]')].map((e) => e.textContent)"
    assert "".join(browser.script(spoken)) == ""
    agent.result(build, 0)
    sentence = said(browser, "Build 1: Success", "Сборка 1: Успешно")
    browser.wait(lambda: sentence in browser.script(spoken))
    live = browser.script(
        "return [...document.querySelectorAll('[aria-live], [role=status], [role=alert]')]"
        ".filter((e) => e.querySelector('table')).length"
    )
    assert live == 0, "the list itself is not read aloud each time"


def test_the_page_does_not_flicker(browser: Browser, scene: Scene) -> None:
    """Where nothing has changed but the clocks, nothing but their texts is touched."""
    open_page(browser, scene.server)
    browser.script(
        "window.touched = []; new MutationObserver((all) => { for (const one of all)"
        " for (const node of [...one.addedNodes, ...one.removedNodes])"
        " if (node.nodeType === 1) touched.push(node.outerHTML.slice(0, 99)); })"
        ".observe(document.getElementById('live-list'), { subtree: true, childList: true });"
        "window.asked = () => performance.getEntriesByType('resource')"
        ".filter((e) => e.initiatorType === 'fetch').length"
    )
    browser.wait(lambda: browser.script("return asked()") >= 2)
    assert browser.script("return touched") == []


# The list


def test_the_list_is_filtered_by_status_and_text_in_its_address(
    browser: Browser, scene: Scene
) -> None:
    open_page(browser, scene.server)
    everything = ids(browser)
    assert everything == list(range(COUNT + 6, COUNT - 24, -1))
    browser.find(".chip-failure").click()
    browser.wait(lambda: browser.url.endswith("/?status=failure"))
    failed = ids(browser)
    assert scene.failed in failed and set(failed) < set(range(1, COUNT + 1))
    field = browser.find(".text-filter input[type=search]")
    field.type(f"make test{ENTER}")
    browser.wait(lambda: "text=make+test" in browser.url and "status=failure" in browser.url)
    assert ids(browser) == failed, "only tests fail here"
    browser.back()
    browser.wait(lambda: browser.url.endswith("/?status=failure"))
    browser.find(".chip-all").click()
    browser.wait(lambda: ids(browser) == everything)


def test_pages_of_the_list(browser: Browser, scene: Scene) -> None:
    open_page(browser, scene.server)
    seen = ids(browser)
    browser.keys("]")
    browser.wait(lambda: "before=" in browser.url)
    seen += ids(browser)
    browser.find("a[rel=next]").click()
    browser.wait(lambda: ids(browser) and ids(browser)[-1] == 1)
    assert seen + ids(browser) == list(range(COUNT + 6, 0, -1))
    assert not browser.find_all("a[rel=next]") and not browser.find_all(".strip")
    browser.keys("[")
    browser.wait(lambda: browser.find_all(".strip"))


def test_nothing_fits(browser: Browser, scene: Scene) -> None:
    open_page(browser, scene.server, "/?text=nothing+like+this")
    nothing = said(browser, "No such builds", "Таких сборок нет")
    assert nothing in browser.text and not browser.find_all("table")
    take_picture(browser, f"none-{browser.language}")
    browser.find(".panel-empty .button").click()
    browser.wait(lambda: ids(browser))


def test_the_strip_leads_to_builds_and_has_its_text(browser: Browser, scene: Scene) -> None:
    open_page(browser, scene.server)
    strip = browser.find(".strip svg")
    text = str(strip.attribute("aria-label"))
    assert said(browser, "The last 60 builds", "Последние 60 сборок") in text
    bars = browser.find_all(".strip svg a")
    assert str(bars[0].attribute("href")) == f"/build/{COUNT + 6}"
    label = browser.script("return arguments[0].querySelector('title').textContent", bars[-1])
    assert label.startswith(said(browser, f"Build {COUNT - 53}", f"Сборка {COUNT - 53}"))
    rects = [bar.rect["x"] for bar in bars]
    assert rects == sorted(rects, reverse=True), "the newest is on the right"
    bars[-1].click()
    browser.wait(lambda: browser.path == f"/build/{COUNT - 53}")


# Keys


def press(browser: Browser, key: str, code: str) -> None:
    """A key of a keyboard whose layout is not this browser's."""
    event = "new KeyboardEvent('keydown', { key: arguments[0], code: arguments[1], bubbles: true })"
    browser.script(f"document.activeElement.dispatchEvent({event})", key, code)


def test_keys_of_the_list(browser: Browser, scene: Scene) -> None:
    open_page(browser, scene.server)
    browser.keys("/")
    assert browser.active.attribute("name") == "text"
    browser.keys("jn")
    assert browser.active.value() == "jn", "typed, not obeyed"
    browser.keys(ESCAPE)
    browser.keys("jjk")
    assert browser.active.attribute("href") == f"/build/{COUNT + 6}"
    browser.keys("?")
    shown = browser.wait(lambda: browser.find("dialog[open]").text)
    for text in ("j", "k", "n", "[", "]", "/", said(browser, "next page", "следующая страница")):
        assert text in shown
    take_picture(browser, f"keys-{browser.language}")
    browser.keys("?")
    assert not browser.find_all("dialog[open]")
    browser.find("button.keys").click()
    assert browser.find_all("dialog[open]"), "there is a button for who has no keyboard"
    browser.find("dialog button").click()
    assert not browser.find_all("dialog[open]")


def test_keys_work_on_a_russian_keyboard(browser: Browser, scene: Scene) -> None:
    open_page(browser, scene.server)
    press(browser, "о", "KeyJ")
    press(browser, "о", "KeyJ")
    press(browser, "л", "KeyK")
    assert browser.active.attribute("href") == f"/build/{COUNT + 6}"
    press(browser, ",", "Slash")
    assert browser.find_all("dialog[open]")
    press(browser, ",", "Slash")
    press(browser, ".", "Slash")
    assert browser.active.attribute("name") == "text"
    browser.script("document.activeElement.blur()")
    press(browser, "ъ", "BracketRight")
    browser.wait(lambda: "before=" in browser.url)
    press(browser, "ф", "KeyA")
    browser.wait(lambda: browser.path == "/agents")


# Agents


def test_an_agent_is_lost_forgotten_and_back(
    browser: Browser, own: ServerProcess, agent: FakeAgent
) -> None:
    own.start_build("topic", "echo <1>")
    agent.wait_build()
    open_page(browser, own, "/agents")
    row = "table.agents tbody tr"
    browser.wait(lambda: "topic" in browser.find(row).text)
    text = browser.find(row).text
    assert "builder:8001" in text and agent.address in text and "1 / 1" in text
    assert browser.find(f"{row} .running a").attribute("href") == "/build/1"
    assert browser.find(f"{row} .running time").attribute("title")
    assert not browser.find_all("form[action$=forget]")
    agent.close()
    lost = said(browser, "lost just now", "пропал только что")
    browser.wait(lambda: lost in browser.find(row).text)
    reason = said(browser, "its port refuses connections", "его порт не принимает соединений")
    assert reason in browser.find(row).text
    open_page(browser, own, "/")
    gone = said(browser, "1 gone", "1 пропал")
    browser.find(".summary a").click()
    browser.wait(lambda: browser.path == "/agents")
    assert gone in browser.find(".summary").text
    browser.find("form[action$=forget] button").click()
    browser.wait(lambda: not browser.find_all(row))
    assert "minici.agent" in browser.text
    agent.open()
    agent.register()
    browser.wait(lambda: browser.find_all(row))


def test_the_last_24_hours_of_an_agent(browser: Browser, scene: Scene) -> None:
    open_page(browser, scene.server, "/agents")
    days = browser.find_all("svg.day")
    assert len(days) == 3
    names = [str(day.attribute("aria-label")).replace("\u00a0", " ") for day in days]
    assert names[0].startswith(said(browser, "Last 24 hours: ", "Последние 24 часа: "))
    assert said(browser, "gone for 3 h", "не было 3 ч") in names[2]
    for day in days:
        box = browser.script("return arguments[0].querySelector('.here').getBBox().width", day)
        assert box > 100
    gone = "return arguments[0].querySelector('.gone').getAttribute('d')"
    assert not browser.script(gone, days[0]) and browser.script(gone, days[2])


def test_the_lines_that_start_an_agent_do(browser: Browser, place: Place) -> None:
    """As the page shows them, in a folder where nothing else is."""
    server = place.server()
    open_page(browser, server, "/agents")
    lines = str(browser.find(".shell code").value("textContent"))
    folder = place.folder / "somewhere"
    folder.mkdir()
    agent = place.configure_agent(server)
    lines = lines.replace("port = 8001", "port = 0").replace("python3", "exec python3")
    started = subprocess.Popen(
        ["/bin/sh", "-c", lines], cwd=folder, env=agent.env, stdout=subprocess.DEVNULL
    )
    try:
        browser.wait(lambda: browser.find("table.agents tbody tr"))
        number = server.start_build(command="echo it builds")
        assert server.wait_final(number)["status"] == "success"
    finally:
        started.terminate()
        assert started.wait(30) == 0


# Empty states and errors


def test_a_full_queue_is_said_and_what_was_typed_is_kept(browser: Browser, place: Place) -> None:
    server = place.server(max_queue=1)
    server.start_build()
    open_page(browser, server)
    browser.find("[name=command]").type("make it")
    browser.find("button.primary").click()
    full = said(browser, "The queue is full", "Очередь полна")
    browser.wait(lambda: full in browser.find(".form-error").text)
    assert browser.find("[name=command]").value() == "make it"
    take_picture(browser, f"queue-full-{browser.language}")
    assert browser.find("[role=alert]")


def test_a_damaged_build_is_shown_as_such(
    browser: Browser, own: ServerProcess, agent: FakeAgent
) -> None:
    for number in (1, 2):
        own.start_build()
        agent.result(agent.wait_build(number), 0)
    (own.data / "builds" / "1" / "build.json").write_text("{")
    open_page(browser, own)
    assert said(browser, "Damaged", "Повреждена") in browser.find("#build-1").text
    assert said(browser, "Success", "Успешно") in browser.find("#build-2").text
    take_picture(browser, f"damaged-list-{browser.language}")
    browser.find("#build-1 .c-id a").click()
    browser.wait(lambda: browser.path == "/build/1")
    damaged = said(browser, "is damaged", "повреждена")
    assert damaged in browser.find("h1").text
    take_picture(browser, f"damaged-{browser.language}")


def test_a_disk_that_is_full_is_a_page_of_its_own(browser: Browser, own: ServerProcess) -> None:
    folder = own.data / "builds"
    folder.rename(own.data / "away")
    folder.write_text("in the way")
    (own.data / "health.tmp").mkdir()
    try:
        open_page(browser, own, "/healthz")
        assert said(browser, "Not right now", "Сейчас не получится") in browser.find("h1").text
        take_picture(browser, f"error-503-{browser.language}")
        open_page(browser, own)
        browser.find("[name=command]").type("true")
        browser.find("button.primary").click()
        disk = said(browser, "can't be written", "нельзя писать")
        browser.wait(lambda: disk in browser.find(".form-error").text)
        take_picture(browser, f"disk-{browser.language}")
    finally:
        folder.unlink()
        (own.data / "health.tmp").rmdir()
        (own.data / "away").rename(folder)


# For everyone

PATHS = ("/", "/?status=failure&text=make", "/agents", "/nothing")

POOR = """
const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const over = (top, under) => { const a = top.length > 3 ? top[3] : 1;
  return top.slice(0, 3).map((c, i) => c * a + under[i] * (1 - a)); };
function ground(element) {
  const above = [];
  for (let e = element; e; e = e.parentElement) above.unshift(getComputedStyle(e).backgroundColor);
  return above.reduce((under, top) => over(parse(top), under), [255, 255, 255]);
}
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  const text = node.textContent.trim().slice(0, 30);
  if (!text || !element.checkVisibility() || element.closest('svg, .hidden, .skip')) continue;
  seen += 1;
  const style = getComputedStyle(element), under = ground(element);
  const ink = over(parse(style.color), under);
  const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5 || Number(style.opacity) < 0.9) poor.push([element.className, text, ratio]);
}
return [seen, poor];
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read(browser: Browser, scene: Scene, dark: bool) -> None:
    """WCAG AA, as the browser computes the colours: also those that are inherited or lie over
    one another."""
    browser.dark(dark)
    for path in PATHS:
        open_page(browser, scene.server, path)
        seen, poor = browser.script(POOR)
        assert seen > 10 and not poor, (path, poor)


NAMED = {"link", "button", "textbox", "searchbox", "combobox", "image", "progressbar", "table"}


def accessible(browser: Browser) -> Iterator[tuple[str, str]]:
    """Role and name of what a screen reader meets."""
    tree: dict[str, Any] = browser.tree()
    for node in tree["nodes"]:
        if not node.get("ignored"):
            role = node.get("role", {}).get("value", "")
            yield role, node.get("name", {}).get("value", "")


def test_everything_has_a_name_for_screen_readers(browser: Browser, scene: Scene) -> None:
    for path in (*PATHS, f"/build/{scene.failed}"):
        open_page(browser, scene.server, path)
        nodes = list(accessible(browser))
        nameless = [role for role, name in nodes if role in NAMED - {"table"} and not name.strip()]
        assert not nameless, path
        roles = {role for role, _ in nodes}
        assert {"main", "banner", "navigation", "heading"} <= roles, path
    open_page(browser, scene.server)
    nodes = list(accessible(browser))
    assert {"row", "columnheader", "cell", "search"} <= {role for role, _ in nodes}
    assert sum(role == "progressbar" for role, _ in nodes) == 4


def test_what_is_touched_is_large_enough(browser: Browser, scene: Scene) -> None:
    """WCAG 2.5.8: 24 pixels, on a phone."""
    small = (
        "return [...document.querySelectorAll('button, input:not([type=hidden]), .chip, .pages a,"
        " .top a, .running a')].map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])"
        ".filter(([, box]) => box.width && (box.height < 24 || box.width < 24)).map(([e]) => e)"
    )
    for path in ("/", "/agents"):
        for size in (NARROW, SMALL):
            browser.size(*size)
            open_page(browser, scene.server, path)
            assert browser.script(small) == [], (path, size)
            assert browser.script("return document.documentElement.scrollWidth") <= size[0]


def test_times_of_the_list_are_the_readers(browser: Browser, scene: Scene) -> None:
    browser.zone("Asia/Tokyo")
    open_page(browser, scene.server)
    title = str(browser.find(f"#build-{COUNT} time").attribute("title")).replace("\u00a0", " ")
    local, utc = title.rstrip(")").split(" (")
    assert utc.endswith("UTC")
    hours = [int(each.split(",")[-1].split(":")[0].split()[-1]) for each in (local, utc)]
    assert (hours[0] - hours[1]) % 24 == 9
    browser.zone("UTC")


def test_without_javascript_the_list_is_whole(scene: Scene) -> None:
    with Browser(javascript=False) as plain:
        for browser in watched(plain):
            browser.size(*WIDE)
            open_page(browser, scene.server)
            assert len(browser.find_all(".strip svg a")) == 60
            assert len(browser.find_all("progress")) == 4
            browser.find(".chip-failure").click()
            browser.wait(lambda: "status=failure" in browser.url)
            browser.find(".text-filter input[type=search]").type(f"make{ENTER}")
            browser.wait(lambda: "text=make" in browser.url)
            assert browser.find(f"#build-{scene.failed}")
            browser.find(".top nav a[href='/agents']").click()
            browser.wait(lambda: browser.path == "/agents")
            assert len(browser.find_all("svg.day")) == 3
            assert not browser.find_all("button.keys, button.copy"), "what only a script can do"


def test_the_badge_is_a_picture(browser: Browser, scene: Scene) -> None:
    """Browsers show it as it is, with all that its own policy forbids."""
    for query in ("", "?commit=unheard-of", "?commit=main&label=длинная-ветка/Щ"):
        open_page(browser, scene.server, f"/badge.svg{query}")
        boxes = browser.script(
            "return [...document.querySelectorAll('text')].map((t) => [t.getBBox().x,"
            " t.getBBox().x + t.getBBox().width, t.textContent])"
        )
        whole = float(str(browser.find("svg").attribute("width")))
        assert (
            len(boxes) == 2 and 0 <= boxes[0][0] < boxes[0][1] < boxes[1][0] < boxes[1][1] < whole
        )
    assert json.dumps(boxes, ensure_ascii=False).count("Щ") == 1


# Looks for pushes


def test_the_button_that_looks_now_keeps_the_list(
    browser: Browser, place: Place, own_repository: Repository
) -> None:
    """On the list of a project it looks at this one, and shows the list again."""
    keys = {"command": "true", "branches": "*", "poll": "1h"}
    server = place.configure_server(repository=own_repository.url, name="tides", **keys)
    server.sections["project moon"] = keys
    server.start()
    wait_for(lambda: len(list(server.data.glob("refs/*.json"))) == 2, 20, "the first looks")
    own_repository.commit({"file.txt": "1\n"}, "One")
    path = "/?status=queued&project=moon&branch=main"
    open_page(browser, server, path)
    browser.find(".looks button").click()
    wait_for(lambda: server.api("/builds")["builds"], 20, "the build")
    browser.reload()
    assert browser.url.endswith(path) and ids(browser) == [1]
    assert server.build(1)["project"] == "moon"
    open_page(browser, server)
    browser.find(".looks button").click()
    wait_for(lambda: len(server.api("/builds")["builds"]) == 2, 20, "the other project's")
    assert browser.path == "/" and server.build(2)["project"] == "tides"


def test_a_look_that_failed_is_said_where_its_project_is_listed(
    browser: Browser, place: Place
) -> None:
    keys = {"command": "true", "branches": "*", "poll": "1h"}
    server = place.configure_server(name="tides", **keys)
    server.sections["project moon"] = {**keys, "repository": place.folder / "nowhere"}
    server.start()
    wait_for(lambda: "can't be listed" in server.log(), 20, "a look that fails")
    for path, shown in (("/", 1), ("/?project=moon", 1), ("/?project=tides", 0)):
        open_page(browser, server, path)
        assert len(browser.find_all(".look-failure")) == shown, path
        assert len(browser.find_all(".looks button")) == 1, path


# The form


def test_a_project_brings_the_command_along_that_was_typed_for_it_last(
    browser: Browser, place: Place
) -> None:
    server = place.configure_server(name="tides", command="make tides")
    server.sections["project moon"] = {"command": "make moon"}
    server.start()

    def offered(project: str) -> str:
        open_page(browser, server)
        browser.find("#project").type(project)
        return str(browser.find("#command").value())

    def start(project: str, command: str) -> None:
        offered(project)
        browser.find("#command").clear()
        browser.find("#command").type(command)
        browser.find(".start-form button").click()
        browser.wait(lambda: browser.path.startswith("/build/"))

    assert (offered("tides"), offered("moon")) == ("make tides", "make moon")
    start("moon", "make eclipse")
    assert (offered("tides"), offered("moon")) == ("make tides", "make eclipse")
    open_page(browser, server, "/?project=moon")
    assert browser.find("#project").value() == "moon"
    assert browser.find("#command").value() == "make eclipse"
    start("moon", "make moon")
    server.stop()
    server.sections["project moon"]["command"] = "make new moon"
    server.restart()
    assert offered("moon") == "make new moon", "its own command is not what was typed"
    assert [each["project"] for each in server.api("/builds")["builds"]] == ["moon", "moon"]
