"""Where commands run: as another user, in the shells of examples/, and what they can reach."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minici.agent import other_user
from minici.config import ConfigError
from minici.config_file import read_agent
from tests.support.harness import ROOT, AgentProcess, Place, ServerProcess, marked, wait_for
from tests.support.repositories import Repository

SHELLS = ROOT / "examples" / "shells"
WORD = "pst-between-us"
NOBODY = "nobody"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another user")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")


def secretly(place: Place, process: Any) -> Any:
    """Have the configuration file of a process readable by its user alone, then start it."""
    config = place.folder / f"{process.name}.ini"
    config.touch()
    config.chmod(0o600)
    return process.start()


def ran(server: ServerProcess, command: str, commit: str = "HEAD") -> str:
    """What a command printed that must have gone well."""
    number = server.start_build(commit, command)
    build = server.wait_final(number)
    text = server.output(number).decode()
    assert build["status"] == "success", (build, text)
    return text


# As another user.


@pytest.fixture
def server(open_place: Place) -> ServerProcess:
    """A server on a repository that nobody may read."""
    theirs = Repository(open_place.folder / "theirs")
    subprocess.run(["chown", "-R", NOBODY, str(theirs.path)], check=True)
    return open_place.server(secret=WORD, repository=theirs.path)


def other_agent(place: Place, server: ServerProcess, **settings: Any) -> AgentProcess:
    """An agent of root's, with groups that a command must not have."""
    agent = place.configure_agent(server, secret=WORD, user=NOBODY, **settings)
    agent.prefix = ["setpriv", "--groups", "0,4,27"]
    secretly(place, agent)
    server.wait_agents(1)
    return agent


@as_root
def test_a_command_of_another_user_reaches_nothing_of_the_agents(
    open_place: Place, server: ServerProcess
) -> None:
    place = open_place
    agent = other_agent(place, server)
    ran(server, "echo first")
    forbidden = [
        f"cat {place.folder / agent.name}.ini",
        f"ls {agent.data}",
        f"ls {agent.data / 'outbox'}",
        f"ls {agent.data / 'running'}",
        f"ls {agent.data / 'processes'}",
        f"ls {agent.data / 'workspaces'}",
        f"cat {server.data}/agents.json",
        f"ls {server.data}",
        f"touch {agent.data}/x",
        f"touch {agent.data}/workspaces/x",
        f"touch {agent.data}/mirrors/x",
        'touch "$PWD/../x"',
        "cat /etc/shadow",
        f"kill -0 {agent.pid}",
        "kill -0 $PPID",
        "cat /proc/$PPID/environ",
        f"cat /proc/{agent.pid}/environ",
        f"ls /proc/{agent.pid}/fd",
        "chown 0 file.txt",
    ]
    lines = "; ".join(f"({each}) >/dev/null 2>&1 && echo 'DONE: {each}'" for each in forbidden)
    assert ran(server, f"{lines}; true") == ""
    told = ran(server, "id -un; id -Gn; echo $HOME; touch made && stat -c %U made; ls -A | wc -l")
    group = subprocess.run(["id", "-gn", NOBODY], capture_output=True, text=True).stdout.strip()
    assert told.split() == [NOBODY, group, told.split()[2], NOBODY, "5"]
    assert told.split()[2] != str(place.home)


@as_root
def test_rule_19_files_of_another_user_are_kept_and_links_of_its_are_not(
    open_place: Place, server: ServerProcess
) -> None:
    agent = other_agent(open_place, server)
    secret = open_place.folder / f"{agent.name}.ini"
    left = f'umask 077; cd "$MINICI_ARTIFACTS"; mkdir a; echo x >a/x; ln -s {secret} a/s; chmod 0 a'
    ran(server, left)
    (newest,) = server.api("/builds?limit=1")["builds"]
    assert newest["files"] == [{"path": "a/x", "bytes": 2}] and newest["files_left_out"] == 1
    assert server.get(f"/build/{newest['id']}/files/a/x").body == b"x\n"


@as_root
def test_what_a_command_of_another_user_leaves_is_read_as_that_user(
    open_place: Place, server: ServerProcess
) -> None:
    """It owns the slot's git folder and the mirror. A link in there to a file of root's must give
    nobody the file: neither its content nor a change of it."""
    place = open_place
    agent = other_agent(place, server)
    ran(server, "true")
    hidden = place.folder / "hidden"
    hidden.write_text("hidden content")
    hidden.chmod(0o600)
    command = f"""
        mirror=$(dirname "$(cat .git/objects/info/alternates)")
        for name in index packed-refs shallow HEAD config; do
            for folder in .git ../0.git "$mirror"; do
                rm -f "$folder/$name"; ln -s {hidden} "$folder/$name"
            done
        done 2>/dev/null
        echo left
    """
    assert "left" in ran(server, command)
    look = (
        "cat .git/* ../0.git/* 2>/dev/null | grep -ac 'hidden content' || :; git log -1 --format=%s"
    )
    for _ in range(2):
        number = server.start_build(command=look)
        build = server.wait_final(number)
        assert not server.output(number, "stdout").startswith(b"1"), build
    assert build["status"] == "success", (build, server.output(number))
    assert hidden.read_text() == "hidden content" and hidden.stat().st_uid == 0
    assert "hidden content" not in agent.log()


@as_root
@pytest.mark.parametrize("umask", ["022", "077"])
def test_another_user_gets_to_its_checkout_whatever_the_umask(
    open_place: Place, server: ServerProcess, umask: str
) -> None:
    place = open_place
    agent = place.configure_agent(server, secret=WORD, user=NOBODY)
    agent.prefix = ["/bin/sh", "-c", f'umask {umask}; exec "$@"', "masked"]
    agent.start()
    server.wait_agents(1)
    assert ran(server, "cat file.txt; git status --porcelain; id -un") == f"three\n{NOBODY}\n"


@as_root
def test_everything_of_another_user_ends_with_its_build(
    open_place: Place, server: ServerProcess
) -> None:
    agent = other_agent(open_place, server)
    background = "setsid sleep 998 & (setsid sleep 999 &) ; echo ok"
    assert ran(server, background) == "ok\n"
    number = server.start_build(command=f"trap '' TERM; {background}; sleep 997")
    wait_for(lambda: server.output(number) == b"ok\n", what="it runs")
    agent.kill()
    wait_for(lambda: not sleepers(open_place), 15, "nothing of it is left")


def sleepers(place: Place) -> list[str]:
    return [line for line in marked(place.marker).values() if line.startswith("sleep")]


def test_without_root_no_agent_runs_commands_as_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.ini"
    text = "[agent]\nport = 1\nserver = x:1\nuser = daemon\n"
    config.write_text(text)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(
        ConfigError, match=r"\[agent\] user = daemon: only an agent that root starts"
    ):
        read_agent(config)
    own = pwd.getpwnam("daemon").pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: own)
    assert other_user(read_agent(config)) is None, "it is that user already"


# In bubblewrap.


@pytest.fixture
def walled(place: Place) -> ServerProcess:
    """A server whose one agent runs commands in bubblewrap."""
    assert shutil.which("bwrap"), "this needs bubblewrap; on Debian: apt-get install bubblewrap"
    server = place.server(secret=WORD)
    shell = SHELLS / "bubblewrap"
    secretly(place, place.configure_agent(server, secret=WORD, shell=shell))
    server.wait_agents(1)
    return server


@on_linux
def test_a_build_in_bubblewrap_has_its_checkout_and_git(walled: ServerProcess) -> None:
    place = walled.place
    look = "pwd; cat file.txt; git log -1 --format=%H; git status --porcelain; echo $CI $WORKSPACE"
    where, text, revision, told = ran(walled, look).splitlines()
    assert (text, revision) == ("three", place.repository.third)
    assert told == f"true {where}"
    assert ran(walled, "git show v1:file.txt; git checkout -q topic && cat topic.txt").split()
    assert ran(walled, "touch left; mkdir -p a/b; chmod 0 a; echo x >file.txt; echo 1") == "1\n"
    assert ran(walled, "ls -A; git status --porcelain --ignored").split() == [
        ".git",
        ".gitignore",
        "file.txt",
        "script.sh",
    ]


@on_linux
def test_a_build_in_bubblewrap_sees_nothing_else(walled: ServerProcess) -> None:
    place = walled.place
    agent = place.processes[1]
    gone = [
        str(place.folder / f"{agent.name}.ini"),
        str(walled.data),
        f"{agent.sections['agent']['data']}/outbox",
        str(place.home),
        "/etc/shadow",
        "/root",
        "/home",
        "/var",
        f"/proc/{agent.pid}",
    ]
    assert ran(walled, f"ls -d {' '.join(gone)} 2>/dev/null || :") == ""
    assert int(ran(walled, "ls -d /proc/[0-9]* | wc -l")) < 8, "no process but its own"
    closed = (
        "touch /usr/x /etc/x 2>/dev/null || echo closed; mount -o remount,rw /usr 2>&1 || echo no"
    )
    assert ran(walled, closed).split()[0] == "closed"
    assert not Path("/usr/x").exists()
    assert ran(walled, 'echo x > "$MINICI_ARTIFACTS/x"; echo kept') == "kept\n"
    (newest,) = walled.api("/builds?limit=1")["builds"]
    assert newest["files"] == [{"path": "x", "bytes": 2}]
    assert ran(walled, "echo kept >/tmp/x; echo $HOME; touch ~/x && ls ~") == "/tmp/home\nx\n"
    assert ran(walled, "ls /tmp ~ 2>/dev/null | grep -c x || :") == "0\n"


@on_linux
@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("nope", 127)])
def test_bubblewrap_hands_the_exit_status_on(
    walled: ServerProcess, command: str, status: int
) -> None:
    build = walled.wait_final(walled.start_build(command=command))
    assert (build["status"], build["exit_status"]) == ("failure", status)


@on_linux
def test_what_runs_in_bubblewrap_ends_with_the_build(walled: ServerProcess) -> None:
    background = "setsid sleep 998 & (setsid sleep 999 &) ; echo ok"
    assert ran(walled, background) == "ok\n"
    assert not sleepers(walled.place)
    number = walled.start_build(command=f"trap '' TERM; {background}; sleep 997; sleep 997")
    wait_for(lambda: walled.output(number) == b"ok\n", what="its output comes while it runs")
    assert walled.post(f"/build/{number}/cancel").status == 303
    assert walled.wait_final(number, within=15)["status"] == "cancelled"
    assert not sleepers(walled.place)
    number = walled.start_build(command=f"{background}; sleep 997")
    wait_for(lambda: walled.output(number) == b"ok\n", what="the next one")
    walled.place.processes[1].kill()
    wait_for(lambda: not sleepers(walled.place), 15, "it ends with its agent")


@on_linux
@as_root
def test_bubblewrap_and_another_user_together(open_place: Place, server: ServerProcess) -> None:
    other_agent(open_place, server, shell=SHELLS / "bubblewrap")
    assert ran(server, "id -un; cat file.txt; git log -1 --format=%s").splitlines()[:2] == [
        NOBODY,
        "three",
    ]


# Containers and limits: their programs stand in for themselves, and say what they were told.


STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" >"{said}"
for last; do :; done
exec /bin/sh -c "$last"
"""


@pytest.mark.parametrize("program", ["podman", "docker", "systemd-run"])
def test_the_other_shells_hand_the_command_over_whole(place: Place, program: str) -> None:
    said = place.folder / "said"
    programs = place.folder / "programs"
    programs.mkdir()
    (programs / program).write_text(STAND_IN.format(said=said))
    (programs / program).chmod(0o755)
    server = place.server()
    image = "" if program == "systemd-run" else " registry.example/image:1"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    place.agent(server, {"PATH": path}, shell=f"{SHELLS / program}{image}")
    command = "echo \"a  b\" 'c'; cat file.txt\nexit 7"
    number = server.start_build(command=command)
    build = server.wait_final(number)
    assert (build["status"], build["exit_status"]) == ("failure", 7)
    assert server.output(number) == b"a  b c\nthree\n"
    words = said.read_text().rstrip("\n").split("\n")
    assert words[-5:] == ["/bin/sh", "-e", "-c", *command.split("\n")], words
    if image:
        workspace = words[words.index("--workdir") + 1]
        assert f"{workspace}:{workspace}" in words and words[-6] == image.strip()
        named = {words[place + 1] for place, word in enumerate(words) if word == "--env"}
        assert set(told_of_itself(server)) <= named
        assert words.index("--memory") and words.index("--pids-limit")
    else:
        assert "--scope" in words and any(word.startswith("MemoryMax=") for word in words)


def told_of_itself(server: ServerProcess) -> list[str]:
    """The names of what a command is told of its build."""
    program = "import json, os; print(json.dumps(sorted(os.environ)))"
    place = server.place
    assert isinstance(place, Place)
    plain = place.agent(place.server(), {"BEFORE": "1"})
    other: ServerProcess = place.processes[-2]  # type: ignore[assignment]
    names = json.loads(ran(other, f"{sys.executable} -c '{program}'"))
    assert plain.alive and "BEFORE" in names
    return [name for name in names if name not in plain.env and name not in ("PWD", "_", "SHLVL")]


def test_a_container_of_docker_ends_with_a_cancelled_build(place: Place) -> None:
    """It is no child of the agent's: the script has to end it."""
    said, docker = place.folder / "said", place.folder / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >>{said}\n[ "$1" = kill ] || exec sleep 999\n')
    docker.chmod(0o755)
    server = place.server()
    path = f"{place.folder}{os.pathsep}{os.environ['PATH']}"
    place.agent(server, {"PATH": path}, shell=f"{SHELLS / 'docker'} image")
    number = server.start_build()
    wait_for(lambda: said.exists() and said.read_text(), what="a container")
    name = said.read_text().split("--name ")[1].split()[0]
    assert server.post(f"/build/{number}/cancel").status == 303
    assert server.wait_final(number, within=15)["status"] == "cancelled"
    assert said.read_text().splitlines()[1:] == [f"kill {name}"]
    assert not sleepers(place)
