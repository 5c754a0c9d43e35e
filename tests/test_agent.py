"""The agent as a process: what its parts only show together. See also test_contract_3_agent.py."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipapp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import DROP as CUT
from tests.support.fakes import HANG, FakeServer
from tests.support.harness import ROOT, AgentProcess, Place, commands_left, wait_for

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


@pytest.fixture
def server(place: Place) -> FakeServer:
    return place.keep(FakeServer())


@pytest.fixture
def agent(place: Place, server: FakeServer) -> AgentProcess:
    return place.agent(server)


def hand(agent: AgentProcess, number: int, command: str, **more: Any) -> None:
    """Hand a build over, as soon as there is a slot for it."""
    about = {"id": number, "attempt": 1, "repository": agent.place.repository.path}
    params = {**about, "commit": "HEAD", "command": command, **more}
    wait_for(lambda: agent.post("/build", params).status == 202, what=f"build {number} accepted")


def test_a_short_build_costs_one_call(server: FakeServer, agent: AgentProcess) -> None:
    hand(agent, 1, "echo out; echo err >&2")
    result = server.wait_result(1)
    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")
    wait_for(lambda: not agent.ping()["undelivered"])
    streams = [call.query["stream"] for call in server.made("/notify_build_output")]
    assert set(streams) <= {"checkout"}, "git itself may have something to say"
    assert len(server.made("/notify_build_result")) == 1
    made = len(server.made("/notify_build_output"))
    hand(agent, 2, "echo out")
    server.wait_result(2)
    more = server.made("/notify_build_output")[made:]
    assert [call.query["stream"] for call in more] == ["checkout"], "a line says what is fetched"


def test_fault_56_what_git_prints_is_sent(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    """While it fetches, and what is left before the result, after a kill as well."""
    hand(agent, 1, "true", repository=f"file://{place.repository.path}")
    server.wait_result(1)
    said = server.stream(1, "checkout")
    assert b"new branch" in said and b"main" in said, said
    gone = place.folder / "gone"
    server.script_always("/notify_build_output", (503, {"error": "later"}))
    hand(agent, 2, "true", repository=f"file://{gone}")
    wait_for(lambda: [each["id"] for each in agent.ping()["undelivered"]] == [2])
    assert server.stream(2, "checkout") == b""
    agent.kill()
    agent.restart()
    server.script_always("/notify_build_output", None)
    # A server that was away has been asked for less and less often: half a minute apart at most.
    assert "checkout failed" in server.wait_result(2, within=120)["reason"]
    assert str(gone).encode() in server.stream(2, "checkout")


def test_the_slot_is_free_before_the_result_is_delivered(
    server: FakeServer, agent: AgentProcess
) -> None:
    server.script("/notify_build_result", HANG)
    hand(agent, 1, "true")
    server.wait_call("/notify_build_result")
    about = {"repository": agent.place.repository.path, "commit": "HEAD", "command": "true"}
    assert agent.post("/build", {"id": 2, **about}).status == 202


def test_what_the_reason_says(server: FakeServer, agent: AgentProcess) -> None:
    hand(agent, 1, "sleep 60", timeout="0.3")
    result = server.wait_result(1)
    assert result["reason"] == "ran out of time after 0.3 s (build_timeout)"
    assert result["status"] == "-15"
    hand(agent, 2, "trap 'exit 0' TERM; while :; do sleep 0.05; done", timeout="0.3")
    assert server.wait_result(2)["status"] == "124", "who is out of time is no success"
    hand(agent, 3, "true", commit="nope")
    result = server.wait_result(3)
    path = agent.place.repository.path
    assert result["reason"] == f'checkout failed: no commit "nope" in {path}'
    assert result["status"] == "128" and "revision" not in result
    hand(agent, 4, "exit 3")
    result = server.wait_result(4)
    assert result["status"] == "3" and "reason" not in result
    hand(agent, 5, "sleep 60 & wait")
    wait_for(lambda: any("sleep 60" in line for line in commands_left(agent.place.marker).values()))
    agent.post("/cancel", {"id": 5})
    result = server.wait_result(5)
    assert (result["status"], result["reason"]) == ("-15", "cancelled")


def test_a_superseded_build_is_stopped_and_dropped(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    hand(agent, 1, "echo on; sleep 60")
    wait_for(lambda: server.stream(1, "stdout") == b"on\n")
    assert agent.post("/cancel", {"id": 1, "attempt": 1, "superseded": 1}).status == 200
    wait_for(lambda: agent.ping()["running"] == agent.ping()["undelivered"] == [])
    assert server.results == [] and not commands_left(place.marker)
    hand(agent, 2, "true")
    server.wait_result(2)
    assert [result["id"] for result in server.results] == ["2"]


@only_linux
def test_a_command_that_kills_its_supervisor_leaves_nothing(
    place: Place, server: FakeServer
) -> None:
    agent = place.agent(server, slots=2)
    hand(agent, 1, "echo on; sleep 61")
    wait_for(lambda: server.stream(1, "stdout") == b"on\n")
    hand(
        agent, 2, "setsid sleep 62 & setsid sh -c 'sleep 63 & sleep 64' & sleep 0.1; kill -9 $PPID"
    )
    result = server.wait_result(2)
    assert int(result["status"]) != 0 and "supervisor" in result["reason"]
    left = "\n".join(commands_left(place.marker).values())
    assert "sleep 61" in left, "the other slot goes on"
    assert not any(f"sleep {number}" in left for number in (62, 63, 64))
    hand(agent, 3, "echo fine")
    server.wait_result(3)
    assert server.stream(3, "stdout") == b"fine\n"


@only_linux
def test_the_children_that_an_agent_was_born_with_are_not_its_own(
    place: Place, server: FakeServer
) -> None:
    """As in a container, where a start script leaves something running and becomes the agent."""
    agent = place.configure_agent(server)
    agent.launch()
    agent.kill()
    script = f'sleep 77 & exec "{sys.executable}" -m minici.agent "{agent.config}"'
    with open(agent.out, "wb") as out, open(agent.err, "ab") as err:
        agent.process = subprocess.Popen(
            ["/bin/sh", "-c", script], env=agent.env, stdout=out, stderr=err, start_new_session=True
        )
    agent.wait_ready()
    hand(agent, 1, "setsid sleep 78 & sleep 0.1; kill -9 $PPID")
    server.wait_result(1)
    left = commands_left(place.marker)
    assert list(left.values()) == ["sleep 77"]
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def test_memory_does_not_grow_with_output(server: FakeServer, agent: AgentProcess) -> None:
    """Not while it runs, and not when a server wants all of it with the result."""
    server.script_always("/notify_build_output", (404, {}))
    hand(agent, 1, "true")
    server.wait_result(1)
    before = agent.memory()
    hand(agent, 2, "head -c 200000000 /dev/zero; echo end", output_limit=20_000_000)
    result = server.wait_result(2)
    assert len(result["stdout"]) > 20_000_000 and result["stdout"].endswith("\0end\n")
    assert "[minici: 180000004 bytes dropped]" in result["stdout"]
    assert agent.memory() - before < 50_000_000


def test_a_folder_that_can_not_be_written_refuses_builds(
    server: FakeServer, agent: AgentProcess
) -> None:
    shutil.rmtree(agent.data / "running")
    (agent.data / "running").write_text("in the way")
    about = {"repository": agent.place.repository.path, "commit": "HEAD", "command": "true"}
    reply = agent.post("/build", {"id": 1, **about})
    assert reply.status == 503 and "data folder" in reply.error()
    (agent.data / "running").unlink()
    hand(agent, 1, "true")
    server.wait_result(1)


def test_a_result_that_can_not_be_kept_is_given_back(
    server: FakeServer, agent: AgentProcess
) -> None:
    hand(agent, 1, "echo on; sleep 0.5")
    wait_for(lambda: server.stream(1, "stdout") == b"on\n")
    shutil.rmtree(agent.data / "outbox")
    (agent.data / "outbox").write_text("in the way")
    call = server.wait_call("/notify_build_returned")
    assert (call.params["id"], call.params["attempt"]) == ("1", "1")
    wait_for(lambda: agent.ping()["running"] == [])
    assert server.results == []
    wait_for(lambda: "build 1" in agent.log() and "can't keep" in agent.log())


@pytest.mark.parametrize("server_is", ["there", "away", "silent"])
def test_an_idle_agent_ends_at_once(place: Place, server: FakeServer, server_is: str) -> None:
    agent = place.agent(server)
    server.wait_agent()
    if server_is == "away":
        server.close()
    if server_is == "silent":
        server.script_always("/notify_agent", HANG)
        server.wait_call("/notify_agent", len(server.made("/notify_agent")) + 1)
    begun = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - begun < 2


def test_a_second_agent_on_the_same_folder(place: Place, agent: AgentProcess) -> None:
    second = place.configure_agent(agent.sections["agent"]["server"], data=agent.data)
    second.launch()
    assert second.wait_end(10) == 1
    assert len(second.log().strip().splitlines()) == 1 and str(agent.data) in second.log()
    assert agent.ping()["slots"] == 1


def test_a_port_that_is_taken(place: Place, server: FakeServer) -> None:
    agent = place.configure_agent(server, port=server.port)
    agent.launch()
    assert agent.wait_end(10) == 1
    assert len(agent.log().strip().splitlines()) == 1 and str(server.port) in agent.log()
    assert not agent.data.exists()


def test_the_data_folder_is_named_after_the_port(place: Place, server: FakeServer) -> None:
    agent = place.configure_agent(server)
    del agent.sections["agent"]["data"]
    agent.start()
    assert (agent.config.parent / f"minici-agent-{agent.port}" / "outbox").is_dir()


def test_what_is_advertised(place: Place, server: FakeServer) -> None:
    agent = place.agent(server, advertise="build.example:99")
    told = server.wait_agent().params
    assert (told["host"], told["port"]) == ("build.example", "99")
    assert told["name"] == f"{socket.gethostname()}:{agent.port}"
    assert agent.request("GET", "/ping", headers={"Host": "build.example:99"}).status == 200
    assert agent.request("GET", "/ping", headers={"Host": "evil.example"}).status == 421


def test_what_people_call_it(place: Place, server: FakeServer) -> None:
    agent = place.agent(server, name="büro 7")
    assert server.wait_agent().params["name"] == agent.ping()["name"] == "büro 7"


def test_a_command_finds_an_empty_folder_for_its_files(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    command = 'cd "$MINICI_ARTIFACTS"; pwd; ls -A; mkdir -p a/b; echo x > a/b/c; chmod 555 a/b a'
    for number in (1, 2):
        hand(agent, number, command)
        assert server.wait_result(number)["status"] == "0"
        folder = server.stream(number, "stdout").decode()
        assert folder.count("\n") == 1, "only its name, and nothing in it"
        assert folder.startswith(f"{agent.data}/") and "workspaces" not in folder
        sent = server.made("/notify_build_file")[number - 1]
        assert (sent.query["path"], sent.body) == ("a/b/c", b"x\n")
    first = Path(server.stream(1, "stdout").decode().strip())
    assert not first.exists()


def test_a_command_knows_its_project_and_its_ref(server: FakeServer, agent: AgentProcess) -> None:
    about = {"project": "shop", "event": "push", "ref": "refs/heads/main"}
    hand(agent, 1, "echo $MINICI_PROJECT $JOB_NAME $MINICI_EVENT $MINICI_BRANCH $TAG_NAME", **about)
    server.wait_result(1)
    assert server.stream(1, "stdout") == b"shop shop push main\n"


def test_an_agent_on_all_addresses_works_out_its_own(place: Place, server: FakeServer) -> None:
    place.agent(server, host="0.0.0.0", secret="s")
    assert server.wait_agent().params["host"] == "127.0.0.1"


def test_a_server_that_comes_back_is_noticed_by_its_ping(place: Place, server: FakeServer) -> None:
    """Backed off as it is, the agent is there as soon as the server is."""
    server.script_always("/notify_agent", CUT)
    server.script_always("/notify_build_result", CUT)
    agent = place.agent(server)
    hand(agent, 1, "true")
    server.wait_call("/notify_agent", 6)  # it waits for three seconds now, or more
    server.script_always("/notify_agent", None)
    server.script_always("/notify_build_result", None)
    tries = len(server.made("/notify_agent"))
    agent.ping()
    server.wait_call("/notify_agent", tries + 1, within=2)
    server.wait_result(1, within=2)


def test_the_log_says_what_happens_to_each_build(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    hand(agent, 7, "exit 1", repository=f"file://user:hidden@{place.repository.path}")
    server.wait_result(7)
    hand(agent, 8, "exit 1", attempt=2)
    server.wait_result(8)
    wait_for(lambda: "delivered" in agent.log().rpartition("build 8")[2])
    for happening in ("HEAD of", "ended with status 1", "delivered"):
        assert any("build 8 (attempt 2)" in x and happening in x for x in agent.log().splitlines())
    assert "hidden" not in agent.log()


def test_from_an_archive(place: Place, server: FakeServer) -> None:
    """`python -m zipapp` makes one file of the package; the supervisor starts from it as well."""
    archive = place.folder / "minici.pyz"
    source = place.folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "minici", source / "minici", ignore=ignored)
    zipapp.create_archive(source, archive, main="minici.agent:main")
    agent = place.configure_agent(server, env={"PYTHONPATH": str(archive)})
    agent.start()
    hand(agent, 1, "echo from an archive")
    server.wait_result(1)
    assert server.stream(1, "stdout") == b"from an archive\n"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder into which everybody may look; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another user")
def test_commands_run_as_the_user(place: Place, server: FakeServer, open_folder: Path) -> None:
    repository = open_folder / "repository"
    shutil.copytree(place.repository.path, repository)
    for path in (repository, *repository.rglob("*")):
        shutil.chown(path, "nobody")
    agent = place.agent(server, user="nobody", data=open_folder / "data", secret="s3cret")
    about = {"id": 1, "repository": repository, "commit": "HEAD"}
    command = f"id -un; git status --porcelain; touch new; ls {agent.data}/running || echo closed"
    headers = {"Authorization": "Bearer s3cret"}
    reply = agent.post("/build", {**about, "command": command}, **headers)
    assert reply.status == 202
    server.wait_result(1)
    assert server.stream(1, "stdout") == b"nobody\nclosed\n"
