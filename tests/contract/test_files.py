"""Rule 19 of the contract and `/notify_build_file`: the server's side, by scripts."""

from __future__ import annotations

import contextlib
import io
import json
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.crashes import Hook, crash_at_every_step
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for

LONG = "/".join(["n" * 200] * 4 + ["m" * 196])  # 1,000 bytes


@pytest.fixture
def server(place: Place) -> ServerProcess:
    return place.server(files_limit=1000)


@pytest.fixture
def agent(place: Place, server: ServerProcess) -> FakeAgent:
    return place.keep(FakeAgent(server))


@pytest.fixture
def build(server: ServerProcess, agent: FakeAgent) -> dict[str, str]:
    server.start_build()
    return agent.wait_build()


def listed(server: ServerProcess, number: int = 1) -> dict[str, int]:
    return {each["path"]: each["bytes"] for each in server.build(number)["files"]}


def content(server: ServerProcess, path: str, number: int = 1) -> bytes:
    reply = server.get(f"/build/{number}/files/{quote(path)}")
    assert reply.status == 200, reply
    return reply.body


def test_rule_19_a_file_is_there_once_its_result_is(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    assert build["files_limit"] == "1000"
    assert agent.file(build, "a/b.txt", 0, b"first ").json() == {"next": 6}
    assert agent.file(build, "a/b.txt", 6, b"last", last=True).json() == {"next": 10}
    assert agent.file(build, "empty", 0, b"", last=True).json() == {"next": 0}
    assert listed(server) == {} and server.get("/build/1/files/empty").status == 404
    assert agent.result(build).status == 200
    assert listed(server) == {"a/b.txt": 10, "empty": 0}
    assert content(server, "a/b.txt") == b"first last" and content(server, "empty") == b""


def test_rule_19_a_file_without_its_last_piece_is_none(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    assert agent.file(build, "half", 0, b"h").status == 200
    assert agent.file(build, "whole", 0, b"w", last=True).status == 200
    agent.result(build)
    assert listed(server) == {"whole": 1}
    assert server.get("/build/1/files/half").status == 404
    assert len(list((server.data / "builds/1/1/files").iterdir())) == 2, "its bytes are gone"


def test_pieces_are_taken_once_and_in_order(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    def refused(offset: int, data: bytes, have: int, last: bool = False) -> None:
        reply = agent.file(build, "f", offset, data, last)
        assert reply.status == 409 and reply.json()["next"] == have, reply

    refused(5, b"later", 0)
    assert agent.file(build, "f", 0, b"0123").json() == {"next": 4}
    refused(0, b"0123", 4)
    refused(2, b"2345", 4)
    refused(0, b"0123", 4, last=True)
    assert agent.file(build, "f", 4, b"45", last=True).json() == {"next": 6}
    assert agent.file(build, "f", 4, b"45", last=True).json() == {"next": 6}, "a repeat"
    assert agent.file(build, "f", 6, b"", last=True).json() == {"next": 6}
    refused(0, b"0", 6)
    refused(6, b"more", 6, last=True)
    agent.result(build)
    assert content(server, "f") == b"012345"


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "./a", "a/.", "a\0b", "n" * 256]
    + ["\udcff", "a" + LONG],
)
def test_a_path_that_is_none_is_400(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str], path: str
) -> None:
    reply = agent.file(build, path, 0, b"x", last=True)
    assert reply.status == 400 and "path" in reply.error()
    agent.result(build)
    assert listed(server) == {}


def test_odd_paths_are_names_and_nothing_else(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    paths = [
        "a",
        "a/b",
        "A",
        LONG,
        "Ünï code",
        "..\\x",
        "a\nb",
        "<b>&'\"?#%41",
        "index",
        "1",
        "...",
    ]
    for number, path in enumerate(paths):
        data = b"%d" % number
        assert agent.file(build, path, 0, data, last=True).status == 200, path
    agent.result(build)
    assert list(listed(server)) == sorted(paths)
    assert [content(server, path) for path in paths] == [b"%d" % n for n in range(len(paths))]
    names = {each.name for each in (server.data / "builds/1/1/files").iterdir()}
    assert names == {"index", "0"}, "none is a name on this host"
    assert server.get("/build/1").status == 200


def test_past_files_limit_is_413_and_the_page_says_so(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    assert agent.file(build, "fits", 0, bytes(600), last=True).status == 200
    assert agent.file(build, "big", 0, bytes(300)).status == 200
    for last in (False, True):
        reply = agent.file(build, "big", 300, bytes(101), last)
        assert reply.status == 413 and "files_limit" in reply.error()
    assert agent.file(build, "small", 0, bytes(400), last=True).status == 200
    agent.result(build)
    assert listed(server) == {"fits": 600, "small": 400}
    assert server.build(1)["status"] == "success"
    page = server.get("/build/1", {"Accept-Language": "en"}).text
    assert "<code>big</code>" in page and "files_limit" in page


def test_a_piece_is_1_mib_at_most(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    assert agent.file(build, "f", 0, bytes(2**20 + 1), last=True).status == 413
    assert agent.file(build, "f", 0, bytes(2**20), last=True).status == 200
    agent.result(build)
    assert listed(server) == {"f": 2**20}


def test_files_of_what_never_was_are_404_and_of_what_moved_on_410(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    for wrong in ({"id": "7"}, {"attempt": "2"}):
        assert agent.file({**build, **wrong}, "f", 0, b"x", last=True).status == 404
    agent.returned(build)
    again = agent.wait_build(2)
    assert again["attempt"] == "2"
    assert agent.file(build, "f", 0, b"x", last=True).status == 410
    agent.result(again)
    assert agent.file(again, "f", 0, b"x", last=True).status == 410
    assert listed(server) == {}


def test_rule_19_a_new_attempt_starts_with_none(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    agent.file(build, "old", 0, b"1", last=True)
    agent.file(build, "both", 0, b"1", last=True)
    agent.returned(build)
    again = agent.wait_build(2)
    assert agent.file(again, "both", 0, b"22", last=True).status == 200
    agent.result(again)
    assert listed(server) == {"both": 2} and content(server, "both") == b"22"


def test_a_call_without_the_secret_is_401(place: Place) -> None:
    server = place.server(secret="s3")
    agent = place.keep(FakeAgent(server, secret="s3"))
    server.start_build()
    build = agent.wait_build()
    agent.secret = None
    assert agent.file(build, "f", 0, b"x", last=True).status == 401
    agent.secret = "s3"
    assert agent.file(build, "f", 0, b"y", last=True).status == 200


def test_rule_19_a_server_that_is_killed_has_what_it_has_confirmed(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    assert agent.file(build, "whole", 0, b"w", last=True).status == 200
    assert agent.file(build, "half", 0, b"ha").status == 200
    server.kill()
    with open(server.data / "builds/1/1/files/index", "ab") as index:
        index.write(b'{"path":"torn')
    server.restart()
    reply = agent.file(build, "half", 2, b"lf", last=True)
    assert reply.status == 409
    have = reply.json()["next"]
    assert agent.file(build, "half", have, b"half"[have:], last=True).status == 200
    assert agent.file(build, "whole", 0, b"w", last=True).status == 200
    agent.result(build)
    assert listed(server) == {"half": 4, "whole": 1} and content(server, "half") == b"half"
    server.kill()
    server.restart()
    assert content(server, "half") == b"half" and content(server, "whole") == b"w"


def test_many_at_once_are_all_there(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()

    def send(number: int) -> int:
        return agent.file(build, f"d{number % 7}/{number}", 0, b"%d" % number, last=True).status

    with ThreadPoolExecutor(8) as senders:
        assert set(senders.map(send, range(200))) == {200}
    agent.result(build)
    assert len(listed(server)) == 200 and content(server, "d3/199") == b"199"


def test_files_are_attachments_that_no_browser_runs(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    agent.file(build, "a/päge.html", 0, b"<script>1</script>", last=True)
    agent.result(build)
    reply = server.get(f"/build/1/files/a/{quote('päge')}.html")
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Content-Disposition") == (
        "attachment; filename=\"p_ge.html\"; filename*=UTF-8''p%C3%A4ge.html"
    )
    part = server.get(f"/build/1/files/a/{quote('päge')}.html", {"Range": "bytes=1-6"})
    assert (part.status, part.body) == (206, b"script")
    assert part.header("Content-Range") == "bytes 1-6/18"
    for path in (
        "/build/1/files/a",
        "/build/1/files/none",
        "/build/1/files/../1",
        "/build/9/files/a",
    ):
        missing = server.get(path, {"Accept": "application/json"})
        assert missing.status == 404 and missing.error()


def test_all_files_are_one_archive(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    assert server.get("/build/1/files.tar").status == 404
    data = random.Random(1).randbytes(700)
    sent = {"a/one": data, "Ünï": b"", LONG: b"long"}
    for path, each in sent.items():
        agent.file(build, path, 0, each, last=True)
    agent.result(build)
    reply = server.get("/build/1/files.tar")
    assert int(reply.header("Content-Length")) == len(reply.body)
    assert "attachment" in reply.header("Content-Disposition")
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as archive:
        found = {each.name: archive.extractfile(each) for each in archive}
        assert {name: file and file.read() for name, file in found.items()} == sent


def test_rule_19_what_the_agent_left_out_is_named_on_the_page(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    names = [
        {"path": f"l{n:03}", "reason": "a link", "key": "file_link", "values": {}}
        for n in range(100)
    ]
    more = {"files_left_out": 120, "files_left_out_names": json.dumps(names)}
    assert agent.result(build, **more).status == 200
    page = server.get("/build/1", {"Accept-Language": "ru"}).text
    assert "<code>l000</code>" in page and "<code>l099</code>" in page and "ссылка" in page
    assert "20" in page.split("l099")[1].split("</section>")[0]
    assert server.build(1)["status"] == "success"


@pytest.mark.parametrize("names", ["", "x", "[1]", "{}", '[{"path": 1}]'])
def test_rule_19_no_result_is_held_back_for_what_was_left_out(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str], names: str
) -> None:
    more = {"files_left_out": "3", "files_left_out_names": names}
    assert agent.result(build, **more).status == 200
    assert server.build(1)["status"] == "success" and server.get("/build/1").status == 200


def test_rule_19_files_go_when_their_build_goes(place: Place) -> None:
    server = place.server(keep_builds=1)
    agent = place.keep(FakeAgent(server))
    for number in (1, 2):
        server.start_build()
        build = agent.wait_build(number)
        agent.file(build, "f", 0, b"x", last=True)
        agent.result(build)
    wait_for(lambda: not (server.data / "builds/1").exists())
    assert server.get("/build/1/files/f").status == 404 and content(server, "f", 2) == b"x"


def test_files_of_a_removed_folder_are_said_to_be_gone(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    agent.file(build, "f", 0, b"x", last=True)
    agent.result(build)
    Path(server.data / "builds/1/1/files/0").unlink()
    assert server.get("/build/1/files/f").status in (404, 422, 500)
    assert server.get("/build/1").status == 200


def test_rule_19_the_next_build_does_not_wait_for_files(
    server: ServerProcess, agent: FakeAgent, build: dict[str, str]
) -> None:
    agent.file(build, "f", 0, b"x")
    server.start_build()
    agent.undelivered = [{"id": 1, "attempt": 1}]
    agent.forget(build)
    assert agent.wait_build(2)["id"] == "2" and server.build(1)["status"] == "running"
    agent.file(build, "f", 1, b"y", last=True)
    agent.result(build)
    assert listed(server) == {"f": 2}


def test_rule_19_a_full_disk_is_503_and_the_file_is_sent_again(place: Place) -> None:
    server = place.configure_server()
    hook = Hook(place, server.data)
    server.env.update(hook.env)
    server.start()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    assert agent.file(build, "f", 0, b"a").status == 200
    hook.no_space()
    assert agent.file(build, "f", 1, b"b", last=True).status == 503
    assert agent.file(build, "small", 0, b"s", last=True).status == 503
    hook.space()
    assert agent.file(build, "f", 1, b"b", last=True).status == 200
    assert agent.file(build, "small", 0, b"s", last=True).status == 200
    agent.result(build)
    assert listed(server) == {"f": 2, "small": 1} and content(server, "f") == b"ab"


def test_rule_19_a_server_that_is_killed_at_any_step_has_each_file_whole_and_once(
    place: Place,
) -> None:
    server = place.configure_server()
    hook = Hook(place, server.data)
    server.env.update(hook.env)
    server.start()
    agent = place.keep(FakeAgent(server))
    sent = {"big": b"0123456789", "small": b"s"}

    def send(path: str) -> None:
        offset, data = 0, sent[path]
        while True:
            end = min(len(data), offset + 5)
            reply = agent.file(agent.builds[-1], path, offset, data[offset:end], end == len(data))
            assert reply.status in (200, 409), reply
            if reply.status == 200 and end == len(data):
                return
            offset = reply.json()["next"]

    def prepare(_: int) -> None:
        handed = len(agent.builds)
        server.start_build()
        agent.wait_build(handed + 1)

    def act(_: int) -> bool:
        try:
            for path in sent:
                send(path)
            return agent.result(agent.builds[-1]).status == 200
        except (OSError, HTTPException):
            return False

    def check(_: int, through: bool) -> None:
        if not through:
            for path in sent:
                with contextlib.suppress(AssertionError):  # 410 where the result is in already
                    send(path)
            assert agent.result(agent.builds[-1]).status == 200
        number = int(agent.builds[-1]["id"])
        assert listed(server, number) == {"big": 10, "small": 1}
        assert content(server, "big", number) == b"0123456789"

    assert crash_at_every_step(hook, server, act, check, prepare) > 8
