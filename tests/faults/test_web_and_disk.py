"""Faults 40 to 44: the web, secrets, and the disk."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlencode

import pytest

from tests.support.crashes import Hook
from tests.support.fakes import FakeAgent, FakeServer
from tests.support.harness import Place, ServerProcess, marked, wait_for

EVIL = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>'\x1b[31mred\x1b]0;t\x07\u202eevil"
PARAMS = {"commit": "HEAD", "command": "true"}


def assert_inert(page: str) -> None:
    assert "<script>alert" not in page and "<img src=x" not in page
    assert '"><img' not in page and "\x1b" not in page and "\x07" not in page


def test_fault_40_markup_and_escapes_in_every_field(place: Place) -> None:
    server = place.server(command=EVIL.replace("\x1b", "").replace("\x07", ""))
    agent = place.keep(FakeAgent(server, name="agent"))
    agent.register(name=EVIL)
    number = server.start_build("HEAD", f"echo {EVIL}")
    build = agent.wait_build()
    agent.output(build, "stdout", 0, EVIL.encode() * 3)
    pages = ["/", "/agents", f"/build/{number}", "/?status=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"]
    for path in pages:
        assert_inert(server.get(path).text)
    about = {"revision": EVIL, "subject": EVIL, "author": EVIL, "reason": EVIL}
    agent.result(build, 3, EVIL, EVIL, **about)
    for language in ("ru", "en"):
        for path in pages:
            page = server.get(path, {"Accept-Language": language}).text
            assert_inert(page)
    shown = server.get(f"/build/{number}").text
    assert shown.count("&lt;script&gt;alert(1)") >= 4, "shown: command, output, subject, reason"
    wrong = server.post("/build", {"commit": EVIL, "command": EVIL})
    assert wrong.status == 400, "what was typed stands in the fields, to the letter"
    assert_inert(wrong.text.replace("\x1b", "").replace("\x07", ""))
    assert "&lt;script&gt;" in wrong.text


def test_fault_40_json_in_pages_and_downloads_is_not_taken_for_markup(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build("HEAD", EVIL)
    agent.result(agent.wait_build(), 0, EVIL)
    for path in (f"/build/{number}/output", f"/api/builds/{number}", "/api/builds"):
        reply = server.get(path)
        assert "html" not in reply.header("Content-Type")
        assert reply.header("X-Content-Type-Options") == "nosniff"


def test_fault_40_every_answer_says_how_a_browser_may_treat_it(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build("HEAD", EVIL)
    agent.result(agent.wait_build(), 0, f"<!DOCTYPE html><html>{EVIL}", EVIL)
    texts = [f"/build/{number}/{view}" for view in ("output", "stdout", "stderr")]
    pages = ["/", "/agents", f"/build/{number}", "/nothing", "/build/9", "/?before=x"]
    others = ["/api/builds", "/healthz", "/static/minici.js", "/badge.svg", "/feed.atom", "/cc.xml"]
    for path in (*texts, *pages, *others):
        reply = server.get(path, {"Accept": "text/html,*/*"})
        policy = reply.header("Content-Security-Policy")
        assert "default-src 'none'" in policy and "unsafe-" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy and reply.header("X-Frame-Options") == "DENY"
        assert "base-uri 'none'" in policy and "form-action 'self'" in policy
        assert reply.header("X-Content-Type-Options") == "nosniff"
        # Nothing goes to other sites; with `no-referrer` our own forms would come without Origin.
        assert reply.header("Referrer-Policy") == "same-origin"
        assert ("text/html" in reply.header("Content-Type")) == (path in pages), path
        if path in texts:
            assert reply.header("Content-Type") == "text/plain; charset=utf-8"
        assert "Access-Control-Allow-Origin" not in reply.headers
        assert "Server" not in reply.headers, "which Python this is concerns nobody"
    refused = server.post("/build", PARAMS, Origin="https://evil.example")
    assert "default-src 'none'" in refused.header("Content-Security-Policy")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_fault_41_nothing_but_post_changes_anything(place: Place, method: str) -> None:
    server = place.server()
    agent = place.agent(place.keep(FakeServer()))
    server.start_build()
    before = server.api("/builds"), server.agents()
    query = urlencode(
        {**PARAMS, "id": 1, "attempt": 1, "status": 0, "host": "127.0.0.1", "port": 9}
    )
    paths = ["/build", "/api/builds", "/build/1/cancel", "/build/1/rebuild", "/agents/forget"]
    for path in (*paths, "/notify_agent", "/notify_build_result", "/notify_build_returned"):
        status = server.request(method, f"{path}?{query}").status
        assert status == 405 or (path == "/api/builds" and method in ("GET", "HEAD")), (
            path,
            status,
        )
    assert (server.api("/builds"), server.agents()) == before
    for path in ("/build", "/cancel"):
        build = f"{query}&repository={place.repository.path}"
        assert agent.request(method, f"{path}?{build}").status == 405
    assert agent.ping()["running"] == []


def test_fault_40_headers_can_not_be_made(place: Place) -> None:
    server = place.server()
    reply = server.request(
        "POST", "/build?" + urlencode({"commit": "a\r\nX-Evil: 1", "command": "x"})
    )
    assert reply.status == 400 and "X-Evil" not in reply.headers
    agent = place.keep(FakeAgent(server))
    assert agent.register(name="a\r\nX-Evil: 1").status in (200, 400)
    assert server.get("/agents").status == 200


def test_fault_41_another_site_and_a_foreign_host(place: Place) -> None:
    """All kinds of them stand in test_contract_3_wire.py; here they stand together."""
    server = place.server()
    agent = place.agent(server)
    server.start_build()
    server.wait_final(1)
    before = server.api("/builds")
    for path in ("/build", "/api/builds", "/build/1/rebuild", "/build/1/cancel", "/notify_agent"):
        params = {**PARAMS, "host": "127.0.0.1", "port": 9}
        assert server.post(path, params, Origin="https://evil.example").status == 403, path
        assert server.post(path, params, Sec_Fetch_Site="cross-site").status == 403, path
        assert server.post(path, params, Host="evil.example").status == 421, path
    build = {"id": 9, "repository": str(place.repository.path), **PARAMS}
    assert agent.post("/build", build, Origin=f"http://127.0.0.1:{agent.port}").status == 403
    assert agent.post("/build", build, Host="evil.example").status == 421
    assert server.api("/builds") == before and agent.ping()["running"] == []
    assert len(server.agents()) == 1


def test_fault_42_the_secret_is_nowhere(place: Place) -> None:
    word = "pst-keep-this-to-yourself"
    server = place.server(secret=word)
    agent = place.agent(server, secret=word)
    everybody = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null"
    look = f"env; {everybody}; ps axww -o args 2>/dev/null; echo; sleep 0.5"
    number = server.start_build(command=look)
    server.wait_status(number, "running")
    for pid in marked(place.marker):
        try:
            assert word.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid not in (server.pid, agent.pid):
                assert word.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    server.wait_final(number)
    assert word.encode() not in server.output(number)
    wrong = place.configure_agent(server, secret="a-wrong-one").start()
    wait_for(lambda: "secret" in wrong.log(), what="a word in the log")
    for path in ("/", "/agents", f"/build/{number}", "/api/builds", "/api/agents", "/nothing"):
        assert word not in server.get(path).text
    assert server.post("/notify_agent", {}, Authorization="Bearer x").status == 401
    for log in (server.log(), agent.log(), wrong.log()):
        assert word not in log and "a-wrong-one" not in log
    for process in (server, agent):
        for kept in process.data.rglob("*"):
            if kept.is_file() and not kept.is_symlink():
                assert word.encode() not in kept.read_bytes(), kept


# 43. The hook makes every step that needs space fail; where root may mount, a real small disk too.


class SmallDisk:
    """A folder on which space can be taken away and given back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def no_space(self) -> None:
        with open(self.ballast, "wb", buffering=0) as ballast:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        ballast.write(b"x" * size)
                except OSError:
                    continue

    def space(self) -> None:
        self.ballast.unlink()


Disk = tuple[ServerProcess, Callable[[], None], Callable[[], None]]


def can_mount() -> bool:
    return os.geteuid() == 0 and sys.platform == "linux" and shutil.which("mount") is not None


@pytest.fixture(params=["hook", "mounted"] if can_mount() else ["hook"])
def disk(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Iterator[Disk]:
    """A server, and how to fill its disk and to free it again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "hook":
        hook = Hook(place, folder)
        yield place.server(hook.env, data=folder / "data"), hook.no_space, hook.space
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=True)
    try:
        small = SmallDisk(folder)
        yield place.server(data=folder / "data"), small.no_space, small.space
    finally:
        place.processes[0].kill()
        subprocess.run(["umount", str(folder)], check=True)


def test_fault_43_no_space_left(place: Place, disk: Disk) -> None:
    server, no_space, space = disk
    agent = place.agent(server)
    gate = place.folder / "gate"
    command = f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
    number = server.start_build(command=command)
    wait_for(lambda: server.output(number) == b"begun\n", what="begun")
    before = server.api("/builds")["builds"]
    no_space()
    for path in ("/build", "/api/builds"):
        reply = server.post(path, PARAMS)
        assert reply.status == 503, reply
    health = server.get("/healthz")
    assert health.status == 503 and health.headers["Content-Type"].startswith("text/plain")
    assert health.body == b"the data folder can't be written: No space left on device\n"
    assert server.get("/").status == 200
    assert server.api("/builds")["builds"] == before
    gate.touch()
    wait_for(lambda: agent.ping()["undelivered"], what="the result kept by the agent")
    time.sleep(1)
    assert server.build(number)["status"] == "running" and server.alive
    space()
    wait_for(lambda: server.get("/healthz").status == 200, what="healthy again")
    known = server.wait_final(number, within=60)
    assert known["status"] == "success" and known["attempt"] == 1
    assert server.output(number) == b"begun\ndone\n"
    assert server.wait_final(server.start_build(command="echo after"))["status"] == "success"


def test_fault_43_while_builds_are_queued(place: Place, disk: Disk) -> None:
    """What can't be written as assigned is not assigned, and goes by itself when it can."""
    server, no_space, space = disk
    numbers = [server.start_build() for _ in range(3)]
    no_space()
    agent = place.keep(FakeAgent(server, register=False))
    assert agent.register().status in (200, 503)
    time.sleep(1)
    assert not agent.builds and server.alive
    space()
    wait_for(lambda: agent.register().status == 200, what="the agent registered")
    for count, number in enumerate(numbers, 1):
        build = agent.wait_build(count)
        assert int(build["id"]) == number and agent.result(build).status == 200


def test_fault_43_of_an_agent(place: Place) -> None:
    """An agent without space fails no build that it has not tried, and recovers."""
    folder = place.folder / "agent-disk"
    hook = Hook(place, folder)
    server = place.server()
    agent = place.agent(server, hook.env, data=folder)
    assert server.wait_final(server.start_build())["status"] == "success"
    hook.no_space()
    number = server.start_build(command="echo text")
    time.sleep(1.5)
    assert agent.alive
    hook.space()
    known = server.wait_final(number)
    assert known["status"] in ("success", "failure")
    if known["status"] == "failure":
        assert "space" in known["reason"]
    assert server.wait_final(server.start_build())["status"] == "success"


# 44.


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def _record_is_a_folder(folder: Path) -> None:
    (folder / "build.json").unlink()
    (folder / "build.json").mkdir()


def _unreadable(folder: Path) -> None:
    os.chmod(folder / "build.json", 0)  # root reads it all the same: then it is simply well


@pytest.mark.parametrize("damage", [_gone, _a_file, _record_is_a_folder, _unreadable])
@pytest.mark.parametrize("restarted", [False, True])
def test_fault_44_one_builds_folder(
    place: Place, damage: Callable[[Path], None], restarted: bool
) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    for count in (1, 2, 3):
        server.start_build(command=f"echo {count}")
        agent.result(agent.wait_build(count), 0, f"{count}\n")
    if restarted:
        server.stop()
    damage(server.data / "builds" / "2")
    if restarted:
        server.restart()
    page = server.get("/")
    assert page.status == 200 and "build/1" in page.text and "build/3" in page.text
    assert {1, 3} <= {build["id"] for build in server.api("/builds")["builds"]}
    for path in ("/build/2", "/build/2/output", "/api/builds/2", "/build/2/live"):
        assert server.get(path).status in (200, 404, 500), path
    assert "Internal" not in server.get("/build/2").text
    assert server.output(3) == b"3\n" and server.build(1)["status"] == "success"
    assert server.start_build() == 4
    assert agent.result(agent.wait_build(4)).status == 200


@pytest.mark.parametrize("damage", [_gone, _a_file, _record_is_a_folder])
def test_fault_44_of_a_build_that_waits(place: Place, damage: Callable[[Path], None]) -> None:
    server = place.server()
    for count in (1, 2, 3):
        server.start_build(command=f"echo {count}")
    server.kill()
    damage(server.data / "builds" / "2")
    server.restart()
    agent = place.keep(FakeAgent(server))
    for count, number in ((1, 1), (2, 3)):
        build = agent.wait_build(count)
        assert int(build["id"]) == number and agent.result(build).status == 200
    assert server.get("/").status == 200
    assert server.start_build() == 4


def test_fault_44_of_a_build_that_runs(place: Place) -> None:
    """Its folder goes while it runs: its result can't be kept, all else can."""
    server = place.server()
    agent = place.keep(FakeAgent(server, slots=2))
    server.start_build()
    first = agent.wait_build(1)
    server.start_build()
    second = agent.wait_build(2)  # started after the first one came: they come in any order
    shutil.rmtree(server.data / "builds" / "1")
    agent.result(first, 0, "lost with its folder")
    assert agent.result(second, 0, "kept").status == 200
    assert server.output(2) == b"kept" and server.get("/").status == 200


def test_a_fake_server_is_no_agent(place: Place) -> None:
    """The server may be told of something that is no agent: no harm."""
    server = place.server()
    other = place.keep(FakeServer())
    reply = server.post("/notify_agent", {"host": "127.0.0.1", "port": other.port})
    assert reply.status == 200
    number = server.start_build()

    def refused() -> bool:
        known = server.build(number)
        return bool(known["attempts"]) and known["attempts"][0]["ending"] == "refused"

    wait_for(refused, what="a refusal")
    assert server.build(number)["status"] in ("queued", "running")


# Outputs whose files are not what they were.


def finished_build(server: ServerProcess, agent: FakeAgent) -> Path:
    """A build that wrote in turn to both streams; the folder of its output."""
    server.start_build()
    build = agent.wait_build()
    ends = {"stdout": 0, "stderr": 0}
    for number in range(12):
        stream = ("stdout", "stderr")[number % 3 == 0]
        data = b"%s %d\n" % (stream.encode(), number)
        assert agent.output(build, stream, ends[stream], data).status == 200
        ends[stream] += len(data)
        time.sleep(0.011)  # so that each is a record of its own
    offsets = {f"{stream}_offset": end for stream, end in ends.items()}
    assert agent.result(build, 0, "", "", **offsets).status == 200
    return server.data / "builds" / "1" / "1"


def changes(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    timeline = (folder / "timeline").read_bytes()
    flipped = bytearray(timeline)
    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    made = [
        timeline + b"\0" * 24,
        timeline + b"\xff" * 24,
        timeline + (134_217_728).to_bytes(8, "little") * 3,
        b"\xff" * len(timeline),
        timeline[: chance.randrange(len(timeline))],
        bytes(flipped),
        bytes(flipped),
    ]
    (folder / "timeline").write_bytes(made[seed % len(made)])
    if chance.random() < 0.3:
        stream = folder / chance.choice(["stdout", "stderr"])
        stream.write_bytes(chance.choice([b"", stream.read_bytes() * 2, stream.read_bytes()[:9]]))


READ = [
    "/build/1",
    "/build/1?line=3",
    "/build/1?at=5",
    "/build/1?to=40&find=std",
    "/build/1/output",
    "/build/1/stdout",
    "/build/1/stderr",
    "/build/1/find?text=std",
    "/api/builds/1",
]


def test_fault_62_whatever_a_timeline_says_answers_are_whole_and_quick(place: Place) -> None:
    server = place.server()
    folder = finished_build(server, place.keep(FakeAgent(server)))
    sound = {name: (folder / name).read_bytes() for name in ("timeline", "stdout", "stderr")}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    for seed in range(42):
        for name, data in sound.items():
            (folder / name).write_bytes(data)
        changes(folder, seed)
        for path in READ:
            for headers in ({}, {"Range": "bytes=3-20"}, {"Range": "bytes=-7"}):
                begun = time.monotonic()
                connection.request("GET", path, headers=headers)
                reply = connection.getresponse()
                assert len(reply.read()) == int(reply.headers["Content-Length"]), (seed, path)
                assert reply.status in (200, 206, 416), (seed, path)
                assert time.monotonic() - begun < 2, (seed, path)
        events = server.live(1).all()
        assert events[-1].kind == "status", seed
    connection.close()


NUMBERS = ("attempt", "stdout_bytes", "stderr_bytes", "dropped_bytes", "exit_status")


@pytest.mark.parametrize("value", [-1, 10**30, 2**63, 1.5, "7"])
def test_fault_62_whatever_number_a_record_has_answers_are_quick(place: Place, value: Any) -> None:
    """Either it is believed, or the record is called damaged; every other page is as before."""
    server = place.server()
    record = finished_build(server, place.keep(FakeAgent(server))).parent / "build.json"
    sound = json.loads(record.read_bytes())
    for name in NUMBERS:
        record.write_text(json.dumps({**sound, name: value}))
        damaged = "damaged" in server.build(1)
        for path in ("/", "/api/builds", "/metrics", "/feed.atom", "/build/1", *READ):
            begun = time.monotonic()
            reply = server.get(path)
            served = path.startswith("/build/1/") and damaged
            assert reply.status == (500 if served else 200), (name, path)
            assert time.monotonic() - begun < 2, (name, path)


def test_fault_62_the_page_says_that_an_output_is_damaged(place: Place) -> None:
    server = place.server()
    folder = finished_build(server, place.keep(FakeAgent(server)))
    sentence = "timeline and its streams contradict each other"
    english = {"Accept-Language": "en"}
    assert sentence not in server.get("/build/1", english).text
    sound = (folder / "timeline").read_bytes()
    (folder / "timeline").write_bytes(sound + (134_217_728).to_bytes(8, "little") * 3)
    page = server.get("/build/1", english).text
    assert sentence in page and "stdout 11" in page and "stderr 9" in page
    there = (folder / "stdout").read_bytes() + (folder / "stderr").read_bytes()
    assert server.output(1) == there
    (folder / "timeline").write_bytes(sound)
    assert sentence not in server.get("/build/1", english).text
    (folder / "stdout").write_bytes(b"cut")
    assert sentence in server.get("/build/1", english).text
    assert server.output(1, "stdout") == b"cut"
