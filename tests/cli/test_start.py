"""`start` in a clone: the commit, the branch, and commits that nobody has pushed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.harness import Place, ServerProcess
from tests.support.repositories import git
from tests.support.shell import Shell

ME = ("-c", "user.name=A", "-c", "user.email=a")


@pytest.fixture
def clone(place: Place) -> Path:
    clone = place.folder / "clone"
    git(place.folder, "clone", "--quiet", str(place.repository.path), str(clone))
    return clone


def test_start_in_a_clone_builds_head(place: Place, server: ServerProcess, clone: Path) -> None:
    run = Shell(place, server, clone)
    assert run("start").returncode == 2, "this server has no command"
    git(clone, *ME, "commit", "--allow-empty", "-qm", "New")
    server.stop()
    server.sections["server"]["command"] = "echo the servers own; test -f script.sh"
    server.restart()
    unpushed = run("start")
    assert unpushed.returncode == 1 and "is not pushed" in unpushed.stderr
    git(clone, "reset", "--quiet", "--hard", "HEAD~1")
    done = run("start")
    assert (done.returncode, done.stdout) == (0, "the servers own\n"), done.stderr
    assert "is not pushed" not in done.stderr
    assert server.build(2)["commit"] == place.repository.third


def test_the_commit_and_the_branch_are_those_of_where_a_person_stands(
    place: Place, clone: Path
) -> None:
    """In a folder below, a working tree beside, a shallow clone, and on no branch."""
    server = place.server(command="true")
    third = place.repository.third
    git(clone, "checkout", "--quiet", "-b", "feature/tides")
    (clone / "below").mkdir()
    beside, shallow = place.folder / "beside", place.folder / "shallow"
    git(clone, "worktree", "add", "--quiet", "-b", "beside", str(beside), "HEAD~1")
    url = f"file://{place.repository.path}"
    git(place.folder, "clone", "--quiet", "--depth", "1", url, str(shallow))
    for folder, commit, ref in (
        (clone, third, "refs/heads/feature/tides"),
        (clone / "below", third, "refs/heads/feature/tides"),
        (beside, place.repository.second, "refs/heads/beside"),
        (shallow, third, "refs/heads/main"),
    ):
        done = Shell(place, server, folder)("start", "--detach")
        assert done.returncode == 0 and "is not pushed" not in done.stderr, done.stderr
        build = server.build(int(done.stdout))
        assert (build["commit"], build["ref"]) == (commit, ref)
    git(clone, "checkout", "--quiet", "--detach")
    build = server.build(int(Shell(place, server, clone)("start", "--detach").stdout))
    assert (build["commit"], build["ref"]) == (third, None)


def test_who_has_not_pushed_is_told_unless_the_server_has_the_commit(
    place: Place, clone: Path
) -> None:
    git(clone, *ME, "commit", "--allow-empty", "-qm", "New")
    said = "is not pushed, as far as this clone knows"
    elsewhere = place.server(command="true", repository="https://git.example/project.git")
    run = Shell(place, elsewhere, clone)
    assert said in run("start", "--detach").stderr
    git(clone, "push", "--quiet", "origin", "HEAD:refs/heads/new")
    assert said not in run("start", "--detach").stderr
    # `python3 -m minici` builds the clone itself: nothing needs to be pushed.
    git(clone, *ME, "commit", "--allow-empty", "-qm", "Newer")
    here = Shell(place, place.server(command="true", repository=clone), clone)
    assert said not in here("start", "--detach").stderr
    assert said in run("start", "--detach").stderr


def test_a_project_has_its_own_repository_and_command(place: Place) -> None:
    server = place.configure_server(command="echo first")
    server.sections["project second"] = {"command": "echo second"}
    server.start()
    run = Shell(place, server)
    first = server.build(int(run("start", "--detach", "main").stdout))
    second = server.build(int(run("start", "--detach", "--project", "second", "main").stdout))
    again = server.build(int(run("rebuild", "--detach", "2").stdout))
    assert (first["command"], second["command"]) == ("echo first", "echo second")
    assert (second["project"], again["project"], again["event"]) == ("second", "second", "rebuild")
    rows = run("list", "--project", "second", "--status", "queued", "--limit", "1").stdout
    assert rows.startswith("3\tqueued\t") and len(rows.splitlines()) == 1
