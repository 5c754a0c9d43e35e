"""Whether refs may have moved, by real repositories of this host."""

from __future__ import annotations

import inspect
import shutil
import sys
import time
from pathlib import Path
from typing import Callable, Optional

import pytest

from minici.config import ProjectConfig
from minici.triggers import poller as poller_module
from minici.triggers.local_refs import LocalRefs, Stamp
from minici.triggers.poller import ProjectPoller
from minici.triggers.pushes import Restored
from tests.support.repositories import Repository, git

CHANGES: dict[str, Callable[[Repository], object]] = {
    "a commit": lambda r: r.commit({"x": "x"}, "One"),
    "a commit on a branch in a folder": lambda r: r.commit({"x": "x"}, "One", "deep/er/x"),
    "a new branch": lambda r: git(r.path, "branch", "new"),
    "a new branch in a folder": lambda r: git(r.path, "branch", "a/b/c"),
    "a forced branch": lambda r: git(r.path, "branch", "-f", "topic", r.second),
    "a packed branch that is deleted": lambda r: git(r.path, "branch", "-D", "packed"),
    "a tag": lambda r: git(r.path, "tag", "v9"),
    "a tag that moves": lambda r: git(r.path, "tag", "-f", "light", r.third),
    "packing": lambda r: git(r.path, "pack-refs", "--all"),
    "a push": lambda r: git(r.path, "push", "--quiet", ".", "main:refs/heads/pushed"),
}


def soon() -> int:
    """A clock that is a minute ahead: what changed just now is settled."""
    return time.time_ns() + 60_000_000_000


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "made")
    git(made.path, "branch", "deep/er/x")
    git(made.path, "branch", "packed")
    git(made.path, "pack-refs", "--all")
    git(made.path, "branch", "deep/er/y")
    git(made.path, "checkout", "--quiet", "main")
    return made


def stamp_of(path: Path) -> Optional[Stamp]:
    return LocalRefs(str(path), soon).stamp()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_change_shows(repository: Repository, change: Callable[[Repository], object]) -> None:
    refs = LocalRefs(str(repository.path), soon)
    before = refs.stamp()
    assert before is not None and refs.stamp() == before
    time.sleep(0.02)  # longer than a tick of the file system
    change(repository)
    assert refs.stamp() not in (None, before)


def test_what_is_no_branch_and_no_tag_does_not_show(repository: Repository) -> None:
    before = stamp_of(repository.path)
    git(repository.path, "update-ref", "refs/notes/x", repository.first)
    git(repository.path, "update-ref", "refs/remotes/origin/x", repository.first)
    (repository.path / "file.txt").write_text("edited")
    assert stamp_of(repository.path) == before


def test_worktrees_and_bare_repositories_are_the_same(repository: Repository) -> None:
    beside, bare = repository.path.with_name("beside"), repository.path.with_name("bare.git")
    git(repository.path, "worktree", "add", "--quiet", str(beside), "topic")
    git(repository.path, "clone", "--quiet", "--bare", str(repository.path), str(bare))
    for path in (beside, bare):
        before = stamp_of(path)
        time.sleep(0.02)
        owner = repository.path if path == beside else bare
        git(owner, "branch", "--force", "other", repository.first)
        assert before is not None and stamp_of(path) not in (None, before), path


def test_what_has_changed_just_now_is_not_trusted(repository: Repository) -> None:
    repository.commit({"x": "x"}, "One")
    assert LocalRefs(str(repository.path)).stamp() is None


@pytest.mark.parametrize("address", ["https://git.example/x.git", "host:x.git", "/nowhere", "x"])
def test_what_is_not_here_has_no_stamp(address: str) -> None:
    assert LocalRefs(address, soon).stamp() is None


def test_a_name_of_any_depth_is_looked_at(repository: Repository) -> None:
    """A server would otherwise stop looking for a branch that somebody has pushed."""
    name = "/".join("d" * 300)
    git(repository.path, "branch", name)
    refs, limit = LocalRefs(str(repository.path), soon), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        before = refs.stamp()
    finally:
        sys.setrecursionlimit(limit)
    assert before is not None and len(before) > 300
    time.sleep(0.02)
    git(repository.path, "branch", "--force", name, repository.first)
    assert refs.stamp() not in (None, before)
    git(repository.path, "branch", "-D", name)
    assert refs.stamp() is not None
    assert len(refs._below) < 30, "and what has gone is forgotten"


class Counting:
    """A server that remembers, and counts the looks that ask git."""

    def __init__(self) -> None:
        self.asked = 0
        self.time = 1000.0

    def listing(self, *_: object) -> bytes:
        self.asked += 1
        return b""

    def restore(self, project: ProjectConfig) -> Restored:
        return Restored({})


def test_a_repository_at_rest_is_asked_once_a_minute(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Counting()
    project = ProjectConfig("p", str(repository.path), "make", branches=("*",), poll=1.0)
    poller = ProjectPoller(project, world, world.listing, lambda: world.time)  # type: ignore
    poller._local = LocalRefs(str(repository.path), soon)
    assert [poller.look() for _ in range(10)] == [1.0] * 10
    assert world.asked == 1
    poller.look_now()
    poller.look()
    assert world.asked == 2, "somebody says that something was pushed"
    world.time += poller_module._TRUST_SECONDS
    poller.look()
    poller.look()
    assert world.asked == 3, "no time of a folder is trusted for ever"
    time.sleep(0.02)
    git(repository.path, "branch", "new")
    poller.look()
    assert world.asked == 4
    shutil.rmtree(repository.path)
    poller.look()
    assert world.asked == 5, "what has gone is asked for, and said"


def test_a_call_in_the_middle_of_a_look_brings_another_one(repository: Repository) -> None:
    world = Counting()
    project = ProjectConfig("p", str(repository.path), "make", branches=("*",), poll=1.0)

    def listing(*_: object) -> bytes:
        if world.asked == 0:
            poller.look_now()
        return world.listing()

    poller = ProjectPoller(project, world, listing, lambda: world.time)  # type: ignore
    poller._local = LocalRefs(str(repository.path), soon)
    for _ in range(3):
        poller.look()
    assert world.asked == 2, "and then its folders are trusted"
