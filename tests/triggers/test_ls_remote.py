"""`git ls-remote` on real repositories, and on what only looks like one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minici.triggers import ls_remote
from minici.triggers.ls_remote import LookFailed, list_refs
from minici.triggers.refs import parse_listing
from tests.support.harness import ROOT
from tests.support.repositories import Repository, git


def refs_of(repository: Repository) -> dict[str, str]:
    return parse_listing(list_refs(repository.url, threading.Event()))


def test_branches_and_tags_are_listed_by_their_commits(own_repository: Repository) -> None:
    head = git(own_repository.path, "rev-parse", "HEAD").strip()
    git(own_repository.path, "branch", "ветка")
    git(own_repository.path, "update-ref", "refs/notes/x", head)
    git(own_repository.path, "update-ref", "refs/pull/7/head", head)
    found = refs_of(own_repository)
    assert {"refs/heads/ветка", "refs/tags/v1", "refs/tags/light"} <= set(found)
    assert found["refs/tags/v1"] == own_repository.second
    assert all(name.startswith(("refs/heads/", "refs/tags/")) for name in found)


def test_an_empty_repository_has_no_refs(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "empty.git")
    assert list_refs(str(tmp_path / "empty.git"), threading.Event()) == b""


def test_a_repository_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(LookFailed, match="does not"):
        list_refs(str(tmp_path / "nowhere"), threading.Event())


@pytest.fixture
def deaf() -> socket.socket:
    """A server that accepts and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_a_repository_that_hangs_is_given_up(deaf: socket.socket) -> None:
    with deaf, pytest.raises(LookFailed, match="1.0 s"):
        list_refs(f"git://127.0.0.1:{deaf.getsockname()[1]}/x", threading.Event(), seconds=1.0)


def test_a_server_that_stops_waits_for_no_look(deaf: socket.socket) -> None:
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    begun = time.monotonic()
    with deaf, pytest.raises(LookFailed):
        list_refs(f"git://127.0.0.1:{deaf.getsockname()[1]}/x", stopping)
    assert time.monotonic() - begun < 10


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is started as git."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


@pytest.mark.parametrize("end", ["exit 0", "exit 1", "sleep 60"])
def test_what_git_leaves_behind_holds_up_no_look(shim: Path, end: str) -> None:
    """An ssh, for example, that outlives it and has its pipes."""
    shim.write_text(f"#!/bin/sh\nsleep 60 &\n{end}\n")
    begun = time.monotonic()
    with contextlib.suppress(LookFailed):
        assert list_refs("/x", threading.Event(), seconds=2.0) == b""
    assert time.monotonic() - begun < 20


def test_a_listing_without_end_is_none(shim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ls_remote, "_LISTING_LIMIT", 1 << 20)
    shim.write_text(f"#!/bin/sh\nyes '{'a' * 40}\trefs/heads/x' | head -c 3000000\n")
    with pytest.raises(LookFailed, match="1 MiB"):
        list_refs("/x", threading.Event())


def test_a_repository_that_runs_commands_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(LookFailed):
        list_refs(f"ext::touch {trace}", threading.Event())
    assert not trace.exists()


def test_the_servers_own_git_variables_do_not_matter(
    own_repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert refs_of(own_repository)


LOOK = """
import sys, threading
from minici.triggers.ls_remote import list_refs
list_refs(sys.argv[1], threading.Event())
"""


def test_a_look_ends_with_a_server_that_is_killed(deaf: socket.socket) -> None:
    url = f"git://127.0.0.1:{deaf.getsockname()[1]}/x"
    with deaf, subprocess.Popen([sys.executable, "-c", LOOK, url], cwd=ROOT) as server:
        deaf.settimeout(20)
        connection, _ = deaf.accept()
        with connection, connection.makefile("rb") as asked:
            connection.settimeout(10)
            asked.read(4)
            server.kill()
            assert b"git-upload-pack" in asked.read(), "and its end"


def test_a_server_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LookFailed, match="git can't be started: No such file"):
        list_refs(str(tmp_path), threading.Event())
