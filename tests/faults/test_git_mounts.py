"""Rule 23: cleaning never leaves the tree's own file system, and removes nothing outside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minici.checkout import mounts
from minici.checkout.mounts import mounts_in
from tests.support.checkouts import Agent, Upstream

CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0
only_root = pytest.mark.skipif(not CAN_MOUNT, reason="only root can mount, and only on Linux")


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    upstream.commit("First", file="one\n", sub__file="one\n")
    upstream.commit("Second", file="two\n", sub__file="two\n")
    return upstream


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "da ta")
    yield agent
    agent.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder of somebody else's; what was mounted below `tmp_path` is unmounted at the end."""
    folder = tmp_path / "elsewhere"
    (folder / "inner").mkdir(parents=True)
    (folder / "precious").write_text("precious")
    (folder / "inner" / "precious").write_text("precious")
    yield folder
    for point in reversed(mounts_in(tmp_path)):
        subprocess.run(["umount", "-l", point], check=True)


MOUNTS = {
    "a new folder": "mkdir m; mount --bind {} m",
    "a tracked folder": "mount --bind {} sub",
    "deep": "mkdir -p a/b/c; touch x; mount --bind {} a/b/c",
    "a file": "mount --bind {}/precious file",
    "in .git": "mkdir .git/m; mount --bind {} .git/m",
    "odd name": "mkdir 'a b'; mount --bind {} 'a b'",
    "over itself": "mount --bind sub sub; mkdir sub/m; mount --bind {} sub/m",
    "another file system": "mkdir m; mount --bind {} m; mkdir t; mount -t tmpfs none t; touch t/x",
    "the git folder": "mount --bind {} ../0.git/objects",
    "the tree": 'mount --bind {} "$PWD"',
}


@only_root
@pytest.mark.parametrize("command", MOUNTS.values(), ids=MOUNTS)
def test_fault_51_what_is_mounted_in_a_tree_is_left_alone(
    agent: Agent, upstream: Upstream, elsewhere: Path, command: str
) -> None:
    revisions = [upstream.git("rev-parse", name) for name in ("main", "main~1")]
    agent.checkout(upstream.folder, revisions[0])
    agent.sh(command.format(elsewhere))
    for revision in [*revisions, *revisions]:
        agent.checkout(upstream.folder, revision)
        assert agent.sh("ls -A; git status --porcelain --ignored") == ".git\nfile\nsub"
        assert agent.sh("cat file sub/file | sort -u") == ("two", "one")[revisions.index(revision)]
    found = [path.name for path in sorted(elsewhere.rglob("*"))]
    assert found == ["inner", "precious", "precious"]
    assert (elsewhere / "precious").read_text() == "precious"


@only_root
def test_fault_51_what_was_put_aside_goes_when_nothing_is_mounted_there_any_more(
    agent: Agent, upstream: Upstream, elsewhere: Path
) -> None:
    agent.checkout(upstream.folder, "main")
    agent.sh(f"mkdir m; mount --bind {elsewhere} m")
    agent.checkout(upstream.folder, "main")
    (point,) = mounts_in(agent.tree.parent)
    subprocess.run(["umount", point], check=True)
    agent.sh(f"mkdir m; mount --bind {elsewhere} m")
    agent.checkout(upstream.folder, "main")
    assert len(list(agent.tree.parent.glob("*.trash"))) == 1
    assert (elsewhere / "precious").exists()


@only_root
def test_mounts_are_found_by_device_where_there_is_no_table(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "m").mkdir(parents=True)
    monkeypatch.setattr(mounts, "_TABLE", "/nowhere")
    assert mounts_in(tmp_path / "tree") == []
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path / "tree" / "m")], check=True)
    assert mounts_in(tmp_path / "tree") == [str(tmp_path / "tree" / "m")]
    assert mounts_in(tmp_path / "none") == []
