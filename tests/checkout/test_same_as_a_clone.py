"""Rule 23: whatever was built before, a tree is byte for byte and mode for mode a fresh clone."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Callable

import pytest

from tests.support.attributes import lock, set_access_list, set_attribute, unlock_all
from tests.support.checkouts import Agent, Upstream

SETTINGS = """\
[filter "upper"]
    smudge = tr a-z A-Z
    clean = tr A-Z a-z
[filter "lfs"]
    smudge = cat
    clean = cat
"""


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(SETTINGS)
    monkeypatch.setenv("HOME", str(home))
    agent = Agent(tmp_path / "data")
    yield agent
    agent.close()
    unlock_all(agent.data)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream")


def listing(tree: Path) -> dict[str, tuple[str, bytes]]:
    """Kind, mode, attributes and content of all that is in a tree, but for its `.git`."""
    found = {".": (look(tree), b"")}
    for folder, folders, files in os.walk(tree):
        if folder == str(tree):
            folders.remove(".git")
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            found[str(path.relative_to(tree))] = (look(path), content)
    return found


def look(path: Path) -> str:
    names = os.listxattr(path, follow_symlinks=False) if sys.platform == "linux" else ()
    return " ".join([oct(path.lstat().st_mode), *names])


def fresh_clone(upstream: Path, revision: str) -> dict[str, tuple[str, bytes]]:
    """The same of a clone that has been made for it."""
    clone = upstream.with_name("clone")
    env = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    words = ["git", "clone", "-q", "--no-checkout", str(upstream), str(clone)]
    subprocess.run(words, env=env, check=True)
    words = ["git", "checkout", "-q", "--detach", revision]
    subprocess.run(words, cwd=clone, env=env, check=True, stderr=subprocess.DEVNULL)
    try:
        return listing(clone)
    finally:
        shutil.rmtree(clone)


ATTRIBUTES = [
    "*.txt text eol=crlf\n",
    "*.txt text eol=lf\n",
    "*.txt -text\n",
    "* text=auto\n*.bin -text\n",
    "*.txt filter=upper\n",
    "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    "*.txt ident\n",
    "*.txt text working-tree-encoding=UTF-16LE\n",
    "*.txt text working-tree-encoding=UTF-16LE eol=crlf\n",
]
CONTENTS = [b"one\ntwo\n", b"one\r\ntwo\r\n", b"$Id$\nabc\n", b"", b"mixed\r\nlines\n", b"x" * 3000]
NAMES = ["a.txt", "b.txt", "sub/a.txt", "sub/deep/c.txt", "d.bin", "sub/e.bin", "f", "sub/f", "g/h"]


KINDS = ["attributes"] * 5 + ["no attributes", "write", "write", "link", "mode", "remove", "turn"]


def change(upstream: Upstream, chance: random.Random) -> None:
    """One change of a random kind in the working folder of the repository."""
    folder = chance.choice(["", "sub/", "sub/deep/"])
    path = upstream.folder / chance.choice(NAMES)
    kind = chance.choice(KINDS)
    attributes = upstream.folder / folder / ".gitattributes"
    if kind == "attributes" and not attributes.parent.is_file():
        with suppress(OSError):
            attributes.parent.mkdir(parents=True, exist_ok=True)
            attributes.write_text(chance.choice(ATTRIBUTES))
    elif kind == "no attributes":
        with suppress(OSError):
            attributes.unlink()
    elif kind in ("write", "link", "turn"):
        remove(path)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(chance.choice(["a.txt", "sub", "/etc/hostname", "nowhere"]))
            elif kind == "turn":
                path.mkdir()
                (path / "inner.txt").write_bytes(chance.choice(CONTENTS))
            else:
                path.write_bytes(chance.choice(CONTENTS))
    elif kind == "mode" and path.is_file() and not path.is_symlink():
        path.chmod(path.stat().st_mode ^ 0o111)
    elif kind == "remove":
        remove(path)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(OSError):
            path.unlink()


def make_socket(path: Path) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
        path.unlink(missing_ok=True)
        here = os.getcwd()
        os.chdir(path.parent)  # its path would be too long
        listener.bind(path.name)
        os.chdir(here)


LEFTOVERS: list[Callable[[Path, Path, random.Random], object]] = [
    lambda tree, path, chance: (path.parent / "left.o").write_text("left"),
    lambda tree, path, chance: (path.parent / ".gitignore").write_text("*"),
    lambda tree, path, chance: (path.parent / ".gitattributes").write_text("* eol=crlf\n"),
    lambda tree, path, chance: path.parent.chmod(chance.choice([0o555, 0o700, 0o777, 0o2755])),
    lambda tree, path, chance: path.write_bytes(path.read_bytes()[::-1]),
    lambda tree, path, chance: os.utime(path, (1, 1)),
    lambda tree, path, chance: make_socket(path.parent / "left.sock"),
    lambda tree, path, chance: os.mkfifo(path.parent / "left.fifo"),
    lambda tree, path, chance: subprocess.run(["git", "init", "-q", str(path.parent / "nested")]),
    lambda tree, path, chance: subprocess.run(["git", "init", "-q", str(path.parent)]),
    lambda tree, path, chance: (tree / ".git/info").mkdir(),
    lambda tree, path, chance: (tree / ".git/index").write_bytes(b""),
    lambda tree, path, chance: remove(tree / ".git"),
    lambda tree, path, chance: remove(path),
    lambda tree, path, chance: path.rename(path.with_name("renamed")),
    lambda tree, path, chance: [remove(path), path.symlink_to("/etc")],
    lambda tree, path, chance: (path.parent / "empty").mkdir(),
    lambda tree, path, chance: os.link(path, tree.parent / f"kept{chance.random()}"),
    lambda tree, path, chance: [remove(path), path.mkdir(), (path / "x").touch()],
    lambda tree, path, chance: set_access_list(path.parent, "default", group=7, other=7),
    lambda tree, path, chance: set_access_list(tree, "default", group=0, other=0),
    lambda tree, path, chance: set_access_list(path, "access", group=4, other=4),
    lambda tree, path, chance: set_attribute(path, "user.left"),
    lambda tree, path, chance: set_attribute(path.parent, "user.left"),
    lambda tree, path, chance: lock(path, chance.choice("ia")),
    lambda tree, path, chance: lock(path.parent, chance.choice("ia")),
]


def build(tree: Path, chance: random.Random) -> None:
    """What builds do: some of it fails, as theirs does."""
    for _ in range(chance.choice([0, 1, 1, 1, 4])):
        paths = [path for path in tree.rglob("*") if ".git" not in path.parts] or [tree / "x"]
        path = chance.choice(sorted(paths))
        with suppress(OSError):
            if path.is_file() and chance.random() < 0.3:
                path.chmod(chance.choice([0o600, 0o666, 0o755, 0o777, 0o400]))
            else:
                chance.choice(LEFTOVERS)(tree, path, chance)


@pytest.mark.parametrize("seed", range(6))
def test_random_commits_and_leftovers(agent: Agent, upstream: Upstream, seed: int) -> None:
    chance = random.Random(seed)
    revisions: list[str] = []
    clones: dict[str, dict[str, tuple[str, bytes]]] = {}
    for name in NAMES:
        (upstream.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (upstream.folder / name).write_bytes(chance.choice(CONTENTS))
    upstream.commit("All files")
    for number in range(12):
        for _ in range(chance.randrange(1, 3)):
            change(upstream, chance)
        try:
            revisions.append(upstream.commit(f"Commit {number}"))
        except subprocess.CalledProcessError:  # a file that is not in that encoding
            upstream.git("reset", "-q", "--hard")
            upstream.git("clean", "-ffdxq")
            continue
        clones[revisions[-1]] = fresh_clone(upstream.folder, revisions[-1])
    for step in range(40):
        revision = chance.choice(revisions)
        agent.checkout(upstream.folder, revision)
        assert listing(agent.tree) == clones[revision], f"seed {seed}, step {step}"
        build(agent.tree, chance)
