"""Mirrors and working trees, on real repositories, with what can go wrong with them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from minici.checkout.git import Git, GitError, Interrupted
from minici.checkout.mirror import Mirror
from minici.checkout.mirrors import folder_name
from minici.process.account import Account
from minici.process.command import StopOrder, Supervisor
from minici.validation import public
from tests.support.checkouts import Agent, Upstream
from tests.support.harness import wait_for

NOBODY = "0" * 39 + "1"


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "up stream")
    upstream.commit("First", file="one\n", folder__file="deep\n")
    upstream.git("tag", "-a", "v1", "-m", "version one")
    upstream.git("tag", "light")
    upstream.git("branch", "topic/one")
    upstream.commit("Second: ünï", file="two\n")
    return upstream


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "data")
    yield agent
    agent.close()


# What a commit may be.


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("HEAD", "main"),
        ("main", "main"),
        ("heads/main", "main"),
        ("refs/heads/main", "main"),
        ("origin/main", "main"),
        ("topic/one", "v1"),
        ("v1", "v1"),
        ("tags/v1", "v1"),
        ("refs/tags/light", "v1"),
        ("HEAD~1", "v1"),
        ("HEAD^", "v1"),
        ("main~1^0", "v1"),
        ("v1-1-g{short}", "main"),
        ("{full}", "main"),
        ("{short}", "main"),
        ("{full}~1", "v1"),
        ("{FULL}", "main"),
    ],
)
def test_what_a_commit_may_be(agent: Agent, upstream: Upstream, typed: str, means: str) -> None:
    full = upstream.git("rev-parse", "main")
    typed = typed.format(full=full, short=full[:7], FULL=full.upper())
    found = agent.checkout(upstream.folder, typed)
    assert found.revision == upstream.git("rev-parse", f"{means}^{{commit}}")
    assert agent.sh("git rev-parse HEAD") == found.revision
    assert agent.sh("cat file") == {"main": "two", "v1": "one"}[means]


def test_subject_and_author_are_as_written(agent: Agent, upstream: Upstream) -> None:
    found = agent.checkout(upstream.folder, "main")
    assert (found.subject, found.author) == ("Second: ünï", "Ада")
    assert "@" in found.author_email
    upstream.git("commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "")
    assert agent.checkout(upstream.folder, "main").subject == ""


@pytest.mark.parametrize("typed", ["nowhere", NOBODY, "0123456", "HEAD~9", "v1^2", "FETCH_HEAD"])
def test_an_unknown_commit_says_so(agent: Agent, upstream: Upstream, typed: str) -> None:
    agent.checkout(upstream.folder, "main")
    with pytest.raises(GitError, match="no commit") as error:
        agent.checkout(upstream.folder, typed)
    assert typed in str(error.value) and str(upstream.folder) in str(error.value)


def test_a_branch_goes_before_a_tag_and_a_tag_before_a_hash(
    agent: Agent, upstream: Upstream
) -> None:
    first, second = upstream.git("rev-parse", "v1^{commit}"), upstream.git("rev-parse", "main")
    upstream.git("branch", "same", first)
    upstream.git("tag", "same", second)
    upstream.git("tag", second[:7], first)
    assert agent.checkout(upstream.folder, "same").revision == first
    assert agent.checkout(upstream.folder, second[:7]).revision == first


def test_a_full_hash_that_is_here_needs_no_network(agent: Agent, upstream: Upstream) -> None:
    revision = agent.checkout(upstream.folder, "main").revision
    upstream.folder.rename(upstream.folder.with_name("away"))
    assert agent.checkout(upstream.folder, revision).revision == revision
    with pytest.raises(GitError, match="does not appear to be a git repository"):
        agent.checkout(upstream.folder, "main")


def test_a_commit_of_a_second_ago(agent: Agent, upstream: Upstream) -> None:
    agent.checkout(upstream.folder, "main")
    newest = upstream.commit("Third", file="three\n")
    assert agent.checkout(upstream.folder, newest).subject == "Third"
    later = upstream.commit("Fourth", file="four\n")
    assert agent.checkout(upstream.folder, "main").revision == later


def test_branches_that_move_vanish_and_change_into_folders(
    agent: Agent, upstream: Upstream
) -> None:
    agent.checkout(upstream.folder, "topic/one")
    made = agent.mirror.stat().st_ino
    upstream.git("branch", "-D", "topic/one")
    upstream.git("branch", "topic")
    upstream.git("tag", "-d", "light")
    upstream.git("tag", "-f", "v1", "main")
    upstream.git("commit", "-q", "--amend", "--allow-empty", "-m", "Rewritten")
    assert agent.checkout(upstream.folder, "topic").subject == "Second: ünï"
    assert agent.checkout(upstream.folder, "v1").subject == "Second: ünï"
    assert agent.checkout(upstream.folder, "main").subject == "Rewritten"
    for gone in ("topic/one", "light"):
        with pytest.raises(GitError, match="no commit"):
            agent.checkout(upstream.folder, gone)
    upstream.git("branch", "-D", "topic")
    upstream.git("branch", "topic/two")
    assert agent.checkout(upstream.folder, "topic/two").subject == "Rewritten"
    assert agent.mirror.stat().st_ino == made, "all this is no reason to begin anew"


def test_a_commit_that_no_branch_has_any_more(agent: Agent, upstream: Upstream) -> None:
    lost = upstream.commit("Lost", file="lost\n")
    upstream.git("reset", "-q", "--hard", "HEAD~1")
    assert agent.checkout(upstream.folder, lost).subject == "Lost"


def test_a_head_without_commits(agent: Agent, upstream: Upstream) -> None:
    assert agent.checkout(upstream.folder, "HEAD").subject == "Second: ünï"
    upstream.git("symbolic-ref", "HEAD", "refs/heads/unborn")
    assert agent.checkout(upstream.folder, "main").subject == "Second: ünï"
    with pytest.raises(GitError, match='no commit "HEAD"'):
        agent.checkout(upstream.folder, "HEAD")


def test_an_empty_repository(agent: Agent, tmp_path: Path) -> None:
    empty = Upstream(tmp_path / "empty")
    with pytest.raises(GitError, match='no commit "HEAD"'):
        agent.checkout(empty.folder, "HEAD")
    empty.commit("First", file="x")
    assert agent.checkout(empty.folder, "HEAD").subject == "First"


def test_a_shallow_repository(agent: Agent, upstream: Upstream, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    upstream.git("clone", "-q", "--depth", "1", f"file://{upstream.folder}", str(shallow))
    assert agent.checkout(shallow, "HEAD").subject == "Second: ünï"
    assert agent.sh("git log --format=%s") == "Second: ünï"


def test_a_repository_of_sha256(agent: Agent, tmp_path: Path) -> None:
    modern = Upstream(tmp_path / "modern", "--object-format=sha256")
    revision = modern.commit("Modern", file="x\n")
    assert len(revision) == 64
    assert agent.checkout(modern.folder, "main").revision == revision
    assert agent.checkout(modern.folder, revision).subject == "Modern"
    assert agent.sh("git log -1 --format=%s; git status --porcelain") == "Modern"


# What a command finds.


def test_the_git_folder_of_a_command(agent: Agent, upstream: Upstream) -> None:
    agent.checkout(upstream.folder, "main")
    assert agent.sh("git status --porcelain --ignored") == ""
    assert agent.sh("git describe").startswith("v1-1-g")
    assert agent.sh("git log -1 --format=%s origin/main~1") == "First"
    assert agent.sh("git remote get-url origin") == str(upstream.folder)
    assert agent.sh("git symbolic-ref -q HEAD || echo detached") == "detached"
    agent.sh("git -c user.name=x -c user.email=x commit -q --allow-empty -m own && git tag own")
    agent.sh("git fsck --no-dangling && git fetch -q origin main && git stash list")


BUILDS = {
    "files": "touch left .hidden; mkdir -p d/e; echo x > d/e/f; rm file; echo y > folder/file",
    "ignored": "mkdir .git/info; echo '*.o' | tee .git/info/exclude > .gitignore; touch a.o",
    "read-only": "mkdir -p ro/deep; touch ro/deep/x; chmod 555 ro/deep ro; chmod 000 folder",
    "nested": "git init -q nested; touch nested/x; git init -q folder/nested",
    "hooks": "cd .git; mkdir hooks; echo touch x > hooks/post-checkout; chmod +x hooks/*",
    "config": "git config core.fsmonitor 'touch x'; git config core.worktree /",
    "lock": "touch .git/index.lock",
    "index": "echo garbage > .git/index; rm .git/HEAD",
    "flags": "git update-index --assume-unchanged file; echo sneaky > file",
    "skipped": "git update-index --skip-worktree file; echo sneaky > file",
    "no git": "rm -rf .git",
    "git is a file": "rm -rf .git; echo gitdir: /nowhere > .git",
    "git is sealed": "mkdir .git/sealed; touch .git/sealed/x; chmod 555 .git/sealed .git/objects",
    "git is deep": "cd .git; n=0; while [ $((n += 1)) -lt 1200 ]; do mkdir d; cd d; done",
    "replaced": "git branch topic; git checkout -q -b mine HEAD~1; git replace -f topic HEAD",
    "link for folder": "rm -rf folder; ln -s /tmp folder",
    "folder for file": "rm file; mkdir file; touch file/x",
    "same size and time": "touch -r file t; printf 'tw0\\n' > file; touch -r t file; rm t",
    "mode": "chmod +x file; chmod 000 folder/file",
    "sealed tree": "chmod 000 .",
}


@pytest.mark.parametrize("command", BUILDS.values(), ids=BUILDS.keys())
def test_nothing_of_a_build_meets_the_next(agent: Agent, upstream: Upstream, command: str) -> None:
    revision = agent.checkout(upstream.folder, "main").revision
    agent.sh(command)
    agent.checkout(upstream.folder, revision)
    assert (
        agent.sh("git status --porcelain --ignored; git ls-files -t | grep -v '^H' || true") == ""
    )
    assert agent.sh("ls -A; cat file folder/file; git log -1 --format=%s").split("\n") == [
        *(".git", "file", "folder", "two", "deep"),
        "Second: ünï",
    ]
    assert agent.sh("git config core.fsmonitor || git branch | grep -v 'no branch' || true") == ""


SOCKET = "import socket; socket.socket(socket.AF_UNIX).bind('folder/left')"
HIDDEN = {
    "fifo": "mkfifo left folder/left",
    "socket": f'{sys.executable} -c "{SOCKET}"',
    "repository": "git init -q folder; git init -q only",
    "git file": "echo gitdir: /nowhere > folder/.git",
    "odd names": "mkdir -- -rf; mkfifo -- -f '*' 'a b' \"$(printf 'a\\nb')\"; git init -q ' x'",
    "its own index": "rm ../0.git/index",
    "its own index, changed": "git --git-dir=../0.git rm -q --cached only/deep/file",
    "long ago": "touch -d @-9223372036854775808 folder || true; touch folder/left",
    "to come": "touch -d @9000000000 folder; touch folder/left",
    "no way in": "chmod 555 only/deep only",
}


@pytest.mark.parametrize("command", HIDDEN.values(), ids=HIDDEN.keys())
def test_what_git_does_not_see_is_not_left(agent: Agent, upstream: Upstream, command: str) -> None:
    upstream.commit("Third", only__file="only\n")
    (upstream.folder / "only/deep").mkdir()
    full = upstream.commit("Fourth", only__deep__file="only\n")
    for second in ("main~2", full):
        agent.checkout(upstream.folder, full)
        agent.checkout(upstream.folder, full)
        agent.sh(command)
        for commit in (second, "main~2", full):
            agent.checkout(upstream.folder, commit)
            assert found_in(agent.tree) == committed(agent), commit
            assert agent.sh("git status --porcelain --ignored") == ""


def found_in(tree: Path) -> set[str]:
    paths = {str(path.relative_to(tree)) for path in tree.rglob("*")}
    return {path for path in paths if path.split("/")[0] != ".git"}


def committed(agent: Agent) -> set[str]:
    return set(agent.sh("git ls-tree -r -t --name-only HEAD").split("\n"))


def test_what_a_checkout_can_not_remove_has_the_tree_made_anew(
    agent: Agent, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git warns of it, and exits with 0."""
    agent.checkout(upstream.folder, "main")
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "git"
    shim.write_text(
        f"""#!/bin/sh
case "$*" in *--detach*) rmdir {tmp_path}/once && touch left && echo >&2 \\
    "warning: unable to unlink 'left': Permission denied";; esac
exec {shutil.which("git")} "$@"
"""
    )
    shim.chmod(0o755)
    (tmp_path / "once").mkdir()
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    agent.checkout(upstream.folder, "main~1")
    assert not (tmp_path / "once").exists()
    assert agent.sh("ls -A") == ".git\nfile\nfolder"


def test_a_git_folder_that_a_build_has_left_alone_is_kept(agent: Agent, upstream: Upstream) -> None:
    """To make files is what costs most of a checkout: only what differs is written."""
    agent.checkout(upstream.folder, "main")
    git = agent.tree / ".git"
    before = {path: path.stat().st_ino for path in git.rglob("*")}
    agent.checkout(upstream.folder, "main~1")
    assert {path: path.stat().st_ino for path in git.rglob("*")} == before
    assert agent.sh("git log -1 --format=%s; git status --porcelain --ignored") == "First"
    agent.sh("git describe --always; git status; touch .git/left")
    agent.checkout(upstream.folder, "main")
    assert {path.name for path in git.rglob("*")} == {path.name for path in before}


@pytest.mark.parametrize(
    "command",
    [
        "ln .git/index ../kept",
        "mv .git/HEAD ../kept; ln -s ../../kept .git/HEAD",
        "mv .git/refs ../kept; ln -s ../../kept .git/refs",
        "chmod 600 .git/config; touch ../kept",
        "chmod 777 .git/refs/heads; touch ../kept",
        "mkfifo ../kept; rm .git/packed-refs; ln ../kept .git/packed-refs",
    ],
)
def test_a_git_folder_whose_files_are_not_its_own_is_made_anew(
    agent: Agent, upstream: Upstream, command: str
) -> None:
    """What a build has left a second name for is not written to."""
    agent.checkout(upstream.folder, "main")
    agent.sh(command)
    kept = agent.tree.parent / "kept"
    before = kept.read_bytes() if kept.is_file() else b""
    agent.checkout(upstream.folder, "main~1")
    assert agent.sh("git log -1 --format=%s; git status --porcelain --ignored") == "First"
    assert (kept.read_bytes() if kept.is_file() else b"") == before
    for path in (agent.tree / ".git").rglob("*"):
        assert not path.is_symlink() and (path.is_dir() or path.stat().st_nlink == 1)
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_a_working_tree_that_a_build_has_replaced(
    agent: Agent, upstream: Upstream, tmp_path: Path
) -> None:
    agent.checkout(upstream.folder, "main")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    for replace in (
        lambda: agent.tree.symlink_to(victim),
        lambda: agent.tree.write_text("a file"),
        lambda: None,
    ):
        shutil.rmtree(agent.tree)
        replace()
        agent.checkout(upstream.folder, "main")
        assert agent.sh("cat file") == "two" and not agent.tree.is_symlink()
        assert [path.name for path in victim.iterdir()] == ["precious"]
    assert sorted(path.name for path in agent.tree.parent.iterdir()) == [
        *("0", "0.conversion", "0.git"),
    ]


def test_submodules_that_a_build_has_filled(
    agent: Agent, upstream: Upstream, tmp_path: Path
) -> None:
    other = Upstream(tmp_path / "other")
    other.commit("Other", inner="inner\n")
    upstream.git("submodule", "--quiet", "add", str(other.folder), "sub * module")
    revision = upstream.commit("With a submodule")
    update = "git -c protocol.file.allow=always submodule --quiet update --init; ls 'sub * module'"
    for _ in range(2):
        agent.checkout(upstream.folder, revision)
        assert agent.sh("ls -A 'sub * module'") == ""
        assert agent.sh(update) == "inner"
    agent.checkout(upstream.folder, "HEAD~1")
    assert agent.sh("ls -A") == ".git\nfile\nfolder"
    agent.checkout(upstream.folder, revision)
    agent.sh("touch 'sub * module/left'")
    agent.checkout(upstream.folder, revision)
    assert agent.sh("ls -A 'sub * module'") == ""


def test_a_tree_that_turns_files_into_folders(agent: Agent, upstream: Upstream) -> None:
    (upstream.folder / "file").unlink()
    turned = upstream.commit("Turned", file__inside="x\n")
    for _ in range(2):
        agent.checkout(upstream.folder, "v1")
        assert agent.sh("cat file") == "one"
        agent.checkout(upstream.folder, turned)
        assert agent.sh("cat file/inside") == "x"


def test_only_what_a_build_has_changed_is_cleaned(
    agent: Agent, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree in which nothing has come or gone has nothing to clean, and git is spared."""
    calls: list[str] = []
    execute = Supervisor.execute

    def noted(self: Supervisor, words: list[str], **more: Any) -> Any:
        each = [words, *more.get("then", ())]
        calls.extend(word for words in each for word in words if word in ("clean", "checkout"))
        return execute(self, words, **more)

    monkeypatch.setattr(Supervisor, "execute", noted)

    def called(commit: str) -> list[str]:
        calls.clear()
        agent.checkout(upstream.folder, commit)
        assert agent.sh("git status --porcelain --ignored") == ""
        return list(calls)

    assert called("main") == ["checkout"]  # into an empty folder
    assert called("main~1") == ["checkout"]
    assert called("main") == ["checkout"]
    for command in ("touch left", "mkdir folder/empty", "touch x; rm x", "rm -r .git"):
        agent.sh(command)
        assert called("main") == ["clean", "checkout"], command
        assert called("main") == ["checkout"]
    agent.sh("echo changed > file; chmod +x folder/file")
    assert called("main") == ["checkout"]
    agent.slots[0] = agent.slot(0)  # as after a restart: it knows nothing of the tree
    assert called("main")[-2:] == ["clean", "checkout"]


def test_a_checkout_that_fails_is_followed_by_a_clean_one(agent: Agent, upstream: Upstream) -> None:
    agent.checkout(upstream.folder, "main")
    stop = StopOrder()
    stop.give("enough")
    with pytest.raises(Interrupted):
        agent.checkout(upstream.folder, "main~1", stop=stop)
    (agent.tree / "left").touch()
    agent.checkout(upstream.folder, "main")
    assert agent.sh("git status --porcelain --ignored") == ""


def test_slots_share_a_mirror_and_no_tree(agent: Agent, upstream: Upstream) -> None:
    agent.checkout(upstream.folder, "main", slot=0)
    first = agent.tree
    agent.checkout(upstream.folder, "v1", slot=1)
    assert agent.tree != first
    assert (first / "file").read_text() == "two\n" and agent.sh("cat file") == "one"
    assert len(list((agent.data / "mirrors").iterdir())) == 1


# What may be broken.


def pack_everything(agent: Agent, upstream: Upstream) -> Path:
    """Have the mirror hold one pack, and return it."""
    upstream.git("gc", "-q")
    agent.checkout(upstream.folder, "main")
    subprocess.run(["git", "--git-dir", str(agent.mirror), "gc", "-q"], check=True)
    (pack,) = (agent.mirror / "objects" / "pack").glob("*.pack")
    pack.chmod(0o644)
    return pack


@pytest.mark.parametrize("keep", [0, 50, 200])
def test_a_pack_that_was_cut_short(agent: Agent, upstream: Upstream, keep: int) -> None:
    pack = pack_everything(agent, upstream)
    os.truncate(pack, keep)
    assert agent.checkout(upstream.folder, "main").subject == "Second: ünï"
    assert agent.sh("cat file; git fsck") == "two"


def test_a_pack_that_was_cut_short_and_a_commit_that_is_remembered(
    agent: Agent, upstream: Upstream
) -> None:
    pack = pack_everything(agent, upstream)
    revision = agent.checkout(upstream.folder, "main").revision
    os.truncate(pack, 100)
    assert agent.checkout(upstream.folder, revision).revision == revision
    agent.sh("git fsck")


def test_objects_that_a_power_cut_has_emptied(agent: Agent, upstream: Upstream) -> None:
    revision = agent.checkout(upstream.folder, "main").revision
    for path in (agent.mirror / "objects").glob("??/*"):
        path.chmod(0o644)
        os.truncate(path, 0)
    assert agent.checkout(upstream.folder, revision).revision == revision
    agent.checkout(upstream.folder, "v1")
    assert agent.sh("cat file; git fsck") == "one"


BROKEN = {
    "locks": "touch packed-refs.lock shallow.lock config.lock HEAD.lock",
    "lock of a ref": "mkdir -p refs/remotes/origin; touch refs/remotes/origin/main.lock",
    "no refs": "rm -r refs packed-refs",
    "bad refs": "echo garbage > packed-refs",
    "bad config": "echo '[' > config",
    "no objects": "rm -rf objects",
    "half a clone": "rm -rf HEAD config",
    "half a fetch": 'touch objects/pack/tmp_pack_x; mkdir ../$(basename "$PWD" .git).new',
    "gone": 'rm -rf "$PWD"',
}


@pytest.mark.parametrize("command", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("typed", ["main", "v1", "hash"])
def test_a_mirror_that_is_broken(
    agent: Agent, upstream: Upstream, command: str, typed: str
) -> None:
    revision = agent.checkout(upstream.folder, "main").revision
    typed = revision if typed == "hash" else typed
    subprocess.run(["/bin/sh", "-ec", command], cwd=agent.mirror, check=True)
    agent.checkout(upstream.folder, typed)
    upstream.commit("Third", file="three\n")
    assert agent.checkout(upstream.folder, "main").subject == "Third"
    assert [path.name for path in (agent.data / "mirrors").iterdir()] == [agent.mirror.name]
    assert not list(agent.mirror.rglob("tmp_*")) and not list(agent.mirror.rglob("*.lock"))


def test_a_mirror_is_kept_while_the_repository_is_away(agent: Agent, upstream: Upstream) -> None:
    agent.checkout(upstream.folder, "main")
    made = agent.mirror.stat().st_ino
    upstream.folder.rename(upstream.folder.with_name("away"))
    with pytest.raises(GitError):
        agent.checkout(upstream.folder, "main")
    upstream.folder.with_name("away").rename(upstream.folder)
    agent.checkout(upstream.folder, "main")
    assert agent.mirror.stat().st_ino == made


OWN = {
    "lock": "touch index.lock",
    "index": "echo garbage > index",
    "config": "echo '[' > config",
    "objects": "rm -r objects",
    "head": "rm HEAD",
    "gone": 'rm -r "$PWD"',
    "a file": 'rm -r "$PWD"; touch "$PWD"',
}


@pytest.mark.parametrize("command", OWN.values(), ids=OWN.keys())
def test_the_agents_own_git_folder_is_broken(
    agent: Agent, upstream: Upstream, command: str
) -> None:
    revision = agent.checkout(upstream.folder, "v1").revision
    own = agent.tree.with_suffix(".git")
    subprocess.run(["/bin/sh", "-ec", command], cwd=own, check=True)
    agent.sh("touch left; rm file")
    agent.checkout(upstream.folder, revision)
    assert agent.sh("git status --porcelain; cat file; ls") == "one\nfile\nfolder"


def test_a_commit_that_can_not_be_checked_out_leaves_the_mirror_alone(
    agent: Agent, upstream: Upstream
) -> None:
    agent.checkout(upstream.folder, "main")
    made = agent.mirror.stat().st_ino
    blob = upstream.git("rev-parse", "HEAD:file")
    upstream.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{'n' * 300}")
    upstream.git("commit", "-q", "-m", "A name that no disk takes")
    with pytest.raises(GitError, match="n" * 100):
        agent.checkout(upstream.folder, "main")
    assert agent.mirror.stat().st_ino == made
    assert agent.checkout(upstream.folder, "v1").subject == "First"


def test_git_killed_at_any_moment(agent: Agent, upstream: Upstream) -> None:
    """Each time a little later, in fetch, in checkout, in between."""
    for number in range(200):
        (upstream.folder / f"file{number}").write_text("x" * 1000)
    for wait in range(0, 60, 4):
        revision = upstream.commit(f"After {wait}", file=str(wait))
        thread = threading.Thread(target=kill_later, args=(agent.supervisors[0], wait / 1000))
        thread.start()
        try:
            agent.checkout(upstream.folder, "main")
        except Exception as error:
            assert "killed" in str(error) or "gone" in str(error), error
        thread.join()
        assert agent.checkout(upstream.folder, "main").revision == revision
        assert agent.sh("git status --porcelain; cat file") == str(wait)


def kill_later(supervisor: Supervisor, seconds: float) -> None:
    time.sleep(seconds)
    process = supervisor._process
    if process is not None:
        process.kill()
        process.wait()


# Time, and other slots.


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[str]:
    """A repository that takes the connection, and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/repository.git"
    listener.close()


def test_a_repository_that_hangs(agent: Agent, hanging: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="ran out of time"):
        agent.checkout(hanging, "main", seconds=1)
    assert 0.9 < time.monotonic() - begun < 10


def test_a_checkout_can_be_stopped(agent: Agent, hanging: str) -> None:
    stop = StopOrder()
    threading.Timer(0.3, stop.give, ("cancelled",)).start()
    with pytest.raises(Interrupted, match="cancelled"):
        agent.checkout(hanging, "main", stop=stop)


def test_waiting_for_another_slot_can_be_stopped(agent: Agent, hanging: str) -> None:
    first = StopOrder()
    thread = threading.Thread(
        target=lambda: pytest.raises(Interrupted, agent.checkout, hanging, "main", stop=first)
    )
    thread.start()
    wait_for(lambda: list((agent.data / "mirrors").iterdir()))
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="ran out of time"):
        agent.checkout(hanging, "main", slot=1, seconds=0.5)
    assert time.monotonic() - begun < 10
    first.give("cancelled")
    thread.join(10)
    assert not thread.is_alive()


def test_slots_that_wait_for_the_same_fetch_share_it(
    agent: Agent, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.slots += [agent.slot(number) for number in range(2, 6)]
    mirror = agent.mirrors.of(str(upstream.folder), 0)
    fetches: list[float] = []
    real = Mirror._fetch_everything

    def slow(*args: Any, **options: Any) -> None:
        fetches.append(time.monotonic())
        time.sleep(1)
        real(*args, **options)

    monkeypatch.setattr(Mirror, "_fetch_everything", slow)
    threads = [
        threading.Thread(target=mirror.resolve, args=("main", agent.git(slot))) for slot in range(6)
    ]
    threads[0].start()
    wait_for(lambda: fetches, 30, "the first fetch")
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(fetches) == 2, "the first, and one for all who came while it went on"


def test_many_slots_at_once(agent: Agent, upstream: Upstream) -> None:
    agent.slots += [agent.slot(number) for number in range(2, 6)]
    errors: list[Exception] = []

    def build(slot: int) -> None:
        _, workspace = agent.slots[slot]
        try:
            for _ in range(3):
                workspace.checkout(str(upstream.folder), "main", agent.git(slot))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=build, args=(slot,)) for slot in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


# What must not happen.


def test_the_agents_own_git_variables_mean_nothing(
    agent: Agent, upstream: Upstream, tmp_path: Path
) -> None:
    other = Upstream(tmp_path / "other")
    before = other.commit("Other", file="other\n")
    index = tmp_path / "index"
    environ = {**os.environ, "GIT_DIR": str(other.folder / ".git"), "GIT_INDEX_FILE": str(index)}
    supervisor, workspace = agent.slots[0]
    git = Git(supervisor, environ, StopOrder(), time.monotonic() + 60)
    _, found = workspace.checkout(str(upstream.folder), "main", git)
    assert found.subject == "Second: ünï"
    assert other.git("rev-parse", "HEAD") == before and other.git("status", "--porcelain") == ""
    assert not index.exists()


def test_what_looks_like_an_option_is_none(
    agent: Agent, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    (tmp_path / ".gitconfig").write_text("[protocol]\nallow = always\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for typed in (f"--upload-pack=touch {made}", "--output=x", "-x"):
        with pytest.raises(GitError):
            agent.checkout(upstream.folder, typed)
    for repository in (f"--upload-pack=touch {made}", f"ext::touch {made}", "fd::0"):
        with pytest.raises(GitError):
            agent.checkout(repository, "main")
    assert not made.exists()


def test_no_hook_is_called(
    agent: Agent, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[core]\nhooksPath = {hook.parent}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    agent.checkout(upstream.folder, "main")
    assert not (tmp_path / "called").exists()
    agent.sh("git checkout -q HEAD~1")
    assert (tmp_path / "called").exists(), "a command's own git is a user's own matter"


def test_nobody_is_asked_for_a_password(agent: Agent, upstream: Upstream, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    askpass = tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\ntouch {asked}\necho guess\n")
    askpass.chmod(0o755)
    environ = {
        **os.environ,
        "SSH_ASKPASS": str(askpass),
        "GIT_ASKPASS": str(askpass),
        "DISPLAY": ":9",
    }
    git = Git(agent.supervisors[0], environ, StopOrder(), time.monotonic() + 30)
    with (
        closed_repository() as url,
        pytest.raises(GitError, match="prompts disabled|could not read"),
    ):
        agent.mirrors.of(url, 0).resolve("main", git)
    assert not asked.exists()


class _Closed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def closed_repository() -> Iterator[str]:
    """A repository behind a password."""
    server = HTTPServer(("127.0.0.1", 0), _Closed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/repository.git"
    server.shutdown()
    server.server_close()


def test_passwords_are_not_shown() -> None:
    assert public("https://user:pass@host/x") == "https://host/x"
    assert public("https://token@host/x, HTTP://a:b@c@h/x") == "https://host/x, HTTP://h/x"
    assert public("ssh://git@host/x and https://h/y@z") == "ssh://git@host/x and https://h/y@z"
    assert public("ssh://git:pass@host:22/x") == "ssh://git@host:22/x"
    assert public("git@host:x") == "git@host:x"


def test_folder_names_are_short_plain_and_distinct() -> None:
    names = [
        folder_name(repository)
        for repository in ("/a/x.git", "/b/x.git", "/a/x", "", "ssh://h/ü/..")
    ]
    assert len(set(names)) == 5
    assert all(name.isascii() and "/" not in name and not name.startswith(".") for name in names)
    assert names[0].startswith("x-") and len(folder_name("/" + "y" * 999)) < 64


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder into which everybody may look; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can check out as another user")
def test_everything_belongs_to_the_user(open_folder: Path) -> None:
    agent, upstream = Agent(open_folder / "data"), Upstream(open_folder / "upstream")
    agent.account = Account.named("nobody")
    upstream.commit("First", file="one\n", folder__file="deep\n")
    for path in (upstream.folder, *upstream.folder.rglob("*")):
        shutil.chown(path, "nobody")
    for _ in range(2):
        agent.checkout(upstream.folder, "main")
        found = [agent.tree, *agent.tree.rglob("*"), agent.mirror, *agent.mirror.rglob("*")]
        assert {path.stat().st_uid for path in found} == {agent.account.uid}
        (agent.tree / "folder").chmod(0o555)
    (agent.mirror / "packed-refs").write_text("garbage")
    agent.checkout(upstream.folder, "main")
    agent.close()
