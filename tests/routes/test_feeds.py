"""Badges, the Atom feed, and what desktop monitors read."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Optional
from xml.etree import ElementTree

import pytest

from minici.ui.badge import COLOURS, LABEL_GROUND, badge_json, badge_svg
from minici.ui.components import repository_name
from minici.ui.feeds import MonitoredProject, atom_feed, cctray
from minici.ui.i18n import LANGUAGES, Translator
from minici.ui.palette import contrast
from minici.web.passwords import hash_password
from tests.support.fakes import FakeAgent
from tests.support.harness import ROOT, Place, ServerProcess
from tests.support.http_client import Reply
from tests.support.page_samples import STATUSES, build_json, context, iso

ATOM = "{http://www.w3.org/2005/Atom}"
SVG = "{http://www.w3.org/2000/svg}"
STYLE = ROOT / "minici" / "ui" / "static" / "style.css"
HOSTILE = "</title><script>alert(1)</script>&\"'<!-- ]]>\x00\x1b\u202e\ufffe\uffff\ud800"


def hostile(field: str) -> str:
    return f"{field} {HOSTILE}"


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode("utf-8"))


# Badges


def texts(picture: str) -> list[str]:
    return [str(each.text) for each in parse(picture).iter(f"{SVG}text")]


@pytest.mark.parametrize("status", STATUSES)
def test_a_badge_says_the_status_in_words_and_colour(status: str) -> None:
    build = build_json(7, status)
    picture = badge_svg(Translator("en"), build)
    assert texts(picture) == ["build", status]
    assert COLOURS[status] in picture
    assert parse(picture).get("aria-label") == f"build: {status}"
    assert texts(badge_svg(Translator("ru"), build))[0] == "сборка"
    shield = badge_json(Translator("en"), build, "main")
    assert shield == {
        "schemaVersion": 1,
        "label": "main",
        "message": status,
        "color": COLOURS[status],
    }


def test_a_badge_without_a_build_is_grey() -> None:
    assert texts(badge_svg(Translator("en"), None)) == ["build", "no builds"]
    assert texts(badge_svg(Translator("ru"), None, "main")) == ["main", "нет сборок"]
    assert badge_json(Translator("en"), None)["color"] == COLOURS["cancelled"]
    assert texts(badge_svg(Translator("en"), {"id": 1, "damaged": "x"}))[1] == "damaged"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_badge_has_room_for_its_texts(language: str) -> None:
    for label in ("build", "i" * 60, "Щ" * 60, "release/2026-11", "x" * 500):
        picture = parse(badge_svg(Translator(language), build_json(1, "cancelled"), label))
        boxes = [float(str(each.get("width"))) for each in picture.iter(f"{SVG}rect")]
        lengths = [float(str(each.get("textLength"))) for each in picture.iter(f"{SVG}text")]
        assert boxes[0] == pytest.approx(boxes[1] + boxes[2], abs=0.2)
        assert boxes[1] == pytest.approx(lengths[0] + 12, abs=0.2)
        assert all(len(str(each.text)) <= 60 for each in picture.iter(f"{SVG}text"))


def test_hostile_text_changes_no_badge_and_no_feed() -> None:
    label = parse(badge_svg(Translator("en"), None, HOSTILE))
    assert "<script>alert(1)" in str(label.get("aria-label"))
    builds = [build_json(9 - place, status, hostile) for place, status in enumerate(STATUSES)]
    feed = parse(atom_feed(Translator("en"), context(hostile), builds))
    assert len(feed.findall(f"{ATOM}entry")) == 4
    assert "<script>alert(1)" in "".join(feed.itertext())
    monitored = [MonitoredProject(HOSTILE, HOSTILE, build, False) for build in builds]
    assert parse(cctray(monitored))[0].get("name")


def test_badges_can_be_read_and_have_the_colours_of_the_pages() -> None:
    style = STYLE.read_text(encoding="utf-8")
    for status, colour in {**COLOURS, "label": LABEL_GROUND}.items():
        assert contrast((255, 255, 255), tuple(bytes.fromhex(colour[1:]))) >= 4.5, status
        assert status == "label" or f"--{status}: {colour};" in style


# Feeds


def test_the_feed_has_the_builds_that_have_ended_last_first() -> None:
    builds = [
        build_json(4, "running"),
        build_json(3, "failure", finished_at=iso(50)),
        build_json(2, "success", finished_at=iso(40)),
        {"id": 1, "damaged": "cut short"},
    ]
    feed = parse(atom_feed(Translator("en"), context(url="http://ci:8000"), builds, "?text=a&b"))
    assert feed.findtext(f"{ATOM}title") == "Builds of the context_repository"
    assert feed.findtext(f"{ATOM}id") == "http://ci:8000/feed.atom?text=a&b"
    links = {link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")}
    assert links["self"] == "http://ci:8000/feed.atom?text=a&b"
    assert links["alternate"] == "http://ci:8000/?text=a&b"
    entries = feed.findall(f"{ATOM}entry")
    assert [entry.findtext(f"{ATOM}updated") for entry in entries] == [iso(40), iso(50)]
    assert feed.findtext(f"{ATOM}updated") == iso(40)
    first = entries[0]
    said = "Build 2: Success in 1 m 00 s on agent the agent, attempt 2 of 3"
    assert str(first.findtext(f"{ATOM}title")).replace("\u00a0", " ") == said
    assert first.find(f"{ATOM}link").get("href") == "http://ci:8000/build/2"  # type: ignore[union-attr]
    content = str(first.findtext(f"{ATOM}content"))
    assert content == "the commit the subject\n$ the command"
    assert len({entry.findtext(f"{ATOM}id") for entry in entries}) == 2


def test_a_feed_without_builds_is_a_feed() -> None:
    feed = parse(atom_feed(Translator("ru"), context(), []))
    assert feed.findtext(f"{ATOM}updated") and not feed.findall(f"{ATOM}entry")


@pytest.mark.parametrize(
    "status, verdict",
    [(None, "Unknown"), ("success", "Success"), ("failure", "Failure"), ("lost", "Exception")],
)
@pytest.mark.parametrize("building", [False, True])
def test_a_monitor_sees_each_project(status: Optional[str], verdict: str, building: bool) -> None:
    last = build_json(9, status) if status else None
    shown = MonitoredProject("tides", "http://ci/?project=tides", last, building)
    other = MonitoredProject("other", "http://ci/?project=other", None, False)
    project, second = parse(cctray([shown, other]))
    assert project.get("name") == "tides" and second.get("name") == "other"
    assert project.get("activity") == ("Building" if building else "Sleeping")
    assert project.get("lastBuildStatus") == verdict
    assert project.get("lastBuildLabel") == ("9" if status else "")
    assert re.fullmatch(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\dZ", str(project.get("lastBuildTime")))
    assert project.get("webUrl") == "http://ci/?project=tides"


@pytest.mark.parametrize(
    "address, name",
    [
        ("/srv/tides.git", "tides"),
        ("/srv/tides.git/", "tides"),
        ("git@host:tides.git", "tides"),
        ("https://host/a/b", "b"),
        ("/srv/.git", "/srv/.git"),
        ("", ""),
    ],
)
def test_a_repository_has_a_short_name(address: str, name: str) -> None:
    assert repository_name(address) == name


# On a server


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    """1 failed on main, 2 succeeded on topic, 3 runs on main."""
    server = shared.server()
    agent = shared.keep(FakeAgent(server))
    for count, (commit, status) in enumerate((("main", 1), ("topic", 0)), 1):
        server.start_build(commit)
        agent.result(agent.wait_build(count), status, revision=REVISIONS[status])
    server.start_build("main")
    agent.wait_build(3)
    return server


REVISIONS = ("0123abcd" * 5, "4567ef01" * 5)


def english(server: ServerProcess, path: str, **headers: str) -> Reply:
    return server.get(path, {"Accept-Language": "en", **headers})


def message(server: ServerProcess, query: str = "") -> Any:
    reply = english(server, f"/badge.json{query}")
    assert reply.status == 200, reply
    return reply.json()["label"], reply.json()["message"]


def test_the_badge_of_the_newest_build_and_of_a_commit(server: ServerProcess) -> None:
    for _ in range(2):  # what is remembered answers like what is looked up
        assert message(server) == ("build", "running")
        assert message(server, "?commit=main") == ("main", "running")
        assert message(server, "?commit=topic") == ("topic", "success")
        assert message(server, f"?commit={REVISIONS[1]}")[1] == "failure"
        assert message(server, "?commit=0123ABCD&label=short") == ("short", "success")
        for unknown in ("nothing", "012", "%00", "-x", "x" * 3000):
            assert message(server, f"?commit={unknown}")[1] == "no builds"
    assert "success" in english(server, "/badge.svg?commit=topic").text


def test_a_badge_follows_its_commit(place: Place) -> None:
    server = place.server()
    assert message(server) == ("build", "no builds")
    assert message(server, "?commit=main") == ("main", "no builds")
    agent = place.keep(FakeAgent(server))
    revision = REVISIONS[0]
    for number, status in enumerate((0, 1, 0), 1):
        server.start_build("main")
        build = agent.wait_build(number)
        assert message(server, "?commit=main")[1] == "running"
        earlier = {1: "no builds", 2: "success", 3: "failure"}[number]
        assert message(server, f"?commit={revision}")[1] == earlier, "its revision comes later"
        agent.result(build, status, revision=revision)
        final = "failure" if status else "success"
        assert message(server, "?commit=main")[1] == final
        assert message(server, f"?commit={revision}")[1] == final


def test_a_removed_build_leaves_a_grey_badge(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build("main")
    agent.result(agent.wait_build(), 0)
    assert message(server, "?commit=main")[1] == "success"
    folder = server.data / "builds" / str(number)
    folder.rename(folder.with_name("elsewhere"))
    assert message(server, "?commit=main")[1] == "no builds"
    assert message(server)[1] == "no builds"


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/badge.svg", "image/svg+xml"),
        ("/badge.json", "application/json"),
        ("/feed.atom", "application/atom+xml"),
        ("/cc.xml", "application/xml"),
    ],
)
def test_who_has_the_newest_already_is_told_so(server: ServerProcess, path: str, kind: str) -> None:
    reply = english(server, path)
    assert reply.status == 200 and reply.header("Content-Type").split(";")[0] == kind
    assert reply.header("Cache-Control") == "no-cache"
    assert reply.header("Vary") == "Accept-Language"
    tag = reply.header("ETag")
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = english(server, path, **{"If-None-Match": known})
        assert (again.status, again.body) == (304, b""), known
        assert again.header("ETag") == tag and "Content-Length" not in again.headers
    assert english(server, path, **{"If-None-Match": '"other"'}).status == 200
    head = server.request("HEAD", path, headers={"Accept-Language": "en"})
    assert head.status == 200 and head.header("ETag") == tag and head.body == b""


def test_a_badge_is_in_english_unless_another_language_is_asked_for(server: ServerProcess) -> None:
    def label(query: str, header: Optional[str] = None) -> Any:
        headers = {"Accept-Language": header} if header else {}
        return json.loads(server.get(f"/badge.json{query}", headers).body)["label"]

    assert label("") == label("", "ru") == "build", "it stands in READMEs, whoever reads them"
    assert label("?language=en", "ru") == "build" and label("?language=ru", "en") == "сборка"
    assert label("?language=xx", "ru") == "build"
    assert "success" in server.get("/badge.svg?commit=topic").text


@pytest.mark.parametrize("language, label", [("ru", "сборка"), ("en", "build")])
def test_a_badge_is_in_the_language_of_the_configuration(
    place: Place, language: str, label: str
) -> None:
    server = place.server(language=language)
    for header in ("ru", "en"):
        reply = server.get("/badge.json", {"Accept-Language": header})
        assert reply.json()["label"] == label


def projects_server(place: Place) -> tuple[ServerProcess, FakeAgent]:
    """`shop` failed on main and succeeded on topic; `wiki` has one that was cancelled and one that
    runs; `empty` has no build."""
    server = place.configure_server(name="shop")
    server.sections["project wiki"] = {"command": "true"}
    server.sections["project empty"] = {"command": "true"}
    server.start()
    agent = place.keep(FakeAgent(server))
    ended = (("shop", "main", 1), ("shop", "topic", 0), ("wiki", "main", 0))
    for count, (project, branch, status) in enumerate(ended, 1):
        params = {"commit": "HEAD", "command": "x", "project": project, "ref": branch}
        assert server.post("/api/builds", params).status == 201
        agent.result(agent.wait_build(count), status)
    for _ in range(2):
        server.post("/api/builds", {"commit": "HEAD", "command": "x", "project": "wiki"})
    assert agent.wait_build(4)["project"] == "wiki"
    assert server.post("/build/5/cancel").status == 303
    return server, agent


def test_badges_feeds_and_monitors_by_project(place: Place) -> None:
    server, _ = projects_server(place)
    for _ in range(2):
        assert message(server, "?project=shop") == ("shop", "success")
        assert message(server, "?project=shop&branch=main") == ("main", "failure")
        assert message(server, "?project=shop&branch=topic&label=x") == ("x", "success")
        assert message(server, "?project=wiki") == ("wiki", "cancelled")
        assert message(server, "?project=wiki&branch=main") == ("main", "success")
        assert message(server, "?project=empty") == ("empty", "no builds")
        assert message(server, "?project=unknown") == ("unknown", "no builds")
    feed = parse(english(server, "/feed.atom?project=shop").text)
    assert feed.findtext(f"{ATOM}title") == "Builds of shop"
    assert len(feed.findall(f"{ATOM}entry")) == 2
    monitored = {str(each.get("name")): each for each in parse(english(server, "/cc.xml").text)}
    said = {
        name: (each.get("activity"), each.get("lastBuildStatus"), each.get("lastBuildLabel"))
        for name, each in monitored.items()
    }
    assert said == {
        "shop": ("Sleeping", "Success", "2"),
        "wiki": ("Building", "Success", "3"),
        "empty": ("Sleeping", "Unknown", ""),
    }
    assert monitored["wiki"].get("webUrl") == f"http://127.0.0.1:{server.port}/?project=wiki"


def test_a_monitor_of_one_project_shows_the_repository(server: ServerProcess) -> None:
    project = parse(english(server, "/cc.xml").text)[0]
    assert project.get("name") == repository_name(str(server.place.repository.path))
    assert project.get("activity") == "Building"
    assert (project.get("lastBuildStatus"), project.get("lastBuildLabel")) == ("Success", "2")
    assert project.get("webUrl") == f"http://127.0.0.1:{server.port}/"


def test_the_feed_may_be_a_selection(server: ServerProcess) -> None:
    def numbers(query: str) -> list[str]:
        feed = parse(english(server, f"/feed.atom{query}").text)
        titles = [str(each.findtext(f"{ATOM}title")) for each in feed.findall(f"{ATOM}entry")]
        return [title.split(":")[0] for title in titles]

    assert numbers("") == ["Build 2", "Build 1"]
    assert numbers("?status=failure") == ["Build 1"]
    assert numbers("?text=topic") == ["Build 2"]
    assert english(server, "/feed.atom?status=nonsense").status == 400


def test_the_start_page_leads_to_the_feed_of_what_it_lists(server: ServerProcess) -> None:
    found = r'<link rel="alternate" type="application/atom\+xml" title="Atom feed" href="([^"]*)"'
    assert re.findall(found, english(server, "/").text) == ["/feed.atom"]
    page = english(server, "/?status=failure&text=main").text
    assert re.findall(found, page) == ["/feed.atom?status=failure&amp;text=main"]


def test_who_may_not_look_sees_no_badge(place: Place) -> None:
    server = place.configure_server()
    server.sections["users"] = {"ada": hash_password("pw")}
    server.start()
    basic = {"Authorization": "Basic " + base64.b64encode(b"ada:pw").decode()}
    for path in ("/badge.svg", "/badge.json", "/feed.atom", "/cc.xml"):
        assert server.get(path).status == 401
        assert server.get(path, basic).status == 200
