"""Fault 50 where the agent is root's and commands are another user's: the next tree is still that
of a fresh clone, and the user's own."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minici.process.account import Account
from tests.checkout.test_same_as_a_clone import fresh_clone, listing
from tests.support.attributes import set_access_list
from tests.support.checkouts import Agent, Upstream

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can run commands as another user"
)

# What a build does in its tree. Some of it fails, as builds do.
DEEDS = [
    "chmod 555 sub",
    "chmod 000 sub",
    "chmod 000 sub/deep",
    "chmod 111 sub/deep",
    "chmod 333 sub",
    "chmod 444 sub/deep",
    "chmod 1777 sub/deep",
    "chmod 2755 sub",
    "chmod 555 .",
    "chmod 000 .",
    "chmod 777 .",
    "chmod 000 a.txt",
    "chmod 666 a.txt sub/b.txt",
    "chmod 400 sub/deep/c.txt",
    "chmod 4755 run.sh",
    "chmod 644 run.sh",
    "chmod -R a-w .",
    "chmod -R 000 sub",
    "chmod -R u=rwX,go= .",
    "rm sub/b.txt; chmod 555 sub",
    "rm -rf sub/deep; chmod 500 sub",
    "mkdir -p left/in; touch left/in/x left/y; chmod 555 left/in left",
    "mkdir -p left/in; touch left/in/x left/y; chmod 000 left/in left",
    "mkdir -p sub/left/in; chmod 000 sub/left/in; chmod 000 sub/left",
    "umask 077; rm -f a.txt; echo changed >a.txt",
    "umask 000; rm -rf sub; mkdir -p sub/deep; echo x >sub/b.txt",
    "rm -f run.sh; ln -s /etc/passwd run.sh",
    "rm -rf sub; ln -s /etc sub",
    "mv sub other; ln -s other sub",
    "ln sub/b.txt hard; chmod 000 hard",
    "mkfifo -m 000 sub/left.fifo",
    "git init -q sub; chmod -R a-w sub/.git",
    "rm -rf .git",
    "chmod 000 .git",
    "chmod -R a-w .git",
    "rm -rf .git; ln -s /etc .git",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder through which other users get."""
    folder = Path(tempfile.mkdtemp(prefix="minici-open-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def agent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    home = folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    monkeypatch.setenv("HOME", str(home))
    agent = Agent(folder / "data")
    agent.account = Account.named("nobody")
    yield agent
    agent.close()


@pytest.fixture
def revisions(folder: Path) -> list[str]:
    upstream = Upstream(folder / "upstream")
    script = upstream.folder / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    files = {"a.txt": "a\n", "sub__b.txt": "b\n", "sub__deep__c.txt": "c\n"}
    first = upstream.commit("One", **files)
    second = upstream.commit("Two", **{"sub__b.txt": "two\n", "sub__deep__d.txt": "d\n"})
    subprocess.run(["chown", "-R", "nobody", str(upstream.folder)], check=True)
    return [first, second]


def act(agent: Agent, deed: str) -> None:
    """Do this in the tree, as the user of the commands."""
    assert agent.account is not None
    subprocess.run(
        ["/bin/sh", "-c", deed],
        cwd=agent.tree,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        user=agent.account.uid,
        group=agent.account.gid,
        extra_groups=[],
        stderr=subprocess.DEVNULL,
    )


def owners(tree: Path) -> set[int]:
    return {path.lstat().st_uid for path in [tree, *tree.rglob("*")]}


@pytest.mark.parametrize("seed", range(2))
def test_fault_50_whatever_another_user_leaves(
    agent: Agent, folder: Path, revisions: list[str], seed: int
) -> None:
    chance = random.Random(seed)
    upstream = folder / "upstream"
    clones = {revision: fresh_clone(upstream, revision) for revision in revisions}
    for first in chance.sample(DEEDS, len(DEEDS)):
        deeds = [first, *chance.sample(DEEDS, chance.choice([0, 0, 1, 2]))]
        revision = chance.choice(revisions)
        agent.checkout(upstream, revision)
        for deed in deeds:
            act(agent, deed)
        revision = chance.choice(revisions)
        agent.checkout(upstream, revision)
        assert listing(agent.tree) == clones[revision], deeds
        assert owners(agent.tree) == {agent.account.uid}, deeds


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them")
def test_rule_23_access_lists_that_another_user_leaves(
    agent: Agent, folder: Path, revisions: list[str]
) -> None:
    upstream = folder / "upstream"
    agent.checkout(upstream, revisions[0])
    for each in (agent.tree, agent.tree / "sub" / "deep"):
        set_access_list(each, "default", group=7, other=7)
        agent.checkout(upstream, revisions[1])
        assert listing(agent.tree) == fresh_clone(upstream, revisions[1])
        assert owners(agent.tree) == {agent.account.uid}
