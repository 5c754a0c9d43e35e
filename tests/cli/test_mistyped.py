"""One line for whoever mistypes a word, with what to do; exit status 2."""

from __future__ import annotations

import http.client
import os
from pathlib import Path

import pytest

from minici.__main__ import main
from tests.support.harness import Place
from tests.support.repositories import git
from tests.support.shell import Shell

NOWHERE = "http://127.0.0.1:1"

# Without a server.
WORDS: list[tuple[tuple[str, ...], str]] = [
    (("strat", "main"), "strat: no such folder, and no verb; did you mean start?"),
    (("pasword",), "did you mean password?"),
    (("frobnicate",), "frobnicate: no such folder, and no verb; see `python3 -m minici --help`"),
    (("--server", "http://x", "list"), "--server stands behind a verb"),
    ((".", "nosuch"), "nosuch: no such folder"),
    (("--port", "x"), "a port is a number from 0 to 65535"),
    (("start", "--detch"), "there is no option --detch; did you mean --detach?"),
    (("start", "main", "make", "test"), "put a command with its options into quotes"),
    (("start", "main", "make", "-j4"), "put a command with its options into quotes"),
    (("start", "--project"), "--project: expected one argument"),
    (("start",), "no COMMIT given, and there is none here (not a git repository"),
    (("watch",), "required: ID"),
    (("watch", "x"), "x is no whole number from 1 on"),
    (("show", "-1"), "-1 is no whole number from 1 on"),
    (("show", "1", "2"), "2: one word too many (see `python3 -m minici show --help`)"),
    (("log", "1", "--stream", "foo"), "choose from"),
    (("list", "--status", "broken"), "invalid choice"),
    (("list", "--jsno"), "did you mean --json?"),
    (("list", "--zzz"), "there is no option --zzz"),
    (("list", "--server", "ftp://x"), "ftp://x is not the URL of a server: write http://HOST:PORT"),
    (("list", "--server", "http://a:b@h:x"), "h:x is not the URL of a server"),
    (("cancel",), "cancel takes the number of a build, or --queued"),
    (("cancel", "1", "--queued"), "cancel takes the number of a build, or --queued"),
    (("files", "1", "--to"), "--to: expected one argument"),
    (("repeat", "0", "main"), "0 is no whole number from 1 on"),
    (("repeat", "3"), "required: COMMIT"),
    (("bisect", "v1"), "required: BAD"),
    (("bisect", "v1", "v2", "--at-once", "0"), "0 is no whole number from 1 on"),
    (("completion", "fish"), "choose from"),
]

# With a server that has one build.
ASKED: list[tuple[tuple[str, ...], str]] = [
    (("show", "99"), "there is no build 99 at http://"),
    (("log", "99"), "there is no build 99 at http://"),
    (("watch", "99"), "there is no build 99 at http://"),
    (("rebuild", "99"), "there is no build 99 at http://"),
    (("cancel", "99"), "there is no build 99 at http://"),
    (("files", "99"), "there is no build 99 at http://"),
    (("start", "--project", "x", "HEAD", "true"), "there is no project x; the projects are"),
    (("start", "HEAD"), "no COMMAND given, and the server has none: give one"),
    (("start", "a..b", "true"), "this is no hash, branch, tag or HEAD"),
    (("start", "main", "true", "--labels", "a,b"), "a,b is no label"),
    (("list", "--project", "x"), "there is no project x; the projects are"),
    (("pause", "nobody"), "nobody: no agent has that name; known: none"),
    (("resume", "nobody"), "no agent has that name"),
]


@pytest.mark.parametrize("words, said", WORDS)
def test_who_mistypes_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINICI_SERVER", NOWHERE)
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        status = main(words)
    except SystemExit as error:
        status = int(error.code or 0)
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert (status, out) == (2, "") and said in line, line


def test_a_python_without_ssl_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(http.client, "HTTPSConnection")
    assert main(["list", "--server", "https://127.0.0.1:1"]) == 2
    assert "needs a Python with the module ssl" in capfd.readouterr().err


def test_who_names_what_the_server_does_not_have_is_told_in_one_line(place: Place) -> None:
    server = place.server()
    server.start_build()
    run = Shell(place, server)
    for words, said in ASKED:
        done = run(*words)
        (line,) = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, "") and said in line, line
    wrong = run("list", "--server", f"http://{server.address}/below")
    assert wrong.returncode == 2 and f"at http://{server.address}/below" in wrong.stderr


def test_options_stand_before_between_and_behind_the_words(place: Place) -> None:
    server = place.server()
    run = Shell(place, server)
    for words in (
        ("--detach", "main", "true"),
        ("main", "--detach", "true"),
        ("main", "true", "--detach"),
        ("--detach", "--", "main", "true"),
    ):
        done = run("start", *words)
        assert done.returncode == 0, done.stderr
        build = server.build(int(done.stdout))
        assert (build["commit"], build["command"]) == ("main", "true")


def test_a_list_without_a_build_says_so(place: Place) -> None:
    run = Shell(place, place.server())
    assert run("list").stderr == "minici: no builds yet\n"
    assert run("list", "--branch", "nosuch").stderr == "minici: there are no such builds\n"


def test_a_host_without_git_is_told_so(place: Place) -> None:
    run = Shell(place, NOWHERE, place.repository.path)
    run.env["PATH"] = str(place.elsewhere)
    done = run("start")
    assert done.returncode == 2 and "git can't be run: No such file" in done.stderr
    done = run("bisect", "v1", "main", "true")
    assert done.returncode == 2 and "git can't be run: No such file" in done.stderr


def test_a_clone_without_a_commit_is_told_so(place: Place) -> None:
    git(place.elsewhere, "init", "--quiet")
    assert os.path.isdir(place.elsewhere / ".git")
    done = Shell(place, NOWHERE)("start")
    assert done.returncode == 2 and "no such commit in this clone" in done.stderr
