"""`repeat` and `bisect` over real servers, agents and histories."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from minici.cli.client import Client
from minici.cli.starting import free_slots
from tests.support.fakes import FakeServer
from tests.support.harness import Place, ServerProcess, wait_for
from tests.support.repositories import Repository, git
from tests.support.shell import Shell, read_until


def test_repeat_counts_failures(place: Place, server: ServerProcess) -> None:
    run = Shell(place, server)
    done = run("repeat", "5", "main", 'test "$MINICI_BUILD_ID" != 4')
    assert (done.returncode, done.stdout) == (1, "1 of 5 failed: build 4\n"), done.stderr
    done = run("repeat", "2", "main", "true")
    assert (done.returncode, done.stdout) == (0, "0 of 2 failed\n")


def history(repository: Repository, bad: int, count: int = 12) -> list[str]:
    return [
        repository.commit({"state": "bad" if at >= bad else "good", "n": str(at)}, f"Commit {at}")
        for at in range(count)
    ]


@pytest.fixture
def clone(tmp_path: Path, own_repository: Repository) -> Repository:
    history(own_repository, bad=7)
    return own_repository


def test_bisect_finds_the_commit_and_builds_nothing_twice(place: Place, clone: Repository) -> None:
    server = place.server(repository=clone.path)
    place.agent(server, slots=3)
    run = Shell(place, server, clone.path)
    words = ("bisect", clone.third, "main", "grep good state")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "subject: Commit 7" in done.stdout and "Ада" in done.stdout
    assert "/build/" in done.stdout and "2 rounds at most" in done.stderr
    built = len(server.api("/builds")["builds"])
    assert built <= 6
    again = run(*words)
    assert again.stdout == done.stdout
    assert len(server.api("/builds")["builds"]) == built


def test_bisect_skips_at_125_and_stops_above_127(place: Place, clone: Repository) -> None:
    server = place.server(repository=clone.path)
    place.agent(server, slots=2)
    run = Shell(place, server, clone.path)
    skipping = run("bisect", clone.third, "main", "test $(cat n) != 6 || exit 125; grep good state")
    assert skipping.returncode == 1
    assert "Commit 6" in skipping.stdout and "Commit 7" in skipping.stdout
    assert "Commit 5" not in skipping.stdout
    stopped = run("bisect", clone.third, "main", "exit 130")
    assert (
        stopped.returncode == 1 and "stops the search: failure, exit status 130" in stopped.stderr
    )


def test_bisect_cancels_what_a_result_has_made_needless(place: Place, clone: Repository) -> None:
    server = place.server(repository=clone.path)
    place.agent(server, slots=2)
    run = Shell(place, server, clone.path)
    # The upper one of a round is never done before the lower, bad one has ended.
    done = run(
        "bisect", clone.third, "main", "test $(cat n) -lt 7 || sleep 600; test $(cat n) -lt 2"
    )
    assert done.returncode == 0 and "subject: Commit 2" in done.stdout, done.stderr
    assert "is not needed" in done.stderr
    assert server.wait_final(2)["status"] == "cancelled"


def test_who_gives_a_wrong_range_is_told_why(place: Place, clone: Repository) -> None:
    run = Shell(place, "http://127.0.0.1:1", clone.path)
    for good, bad, said in (
        ("main", clone.third, "it is the other way round: swap them"),
        ("main", "main", "are the same commit"),
        (clone.topic, "main", "is no ancestor of BAD main"),
        ("nosuch", "main", "GOOD nosuch: no such commit in this clone"),
    ):
        done = run("bisect", good, bad, "true")
        assert done.returncode == 2 and said in done.stderr, done.stderr
    outside = Shell(place, "http://127.0.0.1:1")("bisect", "a", "b", "true")
    assert outside.returncode == 2 and "not a git repository" in outside.stderr


def test_bisect_that_is_interrupted_goes_on_without_building_again(
    place: Place, clone: Repository
) -> None:
    """Ctrl-C cancels what it has started; what has ended by then counts the next time."""
    server = place.server(repository=clone.path)
    place.agent(server, slots=1)
    run = Shell(place, server, clone.path)
    gate = place.folder / "gate"
    # The first build of the search ends, the second one waits.
    command = f"test $(cat n) = 5 || until test -e {gate}; do sleep 0.1; done; grep good state"
    with run.popen("bisect", clone.third, "main", command) as process:
        wait_for(lambda: [b["id"] for b in server.builds("&status=running")] == [2], 30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "goes on where this one ended" in err, err
    assert server.wait_final(2)["status"] == "cancelled"
    gate.touch()
    done = run("bisect", clone.third, "main", command)
    assert done.returncode == 0 and "subject: Commit 7" in done.stdout
    built = [b["revision"] for b in server.builds() if b["status"] != "cancelled"]
    assert len(built) == len(set(built))


def test_a_build_that_was_cancelled_says_nothing_about_its_commit(
    place: Place, clone: Repository
) -> None:
    """Its command may end with any exit status when it is told to end."""
    server = place.server(repository=clone.path)
    place.agent(server, slots=1)
    run = Shell(place, server, clone.path)
    on, gate = place.folder / "on", place.folder / "gate"
    waits = f"trap 'exit 1' TERM; touch {on}; sleep 600 & wait"
    command = f"test $(cat n) != 5 || test -e {gate} || {{ {waits}; }}; grep good state"
    fifth = git(clone.path, "rev-parse", "main~6")
    assert run("start", "--detach", fifth, command).returncode == 0
    wait_for(on.exists, 30, "the command")
    assert run("cancel", "1").returncode == 0
    ended = server.wait_final(1)
    assert (ended["status"], ended["exit_status"]) == ("cancelled", 1)
    gate.touch()
    done = run("bisect", clone.third, "main", command)
    assert "subject: Commit 7" in done.stdout, done.stderr


def test_bisect_goes_on_where_an_agent_vanishes(place: Place, clone: Repository) -> None:
    server = place.server(repository=clone.path, agent_timeout="1s")
    first, second = place.agent(server, slots=1), place.agent(server, slots=1)
    run = Shell(place, server, clone.path)
    gate = place.folder / "gate"
    command = f"until test -e {gate}; do sleep 0.1; done; grep good state"
    with run.popen("bisect", clone.third, "main", command) as process:
        wait_for(lambda: len(server.builds("&status=running")) == 2, 30)
        second.kill()
        gate.touch()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "subject: Commit 7" in out, err
    assert first.alive


def test_repeat_waits_for_a_server_that_restarts(place: Place, server: ServerProcess) -> None:
    run = Shell(place, server)
    gate = place.folder / "gate"
    with run.popen("repeat", "4", "main", f"until test -e {gate}; do sleep 0.1; done") as process:
        wait_for(lambda: len(server.builds("&status=running")) == 3, 30)
        server.kill()
        read_until(process.stderr, "waiting for")
        server.restart()
        gate.touch()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "0 of 4 failed\n"), err
    assert "the server is back" in err


def test_slots_that_run_builds_of_the_search_are_its_own(place: Place) -> None:
    """What it has cancelled may still be ending when the next round is planned."""
    fake = place.keep(FakeServer())
    agent: dict[str, Any] = {"slots": 4, "running": [{"id": 1}, {"id": 2}]}
    gone: dict[str, Any] = {"slots": 9, "running": [], "gone": True}
    fake.always["/api/agents"] = (200, {"agents": [agent, gone]})
    client = Client(f"http://127.0.0.1:{fake.port}")
    assert free_slots(client) == 2
    assert free_slots(client, own={2, 7}) == 3


def test_bisect_and_repeat_take_the_projects_command(place: Place, clone: Repository) -> None:
    """Nothing is built twice here either, but for the one build that tells the command."""
    server = place.server(repository=clone.path, command="grep good state")
    place.agent(server, slots=3)
    run = Shell(place, server, clone.path)
    done = run("bisect", clone.third, "main")
    assert done.returncode == 0 and "subject: Commit 7" in done.stdout, done.stderr
    built = len(server.builds())
    assert run("bisect", clone.third, "main").stdout == done.stdout
    assert len(server.builds()) <= built + 1
    assert run("repeat", "2", "main").stdout.startswith("2 of 2 failed: builds ")


def test_bisect_follows_first_parents_unless_told_to_go_into_a_merge(
    place: Place, own_repository: Repository
) -> None:
    own, folder = own_repository, own_repository.path
    git(folder, "checkout", "--quiet", "-b", "side", "main")
    for number, state in enumerate(("good", "bad", "bad")):
        own.commit({"state": state}, f"Side {number}", "side")
    own.commit({"main.txt": "1"}, "Main", "main")
    git(folder, "checkout", "--quiet", "--force", "main")
    me = ("-c", "user.name=A", "-c", "user.email=a")
    git(folder, *me, "merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    own.commit({"main.txt": "2"}, "After")
    server = place.server(repository=folder)
    place.agent(server, slots=2)
    run = Shell(place, server, folder)
    words = ("bisect", own.third, "main", "! grep bad state")
    assert "subject: Merge side" in run(*words).stdout
    into = run(*words, "--merges")
    assert "subject: Side 1" in into.stdout, into.stderr
    assert "is a merge; going into its branch" in into.stderr
