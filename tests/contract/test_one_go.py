"""Sections 2 and 6: `python -m minici` on several repositories, and what a person commits."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Place, holds_for, wait_for
from tests.support.repositories import Repository, git
from tests.support.standalone import Standalone


def in_one_go(place: Place, folder: Path, *words: object) -> Standalone:
    minici = Standalone(place, folder, [sys.executable, "-m", "minici", *words])
    minici.launch()
    minici.ready()
    return minici


def builds_of(minici: Standalone) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = minici.get("/api/builds").json()["builds"]
    return found[::-1]


def wait_for_builds(minici: Standalone, count: int) -> list[dict[str, Any]]:
    wait_for(lambda: len(builds_of(minici)) >= count, 30, f"{count} builds")
    return builds_of(minici)


def wait_for_looks(minici: Standalone, count: int = 1) -> None:
    home = Path(minici.env["HOME"])
    wait_for(lambda: len(list(home.rglob("refs/*.json"))) == count, 30, "the first look")


def test_the_lines_are_those_of_a_server_and_of_agents(place: Place) -> None:
    minici = in_one_go(place, place.repository.path, "--agents", "2")
    wait_for(lambda: "Ctrl-C" in minici.log(), 30, "all has started")
    address = f"http://127.0.0.1:{minici.port}/"
    server, *agents = minici.out.read_text().splitlines()
    assert server == f"minici server: {address}"
    assert len(agents) == 2
    for line in agents:
        assert re.fullmatch(rf"minici agent: http://127\.0\.0\.1:\d+/ -> {address}", line), line
    advice = f"minici: open {address} and start a build of {place.repository.path}"
    assert minici.log().splitlines()[0] == advice


def test_several_repositories_are_projects(place: Place) -> None:
    """Named after their folders, with a number where two have the same name; each once."""
    made = [Repository(place.folder / name) for name in ("tides", "other/tides", "Шторм")]
    for each in made:
        git(each.path, "checkout", "--quiet", "main")
    (made[0].path / "below").mkdir()
    folders = [*(each.path for each in made), made[0].path / "below"]
    minici = in_one_go(place, place.folder, "--agents", "1", *folders)
    page = minici.get("/", {"Accept-Language": "en"}).text
    assert re.findall(r'<option value="([^"]*)"', page) == ["tides", "tides-2", "project"]
    for name, repository in zip(("tides", "tides-2", "project"), made):
        params = {"project": name, "commit": "main", "command": "git rev-parse HEAD"}
        build = minici.post("/api/builds", params).json()
        assert (build["project"], build["repository"]) == (name, str(repository.path))
    wait_for(lambda: {b["status"] for b in builds_of(minici)} == {"success"}, 60, "all builds")
    assert minici.stop(20, signal.SIGINT) == 0


def test_each_commit_on_any_branch_is_built(place: Place, own_repository: Repository) -> None:
    git(own_repository.path, "checkout", "--quiet", "main")
    below = own_repository.path / "below"
    below.mkdir()
    minici = in_one_go(place, below, "--agents", "1", "--on-push", "git log -1 --format=%s")
    wait_for_looks(minici)
    assert builds_of(minici) == [], "what was there before is not built"
    revisions = []
    for branch in ("main", "feature/new", "main"):
        revisions.append(own_repository.commit({"file.txt": branch}, f"On {branch}", branch))
        wait_for_builds(minici, len(revisions))
    found = wait_for_builds(minici, 3)
    assert [each["revision"] for each in found] == revisions
    assert [each["event"] for each in found] == ["push"] * 3
    wait_for(lambda: {b["status"] for b in builds_of(minici)} == {"success"}, 60, "all builds")
    assert minici.get("/build/2/stdout").text == "On feature/new\n"
    git(own_repository.path, "tag", "v9")
    holds_for(lambda: len(builds_of(minici)) == 3, 1.5, "a tag is no commit")
    assert minici.stop(20, signal.SIGTERM) == 0
    away = own_repository.commit({"file.txt": "away"}, "While nobody looked")
    minici.launch()
    minici.ready()
    assert wait_for_builds(minici, 4)[3]["revision"] == away


def test_commits_that_wait_are_all_built(place: Place, own_repository: Repository) -> None:
    """Another commit does not take the place of one that waits."""
    minici = in_one_go(place, own_repository.path, "--agents", "1", "--on-push", "sleep 3")
    wait_for_looks(minici)
    for number in range(1, 4):
        own_repository.commit({"file.txt": str(number)}, "One")
        wait_for_builds(minici, number)
    assert "cancelled" not in {each["status"] for each in builds_of(minici)}


@pytest.mark.parametrize("kind", ["worktree", "bare"])
def test_the_commits_of_worktrees_and_bare_repositories(
    place: Place, own_repository: Repository, kind: str
) -> None:
    """The command is the usual one of the repository; a folder is not taken for one."""
    own_repository.commit({"Makefile": "test:\n\t@cat file.txt\n"}, "Make")
    git(own_repository.path, "checkout", "--quiet", "main")
    beside = place.folder / "beside"
    if kind == "worktree":
        git(own_repository.path, "worktree", "add", "--quiet", "-b", "mine", str(beside))
    else:
        git(place.folder, "clone", "--quiet", "--bare", str(own_repository.path), str(beside))
    minici = in_one_go(place, place.folder, "--agents", "1", "--on-push", beside)
    wait_for_looks(minici)
    words = ["-c", "user.name=T", "-c", "user.email=t@t"]
    if kind == "worktree":
        git(beside, *words, "commit", "--quiet", "--allow-empty", "-m", "Mine")
    else:
        revision = own_repository.commit({"file.txt": "pushed\n"}, "Pushed")
        git(own_repository.path, "push", "--quiet", str(beside), f"{revision}:refs/heads/mine")
    (build,) = wait_for_builds(minici, 1)
    assert (build["ref"], build["command"]) == ("refs/heads/mine", "make test")
    assert (build["project"], build["repository"]) == ("beside", str(beside))


def test_several_that_start_at_once_all_answer(place: Place) -> None:
    """Each has a port of its own, also where all have found the same one free."""
    folders = [Repository(place.folder / name).path for name in ("one", "two", "three")]
    started = [
        Standalone(place, each, [sys.executable, "-m", "minici", "--agents", "1"])
        for each in folders
    ]
    for number, minici in enumerate(started):
        minici.name = f"minici{number}"
        minici.launch()
    for minici in started:
        minici.ready()
    assert len({minici.port for minici in started}) == 3


def test_what_is_no_repository_is_named(place: Place) -> None:
    words = [sys.executable, "-m", "minici", place.repository.path, place.elsewhere]
    minici = Standalone(place, place.folder, words)
    minici.launch()
    assert minici.wait_end() == 1
    assert minici.log().splitlines() == [
        f"minici: {place.elsewhere} is in no git repository: go into one, then start again"
    ]
