"""Section 3 of the contract: pages, files, the live stream and JSON, for people and programs."""

from __future__ import annotations

import html
import re
import shutil
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fakes import Call, FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for
from tests.support.http_client import fetch, text_of

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
WORDS = {
    "success": ("Успешно", "Success"),
    "failure": ("Неуспешно", "Failure"),
    "queued": ("В очереди", "Queued"),
    "running": ("Выполняется", "Running"),
    "lost": ("Потеряна", "Lost"),
    "cancelled": ("Отменена", "Cancelled"),
}
KEYS = {
    "id",
    "status",
    "reason",
    "commit",
    "revision",
    "subject",
    "author",
    "command",
    "repository",
    "queued_at",
    "started_at",
    "finished_at",
    "exit_status",
    "agent",
    "attempt",
    "attempts",
    "stdout_bytes",
    "stderr_bytes",
    "dropped_bytes",
}


@pytest.fixture(scope="module")
def world(shared: Place) -> dict[str, int]:
    """A server with a build in every status; the builds by status."""
    server = shared.server(max_attempts=1)
    agent = shared.keep(FakeAgent(server))
    found = {}
    for status, code in (("success", 0), ("failure", 2)):
        found[status] = server.start_build("main", f"echo {status}")
        build = agent.wait_build(len(found))
        agent.output(build, "stdout", 0, b"one\n")
        agent.output(build, "stderr", 0, b"two \xff\n")
        agent.result(build, code, "three\n", stdout_offset=4, stderr_offset=6)
    found["lost"] = server.start_build()
    agent.forget(agent.wait_build(3))
    server.wait_status(found["lost"], "lost")
    found["running"] = server.start_build(command="sleep 1")
    agent.output(agent.wait_build(4), "stdout", 0, b"so far\n")
    found["cancelled"] = server.start_build()
    server.post(f"/build/{found['cancelled']}/cancel")
    found["queued"] = server.start_build(command="echo <waiting>")
    return found


@pytest.fixture(scope="module")
def server(shared: Place, world: dict[str, int]) -> ServerProcess:
    found = shared.processes[0]
    assert isinstance(found, ServerProcess)
    return found


@pytest.fixture
def own(place: Place) -> ServerProcess:
    """A server of this test alone."""
    return place.server()


@pytest.fixture
def agent(place: Place, own: ServerProcess) -> FakeAgent:
    return place.keep(FakeAgent(own))


# The list.


def test_the_front_page_has_the_form_and_the_builds(server: ServerProcess) -> None:
    reply = server.get("/", {"Accept-Language": "en"})
    assert reply.status == 200
    assert reply.header("Content-Type").lower() == "text/html; charset=utf-8"
    page = reply.text
    assert re.search(r'<form[^>]*method="post"[^>]*action="(/|)build"', page) or re.search(
        r'<form[^>]*action="(/|)build"[^>]*method="post"', page
    )
    assert 'name="commit"' in page and 'name="command"' in page and "Start build" in page
    numbers = [int(n) for n in re.findall(r'href="/?build/(\d+)"', page)]
    assert sorted(set(numbers), reverse=True) == list(dict.fromkeys(numbers)) == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("status", WORDS)
def test_statuses_are_shown_in_words(
    server: ServerProcess, world: dict[str, int], status: str
) -> None:
    for language, word in zip(("ru", "en"), WORDS[status]):
        headers = {"Accept-Language": language}
        assert word in server.get(f"/build/{world[status]}", headers).text
        assert word in server.get("/", headers).text


@pytest.mark.parametrize("status", WORDS)
def test_status_is_a_filter(server: ServerProcess, world: dict[str, int], status: str) -> None:
    found = server.api(f"/builds?status={status}")["builds"]
    assert [build["id"] for build in found] == [world[status]]
    page = server.get(f"/?status={status}").text
    assert set(re.findall(r'href="/?build/(\d+)"', page)) == {str(world[status])}


def test_an_unknown_status_is_400(server: ServerProcess) -> None:
    assert server.get("/?status=nonsense").status == 400
    server.get("/api/builds?status=nonsense").error()


def test_pages_go_on_where_the_last_one_ended(own: ServerProcess) -> None:
    for _ in range(120):
        own.start_build()
    before, pages = 121, 0
    while before > 1:
        page = own.get("/" if before == 121 else f"/?before={before}").text
        shown = {int(n) for n in re.findall(r'href="/?build/(\d+)"', page)}
        links = {int(n) for n in re.findall(r'href="/?\?[^"]*before=(\d+)', page)}
        older = min(links) if links and min(links) < before else 1
        assert max(shown) == before - 1 and shown >= set(range(older, before))
        before, pages = older, pages + 1
    assert pages > 1


def test_the_api_gives_pages_with_the_next_url(own: ServerProcess) -> None:
    for _ in range(7):
        own.start_build()
    first = own.api("/builds?limit=3")
    assert [b["id"] for b in first["builds"]] == [7, 6, 5]
    seen: list[int] = []
    where = "/api/builds?limit=3&status=queued"
    while where:
        reply = own.get(where).json()
        seen.extend(b["id"] for b in reply["builds"])
        split = urlsplit(reply["next"] or "")
        where = f"{split.path}?{split.query}" if reply["next"] else ""
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert [b["id"] for b in own.api("/builds?before=3")["builds"]] == [2, 1]
    assert own.api("/builds?before=1") == {"builds": [], "next": None}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=-1", "before=x", "before=-1", "limit=1_0"]
)
def test_a_wrong_page_is_400(server: ServerProcess, query: str) -> None:
    reply = server.get(f"/api/builds?{query}")
    assert reply.status == 400
    reply.error()


def test_a_page_has_a_thousand_builds_at_most(own: ServerProcess) -> None:
    own.start_build()
    assert [b["id"] for b in own.api("/builds?limit=100000")["builds"]] == [1]


# Starting a build.


def test_starting_leads_to_the_build(own: ServerProcess) -> None:
    reply = own.post("/build", {"commit": "main", "command": "make\r\ntest\r\n"})
    assert reply.status == 303 and urlsplit(reply.header("Location")).path == "/build/1"
    build = own.build(1)
    assert build["commit"] == "main" and build["command"] == "make\ntest\n"
    assert (own.data / "builds" / "1" / "build.json").exists()
    assert own.get("/build/1").status == 200


def test_the_api_answers_201_with_location_and_build(own: ServerProcess) -> None:
    reply = own.post("/api/builds", {"commit": "main", "command": "a\r\nb"})
    assert reply.status == 201 and reply.header("Location") == "/api/builds/1"
    assert reply.json() == own.build(1)
    assert reply.json()["command"] == "a\nb"


@pytest.mark.parametrize(
    ("commit", "command"),
    [
        ("", "true"),
        ("-x", "true"),
        ("--upload-pack=touch X", "true"),
        ("a b", "true"),
        ("a\nb", "true"),
        ("a\0b", "true"),
        ("x" * 10_000, "true"),
        ("HEAD", ""),
        ("HEAD", "  \n"),
        ("HEAD", "a\0b"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_kept(
    server: ServerProcess, commit: str, command: str
) -> None:
    before = server.api("/builds")
    reply = server.post("/build", {"commit": commit, "command": command or ""})
    assert reply.status == 400 and 'name="commit"' in reply.text
    if command.strip() and "\0" not in command:
        assert html.escape(command) in reply.text
    if commit and "\0" not in commit and "\n" not in commit and len(commit) < 100:
        assert f'value="{html.escape(commit)}"' in reply.text
    reply = server.post("/api/builds", {"commit": commit, "command": command})
    assert reply.status == 400
    reply.error()
    assert server.api("/builds") == before


def test_a_missing_parameter_is_400(server: ServerProcess) -> None:
    for params in ({}, {"commit": "HEAD"}, {"command": "true"}):
        assert server.post("/api/builds", params).status == 400
        assert server.post("/build", params).status == 400


def test_a_full_queue_is_503_with_retry_after(place: Place) -> None:
    server = place.server(max_queue=2)
    params = {"commit": "HEAD", "command": "true"}
    assert [server.post("/build", params).status for _ in range(2)] == [303, 303]
    for path in ("/build", "/api/builds"):
        reply = server.post(path, params)
        assert reply.status == 503 and int(reply.header("Retry-After")) > 0
    assert len(server.api("/builds")["builds"]) == 2
    server.post("/build/1/cancel")
    assert server.post("/build", params).status == 303


# One build.


def test_the_page_of_a_build_says_everything(server: ServerProcess) -> None:
    page = server.get("/build/2", {"Accept-Language": "en"}).text
    build = server.build(2)
    for word in ("main", "echo failure", "fake", build["repository"], "three"):
        assert word in page, word


def test_a_page_escapes_what_people_write(server: ServerProcess, world: dict[str, int]) -> None:
    for path in ("/", f"/build/{world['queued']}"):
        page = server.get(path).text
        assert "echo &lt;waiting&gt;" in page and "<waiting>" not in page


@pytest.mark.parametrize("path", ["", "/output", "/stdout", "/stderr", "/live"])
def test_a_build_that_is_not_there_is_404(server: ServerProcess, path: str) -> None:
    assert server.get(f"/build/999{path}").status == 404


@pytest.mark.parametrize("path", ["/cancel", "/rebuild"])
def test_nothing_is_done_to_a_build_that_is_not_there(server: ServerProcess, path: str) -> None:
    assert server.post(f"/build/999{path}").status == 404


# Output.


def test_output_is_text_exactly_as_written(server: ServerProcess) -> None:
    for stream, data in (
        ("stdout", b"one\nthree\n"),
        ("stderr", b"two \xff\n"),
        ("output", b"one\ntwo \xff\nthree\n"),
    ):
        reply = server.get(f"/build/1/{stream}")
        assert reply.status == 200 and reply.body == data
        assert reply.header("Content-Type").startswith("text/plain")
        assert int(reply.header("Content-Length")) == len(data)
        assert reply.header("Accept-Ranges") == "bytes"


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-2", 206, b"one", "bytes 0-2/10"),
        ("bytes=4-", 206, b"three\n", "bytes 4-9/10"),
        ("bytes=-3", 206, b"ee\n", "bytes 7-9/10"),
        ("bytes=4-999", 206, b"three\n", "bytes 4-9/10"),
        ("bytes=-999", 206, b"one\nthree\n", "bytes 0-9/10"),
        ("bytes=9-9", 206, b"\n", "bytes 9-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=4-" + "9" * 30, 206, b"three\n", "bytes 4-9/10"),
        ("bytes=" + "9" * 30 + "-", 416, None, "bytes */10"),
        ("Bytes=0-2", 206, b"one", "bytes 0-2/10"),
        ("bytes=5-2", 200, b"one\nthree\n", None),
        ("lines=1-2", 200, b"one\nthree\n", None),
        ("bytes=x-y", 200, b"one\nthree\n", None),
        ("bytes=١-٢", 200, b"one\nthree\n", None),
    ],
)
def test_ranges(
    server: ServerProcess, wanted: str, status: int, body: Any, content_range: Any
) -> None:
    headers = {"Range": wanted.encode().decode("latin-1")}
    reply = server.get("/build/1/stdout", headers)
    assert reply.status == status, reply
    assert reply.headers.get("Content-Range") == content_range
    if body is not None:
        assert reply.body == body


@pytest.mark.parametrize("stream", ["output", "stderr"])
def test_ranges_of_the_other_streams(server: ServerProcess, stream: str) -> None:
    whole = server.output(1, stream)
    reply = server.get(f"/build/1/{stream}", {"Range": "bytes=2-5"})
    assert reply.status == 206 and reply.body == whole[2:6]


def test_output_of_an_earlier_attempt(own: ServerProcess, agent: FakeAgent) -> None:
    own.start_build()
    first = agent.wait_build()
    agent.output(first, "stdout", 0, b"of the first\n")
    agent.returned(first)
    second = agent.wait_build(2)
    assert own.output(1) == b""
    agent.result(second, 0, "of the second\n")
    assert own.output(1) == own.output(1, attempt=2) == b"of the second\n"
    assert own.output(1, attempt=1) == own.output(1, "stdout", 1) == b"of the first\n"
    assert own.get("/build/1/output?attempt=3").status == 404
    assert own.get("/build/1/output?attempt=0").status in (400, 404)
    assert own.get("/build/1/output?attempt=x").status in (400, 404)


def test_output_of_a_queued_build_is_empty(server: ServerProcess, world: dict[str, int]) -> None:
    assert server.output(world["queued"]) == b""


# The live stream.


def test_the_live_stream_of_a_final_build(server: ServerProcess) -> None:
    events = server.live(1)
    assert events.response.status == 200
    assert events.response.headers["Content-Type"].startswith("text/event-stream")
    received = events.all()
    assert [event.kind for event in received if event.kind != "output"] == ["status"]
    assert received[-1].kind == "status" and received[-1].data == server.build(1)
    assert text_of(received) == "one\ntwo \ufffd\nthree\n"
    assert text_of(received, "stderr") == "two \ufffd\n"
    for event in received[:-1]:
        assert set(event.data) == {"stream", "seconds", "text"} and event.id
        assert isinstance(event.data["seconds"], (int, float)) and event.data["seconds"] >= 0


def test_live_output_comes_as_it_comes(own: ServerProcess, agent: FakeAgent) -> None:
    own.start_build()
    build = agent.wait_build()
    events = own.live(1)
    agent.output(build, "stdout", 0, b"first")
    assert events.next_output().data["text"] == "first"
    agent.output(build, "stderr", 0, b"second")
    event = events.next_output()
    assert (event.data["stream"], event.data["text"]) == ("stderr", "second")
    agent.result(build, 1, " third", stdout_offset=5, stderr_offset=6)
    rest = events.all()
    assert text_of(rest) == " third"
    assert rest[-1].data["status"] == "failure"


def test_a_watcher_of_a_queued_build_sees_all(own: ServerProcess, place: Place) -> None:
    own.start_build()
    events = own.live(1)
    agent = place.keep(FakeAgent(own))
    agent.result(agent.wait_build(), 0, "text\n")
    received = events.all()
    assert text_of(received) == "text\n" and received[-1].data["status"] == "success"


def test_a_character_cut_between_pieces_is_whole(own: ServerProcess, agent: FakeAgent) -> None:
    own.start_build()
    build = agent.wait_build()
    data = "aüя😀z".encode()
    events = own.live(1)
    for place, byte in enumerate(data):
        agent.output(build, "stdout", place, bytes([byte]))
    agent.result(build, 0, "", stdout_offset=len(data))
    assert text_of(events.all()) == "aüя😀z"


def test_bytes_that_are_no_utf8_are_shown_as_such(own: ServerProcess, agent: FakeAgent) -> None:
    own.start_build()
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"a\xffb\xe2\x82")
    agent.result(build, 0, "", stdout_offset=5)
    text = text_of(own.live(1).all())
    assert text.startswith("a\ufffdb\ufffd") and set(text[3:]) == {"\ufffd"}
    assert own.output(1, "stdout") == b"a\xffb\xe2\x82"


def test_last_event_id_goes_on_exactly(own: ServerProcess, agent: FakeAgent) -> None:
    own.start_build()
    build = agent.wait_build()
    placed = {"stdout": 0, "stderr": 0}
    for count in range(30):
        stream = "stderr" if count % 3 == 2 else "stdout"
        data = f"{count}:ü😀\n".encode()
        agent.output(build, stream, placed[stream], data)
        placed[stream] += len(data)
    offsets = {f"{stream}_offset": offset for stream, offset in placed.items()}
    agent.result(build, 0, "", "", **offsets)
    whole = own.live(1).all()
    everything = [(e.data["stream"], e.data["text"]) for e in whole if e.kind == "output"]
    for place, event in enumerate(whole[:-1]):
        rest = own.live(1, event.id).all()
        assert text_of(rest) == text_of(whole[place + 1 :]), event
        for stream in placed:
            assert text_of(rest, stream) == text_of(whole[place + 1 :], stream)
        assert rest[-1].kind == "status"
    assert "".join(text for _, text in everything) == own.output(1).decode()


def test_last_event_id_goes_on_while_it_runs(own: ServerProcess, agent: FakeAgent) -> None:
    own.start_build()
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"one")
    events = own.live(1)
    seen = events.next_output()
    events.close()
    agent.output(build, "stdout", 3, b"two")
    events = own.live(1, seen.id)
    assert events.next_output().data["text"] == "two"
    agent.result(build, 0, "", stdout_offset=6)
    assert text_of(events.all()) == ""


def test_fault_56_what_git_says_is_live_before_the_output(
    own: ServerProcess, agent: FakeAgent
) -> None:
    own.start_build()
    build = agent.wait_build()
    events = own.live(1)
    said = "Получаю 1%\r".encode()
    agent.output(build, "checkout", 0, said[:13])
    first = events.next_output()
    assert (first.data["stream"], first.data["text"]) == ("checkout", "Получа")
    agent.output(build, "checkout", 13, said[13:])
    assert events.next_output().data["text"] == "ю 1%\r"
    events.close()
    agent.output(build, "stdout", 0, b"out\n")
    agent.output(build, "checkout", 18, b"done\n")
    agent.result(build, 0, "", stdout_offset=4)
    whole = own.live(1).all()
    assert text_of(whole, "checkout") == "Получаю 1%\rdone\n"
    assert text_of(whole, "stdout") == "out\n" and whole[0].data["stream"] == "checkout"
    rest = own.live(1, first.id).all()
    assert text_of(rest, "checkout") == "ю 1%\rdone\n" and text_of(rest, "stdout") == "out\n"
    assert text_of(own.live(1, whole[-2].id).all()) == ""
    old = own.live(1, "1-4-0").all()  # as a server named it that showed no checkouts
    assert text_of(old, "checkout") == "Получаю 1%\rdone\n" and text_of(old, "stdout") == ""


def test_live_output_goes_on_past_the_limit(place: Place) -> None:
    server = place.server(output_limit=20)
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    events = server.live(1)
    lines = [f"line {count}\n".encode() for count in range(10)]
    seen = []
    for count, line in enumerate(lines):
        agent.output(build, "stdout", 7 * count, line)
        seen.append(events.next_output())
        assert seen[-1].data["text"].encode() == line
    agent.result(build, 0, "", stdout_offset=70)
    assert text_of(events.all()) == ""
    assert text_of(server.live(1, seen[-2].id).all()) == "line 9\n"
    late = text_of(server.live(1, seen[4].id).all())
    assert late == "\n[minici: 25 bytes dropped]\n 8\nline 9\n"
    assert text_of(server.live(1).all()).encode() == server.output(1)


@pytest.mark.parametrize("last", ["nonsense", "999:999", "-1", "9" * 4000])
def test_a_last_event_id_that_never_was_is_no_error(server: ServerProcess, last: str) -> None:
    received = server.live(1, last).all()
    assert received[-1].kind == "status"


def test_a_new_attempt_starts_the_live_stream_again(own: ServerProcess, agent: FakeAgent) -> None:
    """What is shown in the end is the output of the attempt that counts, and no more."""
    own.start_build()
    first = agent.wait_build()
    agent.output(first, "stdout", 0, b"of the first\n")
    agent.returned(first)
    second = agent.wait_build(2)
    events = own.live(1)
    agent.result(second, 0, "of the second\n")
    assert text_of(events.all()) == "of the second\n"


def test_the_live_stream_of_a_build_that_is_removed_ends(
    own: ServerProcess, agent: FakeAgent
) -> None:
    own.start_build()
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"text")
    events = own.live(1)
    assert events.next_output().data["text"] == "text"
    shutil.rmtree(own.data / "builds" / "1")
    assert agent.output(build, "stdout", 4, b"more").status == 422
    assert events.all() == []


# Cancel and rebuild.


def test_cancel_leads_back_to_the_build(own: ServerProcess) -> None:
    own.start_build()
    reply = own.post("/build/1/cancel")
    assert reply.status == 303 and urlsplit(reply.header("Location")).path == "/build/1"
    assert own.build(1)["status"] == "cancelled"


@pytest.mark.parametrize("status", ["success", "failure", "lost", "cancelled"])
def test_to_cancel_a_final_build_changes_nothing(
    server: ServerProcess, world: dict[str, int], status: str
) -> None:
    before = server.build(world[status])
    assert server.post(f"/build/{world[status]}/cancel").status == 303
    assert server.build(world[status]) == before


def test_rebuild_leads_to_a_new_build_of_the_same(own: ServerProcess, agent: FakeAgent) -> None:
    own.start_build("topic", "echo it")
    agent.result(agent.wait_build(), 1)
    reply = own.post("/build/1/rebuild")
    assert reply.status == 303 and urlsplit(reply.header("Location")).path == "/build/2"
    again = own.build(2)
    assert again["command"] == "echo it" and again["status"] in ("queued", "running")
    assert own.build(1)["status"] == "failure"


def test_rebuild_into_a_full_queue_is_503(place: Place) -> None:
    server = place.server(max_queue=1)
    server.start_build()
    reply = server.post("/build/1/rebuild")
    assert reply.status == 503 and int(reply.header("Retry-After")) > 0


# Agents.


def test_agents_are_shown_with_what_they_run(own: ServerProcess, agent: FakeAgent) -> None:
    agent.register(name="<b>bold</b>", slots=3)
    own.start_build()
    agent.wait_build()
    known = wait_for(
        lambda: next((a for a in own.agents() if a["running"]), None), what="an agent that runs"
    )
    assert known is not None and known["name"] == "<b>bold</b>" and known["slots"] == 3
    assert "1" in str(known["running"]) and agent.address in str(known)
    page = own.get("/agents").text
    assert "&lt;b&gt;bold" in page and "<b>bold" not in page
    assert agent.address in page and re.search(r'href="/?build/1"', page)


def test_agents_say_when_they_were_last_heard(own: ServerProcess, agent: FakeAgent) -> None:
    agent.wait_pings(2)
    (before,) = own.agents()
    assert TIME.match(before["last_heard"])
    agent.wait_pings(2)
    (after,) = own.agents()
    assert after["last_heard"] > before["last_heard"]
    agent.close()
    wait_for(lambda: own.agents() != [after], what="a word that it is gone")


class FullAgent(FakeAgent):
    """An agent whose disk is full."""

    def answer(self, call: Call) -> Any:
        answer = super().answer(call)
        if call.path == "/ping":
            return answer[0], {**answer[1], "trouble": "no space left"}
        return answer


def test_agents_say_why_they_take_no_builds(own: ServerProcess, place: Place) -> None:
    agent = place.keep(FullAgent(own))
    agent.wait_pings(2)
    wait_for(lambda: [each["trouble"] for each in own.agents()] == ["no space left"])
    assert "no space left" in own.get("/agents").text


# JSON.


def test_a_build_as_json(server: ServerProcess) -> None:
    build = server.build(2)
    assert set(build) >= KEYS
    assert isinstance(build["id"], int) and build["status"] == "failure"
    for key in ("queued_at", "started_at", "finished_at"):
        assert TIME.match(build[key]), key
    assert build["queued_at"] <= build["started_at"] <= build["finished_at"]
    assert build["exit_status"] == 2 and build["agent"] == "fake" and build["attempt"] == 1
    assert (build["stdout_bytes"], build["stderr_bytes"], build["dropped_bytes"]) == (10, 6, 0)
    assert build["repository"] == str(server.place.repository.path)
    (attempt,) = build["attempts"]
    assert (
        attempt["attempt"] == 1 and attempt["agent"] == "fake" and attempt["ending"] == "finished"
    )
    assert TIME.match(attempt["started_at"]) and TIME.match(attempt["finished_at"])


def test_what_is_not_yet_is_null(server: ServerProcess, world: dict[str, int]) -> None:
    queued = server.build(world["queued"])
    assert set(queued) >= KEYS
    for key in ("started_at", "finished_at", "exit_status", "agent", "revision", "reason"):
        assert queued[key] is None, key
    assert queued["attempts"] == [] and queued["stdout_bytes"] == 0
    running = server.build(world["running"])
    assert running["finished_at"] is None and running["started_at"]
    (attempt,) = running["attempts"]
    assert attempt["ending"] is None and attempt["finished_at"] is None


def test_the_list_has_whole_builds(server: ServerProcess) -> None:
    for build in server.api("/builds")["builds"]:
        assert build == server.build(build["id"])


def test_bytes_of_a_running_build_count_up(server: ServerProcess, world: dict[str, int]) -> None:
    assert server.build(world["running"])["stdout_bytes"] == 7


def test_json_is_json(server: ServerProcess) -> None:
    for path in ("/api/builds", "/api/builds/1", "/api/agents"):
        assert server.get(path).header("Content-Type").startswith("application/json")


def test_healthz_is_ok(server: ServerProcess) -> None:
    reply = server.get("/healthz")
    assert reply.status == 200 and reply.text == "ok"


def test_words_typed_into_a_path_are_404_and_never_500(server: ServerProcess) -> None:
    for path in (
        "/static/../build.py",
        "/static/%2e%2e/build.py",
        "/..%2f",
        "/%00",
        "/build",
        "//",
        "/?before=" + "9" * 5000,
    ):
        reply = fetch(("127.0.0.1", server.port), "GET", path)
        assert reply.status in (200, 301, 400, 404, 405), (path, reply)
