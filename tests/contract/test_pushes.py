"""Sections 2, 3 and 5 of the contract: projects, and builds that start by themselves (16, 17)."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from collections.abc import Mapping
from typing import Any, Optional

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, holds_for, wait_for
from tests.support.repositories import Repository, git

SECRET = "webhook word"


def pushed_to(place: Place, repository: Repository, **keys: Any) -> ServerProcess:
    """A server that builds what moves in a repository, without an agent."""
    settings = {"command": "cat file.txt", "branches": "*", "poll": "0.2s", **keys}
    server = place.server(repository=repository.url, **settings)
    wait_for_look(server)
    return server


def refs_file(server: ServerProcess, project: str = "repository") -> dict[str, Any]:
    path = server.data / "refs" / f"{project}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def wait_for_look(server: ServerProcess, project: str = "repository") -> None:
    wait_for(lambda: refs_file(server, project), 20, "the first look")


def builds_of(server: ServerProcess, query: str = "") -> list[dict[str, Any]]:
    """All builds, oldest first."""
    found: list[dict[str, Any]] = server.api(f"/builds?limit=1000{query}")["builds"]
    return found[::-1]


def wait_for_builds(server: ServerProcess, count: int) -> list[dict[str, Any]]:
    wait_for(lambda: len(builds_of(server)) >= count, 20, f"{count} builds")
    return builds_of(server)


def test_a_push_is_built_by_its_revision(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository)
    place.agent(server)
    assert builds_of(server) == [], "the first look starts nothing"
    revision = own_repository.commit({"file.txt": "pushed\n"}, "Pushed")
    (build,) = wait_for_builds(server, 1)
    assert (build["event"], build["ref"]) == ("push", "refs/heads/main")
    assert (build["project"], build["revision"]) == ("repository", revision)
    assert server.wait_final(build["id"])["status"] == "success"
    assert server.output(build["id"]) == b"pushed\n"
    holds_for(lambda: len(builds_of(server)) == 1, 1.0, "nothing happens")


def test_what_a_command_learns_of_a_push(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository, command="env", tags="*")
    place.agent(server)
    own_repository.commit({"file.txt": "pushed\n"}, "Pushed", "topic")
    git(own_repository.path, "tag", "v7")
    first, second = (server.wait_final(each["id"]) for each in wait_for_builds(server, 2))
    branch, tag = (
        dict(line.split("=", 1) for line in server.output(each["id"]).decode().splitlines())
        for each in sorted((first, second), key=lambda build: str(build["event"]))
    )
    assert (branch["MINICI_EVENT"], branch["MINICI_REF"]) == ("push", "refs/heads/topic")
    assert branch["MINICI_BRANCH"] == branch["BRANCH_NAME"] == branch["GIT_BRANCH"] == "topic"
    assert branch["MINICI_PROJECT"] == branch["JOB_NAME"] == "repository"
    assert "MINICI_TAG" not in branch and "MINICI_BRANCH" not in tag
    assert tag["MINICI_EVENT"] == "tag" and tag["MINICI_TAG"] == tag["TAG_NAME"] == "v7"


def test_rule_16_new_forced_back_deleted_and_there_again(
    place: Place, own_repository: Repository
) -> None:
    server, repository = pushed_to(place, own_repository), own_repository
    revisions = []

    def expect(revision: str) -> None:
        revisions.append(revision)
        found = wait_for_builds(server, len(revisions))
        assert [each["revision"] for each in found] == revisions

    git(repository.path, "branch", "new", repository.first)
    expect(repository.first)
    expect(repository.commit({"file.txt": "x\n"}, "Forward", "new"))
    git(repository.path, "branch", "--force", "new", repository.topic)
    expect(repository.topic)
    git(repository.path, "branch", "--force", "new", repository.first)
    expect(repository.first)
    git(repository.path, "branch", "-D", "new")
    wait_for(lambda: "refs/heads/new" not in refs_file(server)["refs"], 20, "it is forgotten")
    git(repository.path, "branch", "new", repository.first)
    expect(repository.first)


def test_rule_16_an_annotated_tag_counts_by_its_commit(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, branches="no-branch", tags="v*")
    words = ["-c", "user.name=T", "-c", "user.email=t@t", "tag", "-a", "-m", "two", "v2"]
    git(own_repository.path, *words, own_repository.third)
    (build,) = wait_for_builds(server, 1)
    assert (build["event"], build["ref"]) == ("tag", "refs/tags/v2")
    assert build["revision"] == own_repository.third


def test_rule_16_a_repository_that_was_empty(place: Place) -> None:
    empty = place.folder / "empty"
    git(place.folder, "init", "--quiet", "--bare", "--initial-branch=main", str(empty))
    server = place.server(repository=str(empty), command="true", branches="*", poll="0.2s")
    wait_for_look(server, "empty")
    git(place.repository.path, "push", "--quiet", str(empty), "main")
    assert wait_for_builds(server, 1)[0]["revision"] == place.repository.third


def test_rule_16_a_wider_pattern_starts_nothing_by_itself(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, branches="main !x*")
    server.stop()
    server.sections["server"]["branches"] = "*"
    server.restart()
    own_repository.commit({"file.txt": "x\n"}, "Forward", "topic")
    wait_for(lambda: builds_of(server), 20, "its build")
    assert [each["ref"] for each in builds_of(server)] == ["refs/heads/topic"]


def test_rule_16_pushes_while_the_server_was_away(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository, poll="0")
    server.kill()
    revision = own_repository.commit({"file.txt": "x\n"}, "While it was away")
    server.restart()
    assert wait_for_builds(server, 1)[0]["revision"] == revision


def test_rule_16_a_look_that_fails_changes_nothing(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository)
    hidden = own_repository.path.with_name("hidden")
    own_repository.path.rename(hidden)
    wait_for(lambda: "refs can't be listed" in server.log(), 20, "a line in the log")
    assert server.log().count("refs can't be listed") == 1
    hidden.rename(own_repository.path)
    wait_for(lambda: "listed again" in server.log(), 20, "the next look")
    assert builds_of(server) == []


def test_rule_16_where_the_queue_is_full_the_rest_comes_later(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, max_queue=2)
    for name in "abcde":
        git(own_repository.path, "branch", name, own_repository.first)
    wait_for_builds(server, 2)
    holds_for(lambda: len(builds_of(server)) == 2, 1.0, "nothing happens")
    for number in range(1, 6):
        wait_for_builds(server, number)
        server.post(f"/build/{number}/cancel")
    found = wait_for_builds(server, 5)
    assert [each["ref"] for each in found] == [f"refs/heads/{name}" for name in "abcde"]


def test_rule_17_a_newer_push_ends_older_ones_that_wait(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, tags="*")
    by_hand = server.start_build("main", "true")
    own_repository.commit({"file.txt": "1\n"}, "One")
    wait_for_builds(server, 2)
    git(own_repository.path, "branch", "other", own_repository.first)
    wait_for_builds(server, 3)
    own_repository.commit({"file.txt": "2\n"}, "Two")
    found = wait_for_builds(server, 4)
    wait_for(lambda: server.build(2)["status"] == "cancelled", 10, "the older one's end")
    assert "4" in server.build(2)["reason"]
    assert [server.build(each["id"])["status"] for each in found if each["id"] != 2] == [
        "queued"
    ] * 3
    assert server.build(by_hand)["status"] == "queued"


@pytest.mark.parametrize("supersede, ended", [("no", False), ("queued", False), ("running", True)])
def test_rule_17_what_runs_is_ended_only_where_that_is_wanted(
    place: Place, own_repository: Repository, supersede: str, ended: bool
) -> None:
    server = pushed_to(place, own_repository, supersede=supersede, command="sleep 60")
    place.agent(server)
    own_repository.commit({"file.txt": "1\n"}, "One")
    wait_for_builds(server, 1)
    server.wait_status(1, "running")
    own_repository.commit({"file.txt": "2\n"}, "Two")
    wait_for_builds(server, 2)
    if ended:
        assert server.wait_final(1)["status"] == "cancelled"
    else:
        holds_for(lambda: server.build(1)["status"] == "running", 1.0, "nothing happens")


def test_a_push_reaches_an_agent_by_its_hash(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository, build_timeout="7s", submodules="yes")
    agent = place.keep(FakeAgent(server, "agent"))
    revision = own_repository.commit({"file.txt": "1\n"}, "One")
    wait_for(lambda: agent.builds, 20, "the build")
    params = agent.builds[0]
    assert params["commit"] == revision and params["ref"] == "refs/heads/main"
    assert (params["project"], params["event"]) == ("repository", "push")
    assert float(params["timeout"]) == 7 and params["submodules"] == "1"


# Webhooks.


def signed(body: bytes) -> Mapping[str, str]:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def call_webhook(
    server: ServerProcess, name: str, headers: Optional[Mapping[str, str]], body: bytes = b"{}"
) -> int:
    return server.request("POST", f"/webhook/{name}", body, headers).status


def test_a_webhook_brings_the_look_now(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository, poll="1h", webhook_secret=SECRET)
    own_repository.commit({"file.txt": "1\n"}, "One")
    assert call_webhook(server, "repository", signed(b"{}")) == 202
    wait_for_builds(server, 1)
    own_repository.commit({"file.txt": "2\n"}, "Two")
    assert call_webhook(server, "repository", {"Authorization": f"Bearer {SECRET}"}, b"") == 202
    wait_for_builds(server, 2)


def test_a_webhook_that_is_not_signed_is_refused(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository, poll="1h", webhook_secret=SECRET)
    assert call_webhook(server, "repository", {"Content-Type": "application/json"}) == 401
    assert call_webhook(server, "repository", signed(b"another")) == 401
    assert call_webhook(server, "nobody", signed(b"{}")) == 404
    assert SECRET not in server.log()


def test_a_project_without_a_secret_has_no_webhook(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository)
    assert call_webhook(server, "repository", signed(b"{}")) == 404


def test_a_look_can_be_asked_for(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository, poll="0")
    for query in ("", "?project=repository"):
        before = len(builds_of(server))
        own_repository.commit({"file.txt": f"{query}\n"}, "One")
        assert server.post(f"/api/poll{query}").status == 202
        wait_for_builds(server, before + 1)
    assert server.post("/api/poll?project=nobody").status == 400


# Projects.


@pytest.fixture
def two(place: Place, own_repository: Repository) -> ServerProcess:
    server = place.configure_server(repository=own_repository.url, name="first", command="echo 1")
    other = place.folder / "other"
    shutil.copytree(place.repository.path, other)
    server.sections["project second"] = {"repository": str(other), "command": "echo 2"}
    server.sections["project third"] = {}
    server.start()
    return server


def test_a_build_of_a_project_has_its_repository_and_command(
    place: Place, two: ServerProcess, own_repository: Repository
) -> None:
    place.agent(two)
    for project, repository in (("first", own_repository.url), ("second", None)):
        reply = two.post("/api/builds", {"commit": "main", "project": project})
        build = two.wait_final(reply.json()["id"])
        assert build["project"] == project and build["event"] == "manual"
        assert repository in (None, build["repository"])
        assert two.output(build["id"]) == (b"1\n" if project == "first" else b"2\n")
    listed = two.api("/builds?project=second")["builds"]
    assert [each["project"] for each in listed] == ["second"]
    assert two.post("/api/builds", {"commit": "main", "project": "nobody"}).status == 400


def test_the_ref_of_a_build(two: ServerProcess) -> None:
    form = {"commit": "main", "command": "true", "project": "third"}
    build = two.post("/api/builds", {**form, "ref": "topic"}).json()
    assert build["ref"] == "refs/heads/topic"
    assert [each["id"] for each in two.api("/builds?branch=topic")["builds"]] == [build["id"]]
    assert two.api("/builds?branch=main")["builds"] == []
    assert two.post("/api/builds", {**form, "ref": "a b"}).status == 400
    again = two.post(f"/build/{build['id']}/rebuild").header("Location")
    repeat = two.build(int(again.rpartition("/")[2]))
    assert (repeat["event"], repeat["project"]) == ("rebuild", "third")
    assert repeat["ref"] == build["ref"]


def test_an_api_call_without_a_command_takes_the_projects(two: ServerProcess) -> None:
    assert two.post("/api/builds", {"commit": "main"}).json()["command"] == "echo 1"
    reply = two.post("/api/builds", {"commit": "main", "project": "third"})
    assert reply.status == 400 and "command" in reply.text


WRONG = [
    ({"project x": {"branches": "main"}}, "command"),
    ({"project a b": {}}, "project a b"),
    ({"project x": {"supersede": "perhaps"}}, "supersede"),
    ({"project x": {"branches": "!main", "command": "make"}}, "branches"),
    ({"project x": {"branches": "ma?n", "command": "make"}}, "branches"),
    ({"project x": {"poll": "often"}}, "poll"),
    ({"project x": {"hook": "/no/such/program"}}, "hook"),
    ({"project x": {"webhook_secret_file": "/no/such/file"}}, "webhook_secret_file"),
    ({"project x": {"port": "1"}}, "port"),
    ({"project repository": {"command": "make"}}, "repository"),
]


@pytest.mark.parametrize("sections, named", WRONG, ids=[str(each) for each, _ in WRONG])
def test_a_wrong_project_is_refused(
    place: Place, own_repository: Repository, sections: Mapping[str, Any], named: str
) -> None:
    server = place.configure_server(repository=own_repository.url)
    server.sections.update(sections)
    server.launch()
    assert server.wait_end() == 2
    (line,) = server.log().splitlines()
    assert named in line and "project" in line


# Hooks: rule 18.


def test_rule_18_a_hook_is_told_of_each_status(place: Place, own_repository: Repository) -> None:
    hook = place.folder / "hook"
    told = place.folder / "told"
    hook.write_text(
        "#!/bin/sh\n"
        f"cat >> {told}.json; echo >> {told}.json; echo from the hook\n"
        f'echo "$MINICI_BUILD_ID $MINICI_STATUS [$MINICI_PREVIOUS_STATUS] $MINICI_REF" >> {told}\n'
    )
    hook.chmod(0o755)
    server = pushed_to(place, own_repository, hook=str(hook), command="test -e good")
    place.agent(server)
    own_repository.commit({"file.txt": "1\n"}, "Bad")
    server.wait_final(wait_for_builds(server, 1)[0]["id"])
    own_repository.commit({"good": ""}, "Good")
    server.wait_final(wait_for_builds(server, 2)[1]["id"])

    def lines() -> list[str]:
        return told.read_text().splitlines() if told.exists() else []

    wait_for(lambda: "2 success [failure] refs/heads/main" in lines(), 20, "the last telling")
    of_the_first = [line for line in lines() if line.startswith("1 ")]
    assert of_the_first[-1] == "1 failure [] refs/heads/main"
    records = [json.loads(line) for line in (place.folder / "told.json").read_text().splitlines()]
    assert records[-1]["id"] == 2 and records[-1]["status"] == "success"
    assert records[-1]["url"].endswith("/build/2")
    wait_for(lambda: not list((server.data / "hooks").iterdir()), 10, "all is told")
    assert "from the hook" in server.log()


def test_rule_18_a_hook_that_hangs_holds_up_nothing(
    place: Place, own_repository: Repository
) -> None:
    hook = place.folder / "hook"
    hook.write_text("#!/bin/sh\nsleep 50\n")
    hook.chmod(0o755)
    server = place.server(repository=own_repository.url, hook=str(hook))
    place.agent(server)
    for _ in range(5):
        assert server.wait_final(server.start_build("HEAD", "true"))["status"] == "success"
    assert server.get("/").status == 200
    server.stop()
