"""Rule 23: access lists, extended attributes and flags of one build do not reach the next."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from minici.checkout.git import GitError
from tests.checkout.test_same_as_a_clone import fresh_clone, listing
from tests.support.attributes import lock, set_access_list, set_attribute, unlock_all
from tests.support.checkouts import Agent, Upstream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can lock files")


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    upstream.commit("First", file="one\n", sub__file="one\n", sub__other="other\n")
    upstream.commit("Second", file="two\n", sub__file="two\n")
    return upstream


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "data")
    yield agent
    agent.close()
    unlock_all(agent.data)


def check_next_tree(agent: Agent, upstream: Upstream, leave: Callable[[Path], object]) -> None:
    """Let builds `leave` something, and compare the next trees with fresh clones."""
    second = upstream.git("rev-parse", "main")
    first = upstream.git("rev-parse", "main~1")
    for before, after in ((second, second), (second, first)):
        agent.checkout(upstream.folder, before)
        leave(agent.tree)
        for _ in range(2):
            agent.checkout(upstream.folder, after)
            assert listing(agent.tree) == fresh_clone(upstream.folder, after)
            check_new_files(agent.tree)


def check_new_files(tree: Path) -> None:
    """Do what a build could do in a fresh clone, and see the usual modes."""
    for folder in (tree, tree / "sub", tree / ".git"):
        (folder / "new").touch()
        assert (folder / "new").stat().st_mode & 0o777 == 0o644
        (folder / "new").unlink()
    for path in (tree / "sub/other", tree / ".git/config"):
        path.write_text(path.read_text())


ATTRIBUTES: dict[str, Callable[[Path], object]] = {
    "inherited in the tree": lambda tree: set_access_list(tree, "default", group=7, other=7),
    "inherited in a folder": lambda tree: set_access_list(tree / "sub", "default", 0, 0),
    "inherited in .git": lambda tree: set_access_list(tree / ".git", "default", group=0, other=0),
    "of a file": lambda tree: set_access_list(tree / "sub/other", "access", group=4, other=4),
    "of a folder": lambda tree: set_access_list(tree / "sub", "access", group=5, other=5),
    "attribute of a file": lambda tree: set_attribute(tree / "sub/other", "user.left"),
    "attribute of a folder": lambda tree: set_attribute(tree / "sub", "user.left"),
    "and more is left": lambda tree: [
        set_access_list(tree / "sub", "default", group=7, other=7),
        (tree / "sub/left").write_text("left"),
        (tree / "sub/other").unlink(),
    ],
}


@pytest.mark.parametrize("leave", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_rule_23_access_lists_and_attributes(
    agent: Agent, upstream: Upstream, leave: Callable[[Path], object]
) -> None:
    check_next_tree(agent, upstream, leave)


@only_root
@pytest.mark.parametrize(
    ("place", "flag"),
    [
        ("sub/other", "i"),
        ("sub", "i"),
        ("sub", "a"),
        (".", "i"),
        (".git", "a"),
        (".git/index", "i"),
        ("..", "i"),
    ],
)
def test_rule_23_what_a_build_has_locked(
    agent: Agent, upstream: Upstream, place: str, flag: str
) -> None:
    check_next_tree(agent, upstream, lambda tree: lock(tree / place, flag))
    assert not list(agent.tree.parent.glob("*.trash"))


@only_root
def test_rule_23_what_can_not_be_unlocked_is_named(
    agent: Agent, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.checkout(upstream.folder, "main")
    lock(agent.tree, "i")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chattr").symlink_to("/bin/false")
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{path}")
    with pytest.raises(GitError, match=f"{agent.tree} is in the way .*; see lsattr, and remove it"):
        agent.checkout(upstream.folder, "main")
    monkeypatch.setenv("PATH", path)
    agent.checkout(upstream.folder, "main")
    check_new_files(agent.tree)
