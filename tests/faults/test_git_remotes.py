"""Rule 22: repositories that are away, break off, or have something broken in them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Optional

import pytest

from minici.checkout import fetch
from minici.checkout.git import Git, GitError, Interrupted
from minici.process.command import StopOrder
from tests.support.checkouts import Agent, Upstream
from tests.support.git_daemon import GitDaemon


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    upstream.commit("First", file="one\n")
    return upstream


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "data")
    yield agent
    agent.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[GitDaemon]:
    daemon = GitDaemon(tmp_path)
    yield daemon
    daemon.stop()


def test_fault_53_a_daemon_that_is_away_for_seconds(
    agent: Agent, upstream: Upstream, daemon: GitDaemon
) -> None:
    shown: list[bytes] = []
    url = f"git://127.0.0.1:{daemon.port}/upstream"
    starting = threading.Timer(2, daemon.start)
    starting.start()
    assert agent.checkout(url, "main", progress=shown.append).subject == "First"
    starting.join()
    assert b"trying again in 0.5 s" in b"".join(shown)


def test_fault_53_a_daemon_that_stays_away(
    agent: Agent, daemon: GitDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_RETRY_SECONDS", 3.0)
    begun = time.monotonic()
    with pytest.raises(GitError) as error:
        agent.checkout(f"git://127.0.0.1:{daemon.port}/upstream", "main")
    assert time.monotonic() - begun > 2.9
    said = str(error.value)
    assert "Connection refused (tried " in said and said.endswith(" times in 3 s)"), said


def test_rule_22_the_pauses_grow(
    agent: Agent, daemon: GitDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    clock = [time.monotonic()]

    def pause(_: Git, seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(Git, "pause", pause)
    monkeypatch.setattr(fetch, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with pytest.raises(GitError, match="Connection refused"):
        agent.checkout(f"git://127.0.0.1:{daemon.port}/upstream", "main")
    assert all(after > before for before, after in zip(pauses[:4], pauses[1:4])), pauses
    assert 50 < sum(pauses) <= 60, "for up to a minute"


@pytest.mark.parametrize("commit", ["nope", "0123456789" * 4, "refs/pull/9/head", "main~99"])
def test_rule_22_a_commit_that_is_not_there_fails_at_once(
    agent: Agent, upstream: Upstream, daemon: GitDaemon, commit: str
) -> None:
    daemon.start()
    shown: list[bytes] = []
    begun = time.monotonic()
    with pytest.raises(GitError):
        agent.checkout(f"git://127.0.0.1:{daemon.port}/upstream", commit, progress=shown.append)
    assert time.monotonic() - begun < 10 and b"trying again" not in b"".join(shown)


def test_fault_53_a_pause_ends_with_the_build(agent: Agent, daemon: GitDaemon) -> None:
    stop = StopOrder()
    threading.Timer(1, stop.give, ("cancelled",)).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="cancelled"):
        agent.checkout(f"git://127.0.0.1:{daemon.port}/upstream", "main", stop=stop)
    with pytest.raises(GitError, match="refused"):  # there is no time for another pause
        agent.checkout(f"git://127.0.0.1:{daemon.port}/upstream", "main", seconds=2)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("path", ["nowhere", "../etc"])
def test_fault_53_an_answer_that_stays_the_same_is_final(
    agent: Agent, daemon: GitDaemon, path: str
) -> None:
    daemon.start()
    begun = time.monotonic()
    with pytest.raises(GitError, match="access denied or repository not exported"):
        agent.checkout(f"git://127.0.0.1:{daemon.port}/{path}", "main")
    assert time.monotonic() - begun < 10


class Breaking:
    """A connection to a git daemon that breaks off after some bytes, the first times."""

    def __init__(self, port: int, times: int, size: int) -> None:
        self._target, self.left, self._size = port, times, size
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        target = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=self._copy, args=(client, target, None), daemon=True).start()
        self._copy(target, client, self._size if self.left > 0 else None)

    def _copy(self, source: socket.socket, to: socket.socket, size: Optional[int]) -> None:
        passed = 0
        try:
            while data := source.recv(4096):
                passed += len(data)
                if size is not None and passed > size:
                    self.left -= 1
                    break
                to.sendall(data)
        except OSError:
            pass
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_fault_53_a_connection_that_breaks_off_twice(
    agent: Agent, upstream: Upstream, daemon: GitDaemon
) -> None:
    daemon.start()
    breaking = Breaking(daemon.port, 0, 100_000)
    url = f"git://127.0.0.1:{breaking.port}/upstream"
    agent.checkout(url, "main")
    made = agent.mirror.stat().st_ino
    (upstream.folder / "noise").write_bytes(os.urandom(500_000))
    newest = upstream.commit("Much")
    breaking.left = 2
    assert agent.checkout(url, "main").revision == newest
    assert breaking.left == 0 and agent.mirror.stat().st_ino == made
    breaking.close()


@pytest.mark.parametrize(
    "message",
    [
        "error: unable to normalize alternate object path: /x",
        "error: packfile is odd",
        "odd object",
    ],
)
def test_fault_52_harmless_messages_do_not_renew_a_mirror(
    agent: Agent, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    lost = upstream.commit("Lost", file="lost\n")
    agent.checkout(upstream.folder, lost)
    upstream.git("reset", "-q", "--hard", "HEAD~1")
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "-q", "--prune=now")
    made = agent.mirror.stat().st_ino
    calls = tmp_path / "calls"
    shim(tmp_path, f'echo "$*" >>{calls}\ncase "$*" in *" fetch "*) echo >&2 "{message}";; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    for _ in range(3):
        assert agent.checkout(upstream.folder, "main").subject == "First"
    assert agent.checkout(upstream.folder, lost).subject == "Lost"
    assert agent.mirror.stat().st_ino == made
    assert calls.read_text().count(" fsck ") <= 1, "git looks for damage once, not in each build"


def shim(folder: Path, script: str) -> None:
    """Put a git into `bin` that runs a script first."""
    (folder / "bin").mkdir()
    path = folder / "bin" / "git"
    path.write_text(f'#!/bin/sh\n{script}\nexec {shutil.which("git")} "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["echo '[' >config", "echo garbage >packed-refs", "cut"])
def test_fault_52_what_only_the_old_mirror_had_is_kept(
    agent: Agent, upstream: Upstream, packed: bool, damage: str
) -> None:
    """A commit that was forced away is still there when the mirror has been made anew."""
    (upstream.folder / "big").write_bytes(os.urandom(30_000))
    lost = upstream.commit("Lost", file="lost\n")
    agent.checkout(upstream.folder, lost)
    upstream.git("reset", "-q", "--hard", "HEAD~1")
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "-q", "--prune=now")
    agent.checkout(upstream.folder, "main")
    mirror = ["git", f"--git-dir={agent.mirror}"]
    if packed:
        subprocess.run([*mirror, "repack", "-a", "-d", "-k", "-q"], check=True)
    made = agent.mirror.stat().st_ino
    if damage == "cut":  # what the repository has, too
        blob = upstream.git("rev-parse", "main:file")
        name = agent.mirror / "objects" / blob[:2] / blob[2:]
        pack = next(iter((agent.mirror / "objects" / "pack").glob("*.pack")), None)
        broken = name if name.exists() else pack
        assert broken
        broken.chmod(0o644)
        if broken == pack:
            broken.write_bytes(broken.read_bytes()[:-200])
        else:
            broken.write_bytes(b"")
        agent.slots[0] = agent.slot(0)
        shutil.rmtree(agent.data / "workspaces")
    else:
        subprocess.run(["/bin/sh", "-ec", damage], cwd=agent.mirror, check=True)
    assert agent.checkout(upstream.folder, "main").subject == "First"
    assert agent.mirror.stat().st_ino != made
    assert agent.checkout(upstream.folder, lost).revision == lost
    assert agent.sh("cat file; git fsck 2>&1 | grep -v dangling || true") == "lost"
    assert [path.name for path in (agent.data / "mirrors").iterdir()] == [agent.mirror.name]


NAMES = {
    "heads/foo": ["heads/foo", "refs/heads/heads/foo", "heads/heads/foo"],
    "refs/heads/x": ["refs/heads/x", "refs/heads/refs/heads/x"],
    "tags/v9": ["tags/v9", "refs/heads/tags/v9"],
    "0123456789" * 4: ["0123456789" * 4, "refs/heads/" + "0123456789" * 4],
    "a" * 64: ["a" * 64],
    "refs/pull/1/head": ["refs/pull/1/head"],
    "origin/main": ["refs/heads/origin/main", "origin/main"],
    "ветка": ["ветка", "refs/heads/ветка"],
    "MY_HEAD": ["MY_HEAD"],
    "-".join("x" * 40 for _ in range(5)): ["refs/heads/" + "-".join("x" * 40 for _ in range(5))],
}


@pytest.mark.parametrize("branch", NAMES)
def test_fault_55_branches_by_their_own_names(
    agent: Agent, upstream: Upstream, branch: str
) -> None:
    own = upstream.commit("Own", file="own\n")
    parent = upstream.git("rev-parse", "HEAD~1")
    upstream.git("update-ref", f"refs/heads/{branch}", own)
    upstream.git("reset", "-q", "--hard", parent)
    for typed in NAMES[branch]:
        assert agent.checkout(upstream.folder, typed).revision == own, typed
        assert agent.checkout(upstream.folder, f"{typed}~1").revision == parent, typed
    upstream.git("update-ref", "-d", f"refs/heads/{branch}")
    with pytest.raises(GitError, match="no commit"):
        agent.checkout(upstream.folder, f"refs/heads/{branch}")


def test_fault_55_a_full_name_goes_before_a_branch_that_looks_like_it(
    agent: Agent, upstream: Upstream
) -> None:
    first = upstream.git("rev-parse", "HEAD")
    second = upstream.commit("Second", file="two\n")
    upstream.git("update-ref", "refs/heads/x", first)
    upstream.git("update-ref", "refs/heads/refs/heads/x", second)
    assert agent.checkout(upstream.folder, "refs/heads/x").revision == first
    assert agent.checkout(upstream.folder, "refs/heads/refs/heads/x").revision == second


@pytest.mark.parametrize("ref", ["refs/pull/7/head", "refs/merge-requests/3/head", "refs/notes/x"])
def test_fault_55_refs_that_are_no_branches(agent: Agent, upstream: Upstream, ref: str) -> None:
    main = upstream.git("rev-parse", "HEAD")
    for number in range(2):
        proposed = upstream.commit(f"Proposed {number}", file=f"{number}\n")
        upstream.git("update-ref", ref, proposed)
        upstream.git("reset", "-q", "--hard", main)
        assert agent.checkout(upstream.folder, ref).revision == proposed
        assert agent.checkout(upstream.folder, f"{ref}~1").revision == main
    upstream.git("update-ref", "-d", ref)
    with pytest.raises(GitError, match="no commit"):
        agent.checkout(upstream.folder, ref)


def lose(upstream: Upstream, name: str) -> None:
    """Delete an object of the repository."""
    path = upstream.folder / ".git/objects" / name[:2] / name[2:]
    path.chmod(0o644)
    path.unlink()


@pytest.mark.parametrize("lost", ["broken^{commit}", "broken^{tree}", "broken:file"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_fault_55_a_broken_branch_fails_no_other(
    agent: Agent, upstream: Upstream, lost: str, mirrored: bool
) -> None:
    if mirrored:
        agent.checkout(upstream.folder, "main")
    upstream.git("checkout", "-q", "-b", "broken")
    upstream.commit("Broken", file="broken\n")
    upstream.git("checkout", "-q", "main")
    upstream.git("branch", "other")
    newest = upstream.commit("Newest", file="newest\n")
    upstream.git("tag", "v2")
    lose(upstream, upstream.git("rev-parse", lost))
    for typed in ("main", "v2", newest, newest[:9], "HEAD"):
        assert agent.checkout(upstream.folder, typed).revision == newest, typed
    later = upstream.commit("Later", file="later\n")
    assert agent.checkout(upstream.folder, later).revision == later
    begun = time.monotonic()
    with pytest.raises(GitError):
        agent.checkout(upstream.folder, "broken")
    assert time.monotonic() - begun < 20, "no retry helps"
    upstream.git("update-ref", "-d", "refs/heads/broken")
    assert agent.checkout(upstream.folder, "other").subject == "First"


def test_fault_55_a_broken_branch_is_not_built_from_what_it_was(
    agent: Agent, upstream: Upstream
) -> None:
    upstream.git("branch", "broken")
    agent.checkout(upstream.folder, "broken")
    upstream.git("checkout", "-q", "broken")
    upstream.commit("Broken", file="broken\n")
    lose(upstream, upstream.git("rev-parse", "broken^{tree}"))
    with pytest.raises(GitError):
        agent.checkout(upstream.folder, "broken")
    assert agent.checkout(upstream.folder, "main").subject == "First"


def test_fault_56_progress_is_shown_from_the_first_second(
    agent: Agent, upstream: Upstream, daemon: GitDaemon
) -> None:
    (upstream.folder / "noise").write_bytes(os.urandom(3_000_000))
    upstream.commit("Much")
    daemon.start()
    shown: list[tuple[float, bytes]] = []
    begun = time.monotonic()
    agent.checkout(
        f"git://127.0.0.1:{daemon.port}/upstream",
        "main",
        progress=lambda data: shown.append((time.monotonic() - begun, data)),
    )
    text = b"".join(data for _, data in shown)
    assert text.startswith(b"Fetching git://") and shown[0][0] < 1
    assert b"objects: 100%" in text and b"\r" in text
    shown.clear()
    agent.checkout(f"git://127.0.0.1:{daemon.port}/upstream", upstream.git("rev-parse", "HEAD"))
    assert not shown, "nothing to say where nothing takes time"


def test_fault_56_passwords_are_not_shown(
    agent: Agent, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = f"{sys.executable} -c 'import sys, time; [(sys.stderr.write(x), sys.stderr.flush()"
    script = f'{piece}, time.sleep(0.1)) for x in ("From https://user:hid", "den@host/x\\n")]\''
    shim(tmp_path, f'case "$*" in *" fetch "*) {script};; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    shown: list[bytes] = []
    agent.checkout(upstream.folder, "main", progress=shown.append)
    assert b"From https://host/x\n" in b"".join(shown)
    assert b"hid" not in b"".join(shown)


@pytest.mark.parametrize("harm", ["gone", "empty"])
@pytest.mark.parametrize("what", ["", "^{tree}", ":file"], ids=["commit", "tree", "content"])
def test_rule_22_a_mirror_that_lacks_something_is_made_anew(
    agent: Agent, upstream: Upstream, what: str, harm: str
) -> None:
    """Also where git itself exits with 0: without its tree, a commit would be an empty folder."""
    second = upstream.commit("Second", file="two\n")
    upstream.commit("Third", file="three\n")
    agent.checkout(upstream.folder, "main", slot=1)
    name = upstream.git("rev-parse", f"{second}{what}")
    object = agent.mirror / "objects" / name[:2] / name[2:]
    object.unlink()
    if harm == "empty":
        object.touch()
    begun = time.monotonic()
    assert agent.checkout(upstream.folder, second).subject == "Second"
    assert agent.sh("cat file; git status --short; git log --format=%s") == "two\nSecond\nFirst"
    assert agent.checkout(upstream.folder, "main").subject == "Third"
    assert agent.sh("cat file") == "three"
    assert time.monotonic() - begun < 20, "nothing of it waits for the repository"
