"""Rules 16 and 17 at their edges: remotes that fail, hooks that lie, servers that die in a look."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.test_pushes import (
    SECRET,
    builds_of,
    call_webhook,
    pushed_to,
    refs_file,
    signed,
    wait_for_builds,
    wait_for_look,
)
from tests.support.crashes import CRASHED, Hook
from tests.support.fakes import FakeAgent
from tests.support.forges import FORM, Delivery, bearer, deliveries
from tests.support.harness import Place, ServerProcess, holds_for, wait_for
from tests.support.repositories import Repository, git

A, B = "a" * 40, "b" * 40


class Remote:
    """A repository of refs alone, by HTTP as a plain file server has it. `cut` breaks it off."""

    def __init__(self) -> None:
        self.refs = {"refs/heads/main": A, "refs/heads/other": A}
        self.cut = self.refuses = False
        self.asked: list[float] = []
        remote = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                remote.asked.append(time.monotonic())
                found = self.path.startswith("/x.git/info/refs") and not remote.refuses
                text = "".join(f"{at}\t{ref}\n" for ref, at in sorted(remote.refs.items()))
                body = text.encode() if found else b""
                self.send_response(200 if found else 503)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:-20] if remote.cut else body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/x.git"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def remote(place: Place) -> Remote:
    return place.keep(Remote())


def watching(place: Place, remote: Remote, **keys: Any) -> ServerProcess:
    settings = {"command": "true", "branches": "*", "poll": "0.2s", **keys}
    server = place.server(repository=remote.url, **settings)
    wait_for_look(server, "x")
    return server


def page(server: ServerProcess, path: str = "/", language: str = "en") -> str:
    return server.get(path, {"Accept-Language": language}).text


# Looks that fail.


def test_rule_16_a_look_that_was_cut_short_changes_nothing(place: Place, remote: Remote) -> None:
    server = watching(place, remote)
    before = refs_file(server, "x")
    remote.cut, remote.refs = True, {"refs/heads/main": B, "refs/heads/other": A}
    wait_for(lambda: "can't be listed" in server.log(), 20, "a look that fails")
    assert builds_of(server) == [] and refs_file(server, "x") == before
    remote.cut = False
    (build,) = wait_for_builds(server, 1)
    assert (build["ref"], build["revision"]) == ("refs/heads/main", B)


def test_rule_16_a_look_that_fails_is_said_once_and_on_the_start_page(
    place: Place, remote: Remote
) -> None:
    server = watching(place, remote)
    assert "look-failure" not in page(server)
    remote.refuses = True
    wait_for(lambda: "look-failure" in page(server), 20, "a word on the start page")
    assert "503" in page(server) and "look-failure" in page(server, language="ru")
    count = len(remote.asked)
    wait_for(lambda: len(remote.asked) > count + 1, 20, "more looks")
    assert server.log().count("can't be listed") == 1
    remote.refuses = False
    wait_for(lambda: "look-failure" not in page(server), 20, "the word gone")


def test_rule_16_looks_that_fail_come_later_and_later(place: Place, remote: Remote) -> None:
    server = watching(place, remote)
    remote.refuses = True
    wait_for(lambda: "can't be listed" in server.log(), 20, "a look that fails")
    begun = len(remote.asked)
    wait_for(lambda: len(remote.asked) >= begun + 4, 20, "four more")
    times = remote.asked[begun - 1 :]
    pauses = [after - before for before, after in zip(times, times[1:])]
    assert pauses[2] > 1.5 * pauses[0], pauses
    server.post("/api/poll")
    wait_for(lambda: len(remote.asked) > len(times) + begun - 1, 1, "a look that was asked for")


# Hooks that lie.


def test_rule_16_hooks_that_are_lost_doubled_late_or_forged_change_nothing(
    place: Place, remote: Remote
) -> None:
    server = watching(place, remote, poll="1h", webhook_secret=SECRET)
    lie = b'{"ref": "refs/heads/main", "after": "%s"}' % A.encode()
    for body in (b"{}", lie, b"no JSON at all", b""):
        assert call_webhook(server, "x", signed(body), body) == 202
    wait_for(lambda: time.monotonic() - remote.asked[-1] > 1.5, 20, "the end of these looks")
    remote.refs["refs/heads/main"] = "c" * 40  # and its hook is lost
    assert call_webhook(server, "x", None) == 401
    holds_for(lambda: builds_of(server) == [], 0.5, "without a proof nothing happens")
    remote.refs["refs/heads/main"] = B  # and its hook is doubled
    for _ in range(5):
        assert call_webhook(server, "x", signed(lie), lie) == 202
    (build,) = wait_for_builds(server, 1)
    assert build["revision"] == B
    assert call_webhook(server, "x", signed(lie), lie) == 202
    holds_for(lambda: len(builds_of(server)) == 1, 0.5, "a late one changes nothing")


FORGE_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
BY_HAND = [
    Delivery("curl, nothing", {}, b"", bearer),
    Delivery("curl, a form without pairs", FORM, b"pushed", bearer),
]


def test_the_webhooks_of_each_forge(place: Place, remote: Remote) -> None:
    """Whatever the body's type, its proof alone counts, and the look comes now."""
    server = watching(place, remote, poll="1h", webhook_secret=FORGE_SECRET)

    def call(headers: Mapping[str, str], body: bytes) -> int:
        return call_webhook(server, "x", headers, body)

    for each in (*deliveries(), *BY_HAND):
        proofs = each.proofs(FORGE_SECRET)
        assert call(each.headers, each.body) == 401, each.name
        assert call(each.signed(OTHER_SECRET), each.body) == 401, each.name
        if any("ignature" in name for name in proofs):
            assert call(each.signed(FORGE_SECRET), each.body + b"x") == 401, each.name
        asked = len(remote.asked)
        assert call(each.signed(FORGE_SECRET), each.body) == 202, each.name
        wait_for(lambda count=asked: len(remote.asked) > count, 20, f"the look for {each.name}")  # type: ignore


# The server dies.


def test_rule_16_one_build_of_each_ref_where_the_server_is_killed_in_a_look(
    place: Place, own_repository: Repository
) -> None:
    """The process itself ends at some steps; tests/triggers/test_crash_points.py has each."""
    data = place.folder / "data"
    hook = Hook(place, data)
    keys = {"command": "true", "branches": "*", "tags": "v*", "supersede": "no"}
    server = place.server(hook.env, repository=own_repository.url, data=data, **keys)
    wait_for_look(server)
    expected: list[tuple[str, str]] = []
    for number, step in enumerate((2, 9, 16, 30)):
        tag = f"v{number + 10}"
        revision = own_repository.commit({"file.txt": f"{step}\n"}, f"Step {step}")
        git(own_repository.path, "tag", tag, revision)
        expected += [("refs/heads/main", revision), (f"refs/tags/{tag}", revision)]
        hook.arm(step)
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.post("/api/poll")
        assert server.wait_end() == CRASHED
        hook.disarm()
        server.restart()
        wait_for(lambda name=tag: f"refs/tags/{name}" in refs_file(server)["refs"], 20, "a look")  # type: ignore
        found = [(each["ref"], each["revision"]) for each in builds_of(server)]
        assert sorted(found) == sorted(expected), f"step {step}"


# What a build of a push has, and what it ends.


def test_rule_16_the_build_has_its_revision_from_the_beginning(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository)
    revision = own_repository.commit({"file.txt": "1\n"}, "One")
    (build,) = wait_for_builds(server, 1)
    assert (build["status"], build["revision"]) == ("queued", revision)
    assert build["commit"] == "main" and revision[:10] in page(server, "/build/1")


def test_rule_16_the_first_look_starts_nothing_whatever_matches(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, tags="*")
    assert set(refs_file(server)["refs"]) >= {"refs/heads/main", "refs/tags/v1"}
    holds_for(lambda: builds_of(server) == [], 0.6, "some looks")


def test_rule_17_builds_of_tags_and_of_people_are_never_superseded(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, tags="*", supersede="running")
    by_hand = server.post("/api/builds", {"commit": "main", "command": "true", "ref": "main"})
    assert by_hand.json()["ref"] == "refs/heads/main"
    own_repository.commit({"file.txt": "1\n"}, "One")
    wait_for_builds(server, 2)
    assert server.post("/build/2/rebuild").status == 303
    for revision in (own_repository.first, own_repository.second):
        git(own_repository.path, "tag", "--force", "v7", revision)
        wait_for(lambda at=revision: refs_file(server)["refs"].get("refs/tags/v7") == at, 20, "it")  # type: ignore
    own_repository.commit({"file.txt": "2\n"}, "Two")
    found = wait_for_builds(server, 6)
    wait_for(lambda: server.build(2)["status"] == "cancelled", 10, "the older push's end")
    assert (server.build(2)["superseded_by"], found[5]["event"]) == (6, "push")
    others = [each["status"] for each in builds_of(server) if each["id"] != 2]
    assert others == ["queued"] * 5, "by hand, the rebuild, both places of the tag, the newest push"


def test_rule_17_supersede_is_of_one_project_and_branch(
    place: Place, own_repository: Repository
) -> None:
    server = place.configure_server(
        repository=own_repository.url, command="true", branches="*", poll="0.2s"
    )
    server.sections["project lint"] = {"command": "make lint", "branches": "main", "poll": "0.2s"}
    server.start()
    wait_for_look(server)
    wait_for_look(server, "lint")
    own_repository.commit({"file.txt": "1\n"}, "One")
    wait_for_builds(server, 2)
    own_repository.commit({"file.txt": "2\n"}, "Two", "topic")
    wait_for_builds(server, 3)
    assert {each["status"] for each in builds_of(server)} == {"queued"}
    own_repository.commit({"file.txt": "3\n"}, "Three")
    wait_for_builds(server, 5)

    def left() -> list[tuple[str, str]]:
        waiting = [each for each in builds_of(server) if each["status"] == "queued"]
        return sorted((each["project"], each["ref"]) for each in waiting)

    kept = [("lint", "refs/heads/main"), ("repository", "refs/heads/main")]
    wait_for(
        lambda: left() == [*kept, ("repository", "refs/heads/topic")], 10, "the older ones' end"
    )


# Projects and branches that are not there.


def test_a_project_that_is_not_there_is_named_with_those_that_are(
    place: Place, own_repository: Repository
) -> None:
    server = place.configure_server(repository=own_repository.url, name="tides", command="true")
    server.sections["project moon"] = {}
    server.start()
    calls = [
        *(server.get(f"{path}?project=sun") for path in ("/api/builds", "/", "/feed.atom")),
        *(server.post(path, {"project": "sun"}) for path in ("/api/poll", "/poll")),
        *(server.post(path, {"project": "sun", "commit": "main", "command": "true"})
          for path in ("/build", "/api/builds")),
    ]  # fmt: skip
    for reply in calls:
        assert reply.status == 400 and "sun" in reply.text, reply
        assert "tides, moon" in reply.text, reply
    assert builds_of(server) == []
    for path in ("/api/builds", "/", "/feed.atom"):
        assert server.get(f"{path}?branch=nowhere").status == 200
        assert server.get(f"{path}?project=moon").status == 200
        assert server.get(f"{path}?projekt=moon").status == 400
    assert server.api("/builds?branch=nowhere")["builds"] == []


def test_the_builds_of_a_project_that_was_removed_are_still_found(
    place: Place, own_repository: Repository
) -> None:
    server = place.configure_server(repository=own_repository.url, name="tides", command="true")
    server.sections["project moon"] = {}
    server.start()
    wanted = {"project": "moon", "commit": "main", "command": "true"}
    number = server.post("/api/builds", wanted).json()["id"]
    server.stop()
    del server.sections["project moon"]
    server.restart()
    assert number in [each["id"] for each in server.api("/builds?project=moon")["builds"]]
    assert server.get("/?project=moon").status == 200
    agent = place.keep(FakeAgent(server))
    assert agent.wait_build()["commit"] == "main", "it is built all the same"
