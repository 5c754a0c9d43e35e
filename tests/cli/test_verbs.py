"""The command line as a person and a script use it: real servers, agents and clones."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from minici.cli.parser import VERBS
from minici.web.passwords import hash_password
from tests.support.fakes import Call, FakeAgent, FakeServer
from tests.support.harness import ROOT, Place, ServerProcess, environment, wait_for
from tests.support.repositories import git
from tests.support.shell import Shell, read_until


def test_start_follows_and_ends_with_the_status_of_the_build(
    place: Place, server: ServerProcess
) -> None:
    run = Shell(place, server)
    done = run("start", "main", "echo out; echo err >&2")
    assert (done.returncode, done.stdout) == (0, "out\n")
    assert "err\n" in done.stderr and "build 1: success" in done.stderr
    assert run("start", "main", "exit 3").returncode == 1
    missing = run("start", "nosuch", "true")
    assert missing.returncode == 1 and "nosuch" in missing.stderr
    assert run("watch", "1").stdout == run("log", "1").stdout.replace("err\n", "") == "out\n"
    detached = run("start", "--detach", "main", "true")
    assert (detached.returncode, detached.stdout) == (0, "4\n")
    assert run("rebuild", "2").returncode == 1


def test_what_shows_something_shows_it_without_decoration(
    place: Place, server: ServerProcess
) -> None:
    run = Shell(place, server)
    run("start", "main", "exit 1")
    row = run("list").stdout.rstrip("\n").split("\t")
    assert row[:2] == ["1", "failure"] and row[-1] == "exit 1"
    assert "\x1b" not in run("list").stdout + run("show", "1").stdout + run("agents").stdout
    assert json.loads(run("show", "1", "--json").stdout)["id"] == 1
    assert json.loads(run("list", "--json").stdout)["builds"][0]["exit_status"] == 1
    assert json.loads(run("agents", "--json").stdout)["agents"][0]["slots"] == 3


def test_a_list_may_be_longer_than_a_page_of_the_api(place: Place) -> None:
    class Pages(FakeServer):
        def answer(self, call: Call) -> Any:
            first = int(call.query.get("before", 1001)) - 1
            ids = range(first, max(0, first - int(call.query["limit"])), -1)
            builds = [{"id": number, "status": "queued"} for number in ids]
            path = f"/api/builds?before={ids[-1]}&limit={call.query['limit']}"
            return 200, {"builds": builds, "next": path if ids[-1] > 1 else None}

    fake = place.keep(Pages())
    run = Shell(place, fake)
    assert len(run("list", "--limit", "450").stdout.splitlines()) == 450
    assert [call.query["limit"] for call in fake.calls] == ["200"] * 3
    assert len(run("list").stdout.splitlines()) == 20


def test_pausing_and_labels_from_the_command_line(place: Place, server: ServerProcess) -> None:
    run = Shell(place, server)
    (agent,) = server.agents()
    assert run("pause", agent["name"]).returncode == 0
    assert "\tpaused\t" in run("agents").stdout
    assert run("start", "--detach", "--labels", "linux gpu", "main", "true").returncode == 0
    shown = run("show", "1").stdout
    assert "linux gpu" in shown and "no agent has the labels gpu linux" in shown
    assert run("start", "--detach", "main", "true").returncode == 0
    assert "is paused: resume it" in run("show", "2").stdout
    assert run("resume", agent["address"]).returncode == 0
    assert server.wait_final(2)["status"] == "success"
    wrong = run("start", "--labels", "a,b", "main", "true")
    assert wrong.returncode == 2 and "a,b is no label" in wrong.stderr


def test_of_two_agents_with_one_name_the_address_says_which_is_paused(place: Place) -> None:
    server = place.server()
    twins = [place.keep(FakeAgent(server, "vm:8001")) for _ in range(2)]
    run = Shell(place, server)
    unsure = run("pause", "vm:8001")
    assert unsure.returncode == 2 and "several have it: give the address" in unsure.stderr
    assert all(f"vm:8001 ({twin.address})" in unsure.stderr for twin in twins)
    assert run("pause", twins[1].address).returncode == 0
    paused = {each["address"] for each in server.agents() if each["paused"]}
    assert paused == {twins[1].address}


def test_times_are_in_the_readers_zone(place: Place, server: ServerProcess) -> None:
    run = Shell(place, server)
    run("start", "main", "true")
    hours = []
    for zone in ("UTC0", "XXX-5"):
        run.env["TZ"] = zone
        hours.append(int(run("list").stdout.split("\t")[2][11:13]))
    assert (hours[1] - hours[0]) % 24 == 5


def test_cancel(place: Place) -> None:
    server = place.server()
    run = Shell(place, server)
    for _ in range(3):
        server.start_build()
    assert run("cancel", "1").returncode == 0
    assert run("cancel", "--queued").stdout == "2 cancelled\n"
    assert run("watch", "3").returncode == 4
    assert run("cancel").returncode == run("cancel", "1", "--queued").returncode == 2


def test_ctrl_c_stops_following_and_not_the_build(place: Place, server: ServerProcess) -> None:
    run = Shell(place, server)
    gate = place.folder / "gate"
    with run.popen(
        "start", "main", f"echo on; until test -e {gate}; do sleep 0.1; done"
    ) as process:
        assert process.stdout and process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "watch 1" in err and "Traceback" not in err
    assert server.build(1)["status"] == "running"
    gate.touch()
    assert server.wait_final(1)["status"] == "success"


def test_following_goes_on_exactly_over_a_killed_server(
    place: Place, server: ServerProcess
) -> None:
    run = Shell(place, server)
    gate = place.folder / "gate"
    command = f"echo one; until test -e {gate}; do sleep 0.1; done; echo two; echo three"
    with run.popen("start", "main", command) as process:
        assert process.stdout and process.stdout.readline() == "one\n"
        server.kill()
        read_until(process.stderr, "waiting for")
        server.restart()
        gate.touch()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "two\nthree\n"), err
    assert "the server is back" in err


def test_name_and_password_stand_in_the_url_or_in_netrc(place: Place) -> None:
    server = place.configure_server()
    server.sections["users"] = {"ada": hash_password("p@ss")}
    server.start()
    run = Shell(place, server)
    refused = run("list")
    assert refused.returncode == 2 and "asks for a name and password" in refused.stderr
    wrong = run("list", "--server", f"http://ada:no@{server.address}")
    assert wrong.returncode == 2 and "asks for another name and password" in wrong.stderr
    url = server.address if "://" in server.address else f"http://{server.address}"
    assert run("list", "--server", url.replace("://", "://ada:p%40ss@")).returncode == 0
    netrc = place.home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ada password p@ss\n", encoding="utf-8")
    netrc.chmod(0o600)
    assert run("list").returncode == 0


def test_a_terminal_shows_the_place_in_the_queue(place: Place) -> None:
    server = place.server()
    run = Shell(place, server)
    for _ in range(3):
        server.start_build()
    main, side = pty.openpty()
    words = [sys.executable, "-m", "minici", "watch", "3"]
    env = {**run.env, "TERM": "xterm"}
    with subprocess.Popen(words, env=env, cwd=run.folder, stderr=side) as process:
        seen = b""
        while b"build 3: no agent is registered: start one" not in seen:
            seen += os.read(main, 65536)
        place.keep(FakeAgent(server)).wait_build()
        while b"build 3: number 2 in the queue for a free slot" not in seen:
            seen += os.read(main, 65536)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    os.close(main)
    os.close(side)


def test_no_server_is_exit_status_5(place: Place) -> None:
    done = Shell(place, "http://127.0.0.1:1")("list")
    assert done.returncode == 5 and "no answer from http://127.0.0.1:1" in done.stderr


def test_every_verb_has_help_with_an_example(place: Place) -> None:
    run = Shell(place, "http://127.0.0.1:1")
    for verb in sorted(VERBS):
        done = run(verb, "--help")
        assert done.returncode == 0 and f"python3 -m minici {verb}" in done.stdout


def test_another_kind_of_server_is_said_to_be_one(place: Place) -> None:
    fake = place.keep(FakeServer())
    run = Shell(place, f"http://127.0.0.1:{fake.port}")
    for words in (("list",), ("show", "1"), ("agents",), ("start", "main", "true"), ("watch", "1")):
        done = run(*words)
        assert done.returncode == 2 and "is no minici server" in done.stderr


def test_files_of_a_build_are_listed_and_fetched(
    place: Place, server: ServerProcess, tmp_path: Path
) -> None:
    run = Shell(place, server, tmp_path)
    command = 'mkdir "$MINICI_ARTIFACTS/a b"; printf "\\000\\377" >"$MINICI_ARTIFACTS/a b/отчёт"'
    assert run("start", "main", command).returncode == 0
    assert run("files", "1").stdout == "2\ta b/отчёт\n"
    assert run("files", "1", "--to", "got").stdout == "got/a b/отчёт\n"
    assert (tmp_path / "got/a b/отчёт").read_bytes() == b"\0\xff"
    (tmp_path / "plain").write_text("")
    done = run("files", "1", "--to", "plain")
    assert done.returncode == 2 and "name a folder with --to" in done.stderr


class FilesServer(FakeServer):
    """A server that keeps files, and knows `ref` no more than today's."""

    paths = ("a/b.txt", "c d")

    def answer(self, call: Any) -> Any:
        if call.path == "/api/builds/1":
            return 200, {"id": 1, "files": [{"path": p, "bytes": 2} for p in self.paths]}
        if call.path.startswith("/build/1/files/"):
            return 200, {}
        return 404, {"error": "nothing there"}


def test_files_are_fetched_and_stay_in_the_folder(place: Place, tmp_path: Path) -> None:
    fake = place.keep(FilesServer())
    run = Shell(place, f"http://127.0.0.1:{fake.port}", tmp_path)
    assert run("files", "1").stdout == "2\ta/b.txt\n2\tc d\n"
    assert run("files", "1", "--to", "got").returncode == 0
    assert (tmp_path / "got/a/b.txt").read_text() == (tmp_path / "got/c d").read_text() == "{}"
    fake.paths = ("../out",)
    assert run("files", "1", "--to", "got").returncode == 2
    assert not (tmp_path / "out").exists()


def test_files_are_not_fetched_through_links_that_lead_out(place: Place, tmp_path: Path) -> None:
    fake = place.keep(FilesServer())
    run = Shell(place, f"http://127.0.0.1:{fake.port}", tmp_path)
    (tmp_path / "got").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("mine")
    (tmp_path / "got/link").symlink_to("../outside")
    (tmp_path / "got/file").symlink_to("../outside/file")
    (tmp_path / "got/.partial.part").symlink_to("../outside/file")
    fake.paths = ("file", "partial")
    assert run("files", "1", "--to", "got").returncode == 0
    assert (tmp_path / "got/file").read_text() == (tmp_path / "got/partial").read_text() == "{}"
    fake.paths = ("link/new/x",)
    assert run("files", "1", "--to", "got").returncode == 2
    assert [each.name for each in (tmp_path / "outside").iterdir()] == ["file"]
    assert (tmp_path / "outside/file").read_text() == "mine"


def test_a_terminal_gets_colours_unless_no_color_is_set(
    place: Place, server: ServerProcess
) -> None:
    run = Shell(place, server)
    run("start", "main", "true")
    for no_color, coloured in (("", True), ("1", False)):
        main, side = pty.openpty()
        env = {**run.env, "NO_COLOR": no_color, "TERM": "xterm"}
        words = [sys.executable, "-m", "minici", "list"]
        subprocess.run(words, env=env, cwd=run.folder, stdout=side, timeout=60)
        os.close(side)
        assert (b"\x1b[32msuccess" in os.read(main, 65536)) is coloured
        os.close(main)


def test_completion_knows_verbs_and_options(place: Place) -> None:
    bash = shutil.which("bash")
    assert bash
    script = (
        'source <("$1" -m minici completion bash); COMP_WORDS=(python3 -m minici "$2" "$3")\n'
        'COMP_CWORD=$4; _minici; echo "${COMPREPLY[*]}"'
    )
    env = environment(place.marker, place.home)

    def complete(verb: str, word: str, at: int) -> str:
        words = [bash, "-c", script, "-", sys.executable, verb, word, str(at)]
        return subprocess.run(
            words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    assert complete("re", "", 3).split() == ["resume", "rebuild", "repeat"] or set(
        complete("re", "", 3).split()
    ) == {"rebuild", "repeat", "resume"}
    assert complete("list", "--js", 4) == "--json"


def test_the_pre_push_hook_pushes_only_what_builds(place: Place, tmp_path: Path) -> None:
    bare, clone = tmp_path / "bare.git", tmp_path / "work"
    git(tmp_path, "clone", "--quiet", "--bare", str(place.repository.path), str(bare))
    git(tmp_path, "clone", "--quiet", str(bare), str(clone))
    server = place.server(repository=bare)
    place.agent(server)
    shutil.copy(ROOT / "examples/git-hooks/pre-push", clone / ".git/hooks/pre-push")
    git(clone, "config", "minici.command", "test ! -e broken")
    env = {**Shell(place, server).env}
    env.update(GIT_AUTHOR_NAME="A", GIT_AUTHOR_EMAIL="a", GIT_COMMITTER_NAME="A")
    env["GIT_COMMITTER_EMAIL"] = "a"

    def push(name: str) -> int:
        (clone / name).touch()
        for words in (("add", "."), ("commit", "-qm", name)):
            subprocess.run(["git", *words], cwd=clone, env=env, check=True)
        words = ["git", "push", "--quiet", "origin", "main"]
        return subprocess.run(words, cwd=clone, env=env, capture_output=True).returncode

    assert push("fine") == 0
    tip = git(bare, "rev-parse", "main")
    assert tip == git(clone, "rev-parse", "HEAD")
    assert push("broken") != 0
    assert git(bare, "rev-parse", "main") == tip
    assert not git(bare, "for-each-ref", "refs/minici")
    wait_for(lambda: server.build(2)["status"] == "failure")
