"""Streams that are closed, full or slow, signals, and servers of other versions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.support.fakes import DROP, Call, FakeServer
from tests.support.harness import Place, ServerProcess, wait_for
from tests.support.shell import Shell


def event(kind: str, data: object, place: str = "1-0-0-0") -> bytes:
    return f"id: {place}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


class OldServer(FakeServer):
    """A server that knows nothing but what has always been there."""

    build: dict[str, Any] = {"id": 1, "status": "failure", "commit": "main", "command": "true"}
    events = event("output", {"stream": "stdout", "text": "one\n"})

    def answer(self, call: Call) -> Any:
        agent = {"name": "a", "address": "h:1", "slots": 1, "running": []}
        return {
            "/api/builds": (200, {"builds": [self.build]}),
            "/api/builds/1": (200, self.build),
            "/api/agents": (200, {"agents": [agent]}),
            "/build/1/live": (200, self.events + event("status", self.build)),
        }.get(call.path, (404, {"error": "there is no such page"}))


def test_a_closed_pipe_is_no_traceback(place: Place, server: ServerProcess) -> None:
    run = Shell(place, server)
    run("start", "main", "seq 1 200000")
    with run.popen("log", "1") as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_outputs_that_are_closed_or_full(place: Place, server: ServerProcess) -> None:
    """A closed one is silence; what can't be written is said in a line, exit status 1."""
    run = Shell(place, server)
    run("start", "main", "echo out; echo err >&2")

    def shell(words: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", f"exec {sys.executable} -m minici {words}"]
        return subprocess.run(
            command, cwd=run.folder, env=run.env, capture_output=True, text=True, timeout=60
        )

    for words in ("log 1 >&-", "watch 1 >&-", "watch 1 <&-", "list --json >&- 2>&-"):
        done = shell(words)
        assert done.returncode == 0 and "Traceback" not in done.stderr, words
    assert shell("watch 1 2>&-").stdout == "out\n"
    for words in ("log 1", "watch 1", "list --json"):
        done = shell(f"{words} >/dev/full")
        assert done.returncode == 1, words
        assert done.stderr.endswith("the output can't be written: No space left on device\n")
    assert len(done.stderr.splitlines()) == 1


def test_text_and_line_ends_come_as_they_are_in_any_locale(
    place: Place, server: ServerProcess
) -> None:
    run = Shell(place, server)
    for name in ("LC_ALL", "LANG", "PYTHONIOENCODING"):
        run.env.pop(name, None)
    run.env["LC_ALL"] = "C"
    with subprocess.Popen(
        [sys.executable, "-m", "minici", "start", "main", "printf 'прилив\\r\\none\\r\\n'"],
        env=run.env,
        cwd=run.folder,
        stdout=subprocess.PIPE,
    ) as process:
        out, _ = process.communicate(timeout=60)
    assert out == "прилив\r\none\r\n".encode()
    assert (
        b"\xd0\xbf"
        in subprocess.run(
            [sys.executable, "-m", "minici", "list"],
            env=run.env,
            cwd=run.folder,
            capture_output=True,
        ).stdout
    )


def test_a_server_of_an_older_version_is_shown_as_far_as_it_tells(place: Place) -> None:
    fake = place.keep(OldServer())
    run = Shell(place, fake)
    assert run("show", "1").stdout.splitlines()[:2] == ["build:      1", "status:     failure"]
    assert run("list").stdout.startswith("1\tfailure\t")
    assert run("agents").stdout.startswith("a\th:1\t0/1\tlive\t")
    watched = run("watch", "1")
    assert (watched.returncode, watched.stdout) == (1, "one\n")
    for words in (("files", "1"), ("pause", "a")):
        done = run(*words)
        assert done.returncode == 2 and "its minici is older" in done.stderr


@pytest.mark.parametrize(
    "status, exit_status", [("success", 0), ("failure", 1), ("lost", 3), ("cancelled", 4)]
)
def test_the_exit_status_is_that_of_the_build_where_it_is_followed(
    place: Place, status: str, exit_status: int
) -> None:
    fake = place.keep(OldServer())
    fake.build = {**OldServer.build, "status": status}
    run = Shell(place, fake)
    assert run("watch", "1").returncode == exit_status
    assert run("show", "1").returncode == run("list").returncode == 0


def test_what_git_wrote_is_shown_where_the_checkout_has_failed(place: Place) -> None:
    fake = place.keep(OldServer())
    git_said = {"stream": "checkout", "text": "fatal: no such place\n"}
    for exit_status, shown in ((128, True), (1, False)):
        fake.build = {**OldServer.build, "exit_status": exit_status}
        fake.events = event("output", git_said)
        done = Shell(place, fake)("watch", "1")
        assert done.returncode == 1 and ("fatal: no such place" in done.stderr) is shown


@pytest.mark.parametrize("status", [301, 307])
def test_a_server_that_has_moved_is_said_to_have(place: Place, status: int) -> None:
    fake = place.keep(FakeServer())
    fake.always["/api/builds"] = (status, {})
    done = Shell(place, fake)("list")
    assert done.returncode == 2 and "has moved: use" in done.stderr


def test_a_scheme_that_is_the_wrong_one_is_said_to_be(place: Place) -> None:
    fake = place.keep(FakeServer())
    done = Shell(place, fake)("list", "--server", f"https://{fake.address}")
    assert done.returncode == 5 and "try http://" in done.stderr, done.stderr


def test_ctrl_c_while_a_build_waits_says_how_to_go_on(place: Place) -> None:
    server = place.server()
    run = Shell(place, server)
    address = f"http://{server.address}"
    with run.popen("start", "main", "true", "--server", address) as process:
        assert process.stderr and "build 1: " in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == (
        f"minici: build 1 goes on; follow it with: python3 -m minici watch 1 --server {address}\n"
    )
    with run.popen("repeat", "2", "main", "true") as process:
        wait_for(lambda: len(server.builds()) == 2, 30, "a build of the repetition")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err


def test_ctrl_c_while_the_server_is_away(place: Place) -> None:
    fake = place.keep(OldServer())
    fake.always["/build/1/live"] = DROP
    with Shell(place, fake).popen("watch", "1") as process:
        assert process.stderr and "waiting for" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "minici: build 1 goes on; follow it with: python3 -m minici watch 1\n"
