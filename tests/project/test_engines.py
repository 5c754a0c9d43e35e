"""Commands that an engine runs: a real Slurm of two nodes on this host; a stand-in of kubectl."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import ROOT, AgentProcess, Place, ServerProcess, wait_for
from tests.support.repositories import Repository

SHELLS = ROOT / "examples" / "shells"
TWO_NODES = ROOT / "examples" / "slurm" / "two-nodes"
ENGINE_FAILED = 125
MEGABYTES = 10
BOTH_STREAMS = """
import os, threading
def write(descriptor, letter):
    data = memoryview((letter * 79 + b"\\n") * (MEGABYTES * 2**20 // 80) + b"end")
    while data:
        data = data[os.write(descriptor, data[:65536]):]
threads = [threading.Thread(target=write, args=each) for each in ((1, b"o"), (2, b"e"))]
[each.start() for each in threads]
[each.join() for each in threads]
""".replace("MEGABYTES", str(MEGABYTES))


def free_ports(count: int) -> int:
    """The first of some ports in a row that nobody has."""
    for first in range(17000, 30000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")


class Slurm:
    """examples/slurm/two-nodes, as a person starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": f"/usr/sbin:{os.environ['PATH']}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        self.process = subprocess.Popen(
            [str(TWO_NODES), str(folder), str(free_ports(3))],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        # It says so once both nodes are idle.
        late = threading.Timer(40, self.process.kill)
        late.start()
        assert self.process.stdout
        ready = self.process.stdout.readline()
        late.cancel()
        assert ready == f"export SLURM_CONF={folder}/slurm.conf\n", self.logs()

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.env, capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout.strip()

    def queue(self) -> str:
        return self("squeue", "--noheader")

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    for program in ("/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/munged", "/usr/bin/srun"):
        assert os.path.exists(program), "this needs Slurm; on Debian: apt-get install slurm-wlm"
    engine = Slurm(tmp_path_factory.mktemp("slurm"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, repository: Repository) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("engines"), repository)
    yield place
    assert not place.close()


@pytest.fixture(scope="module")
def server(place: Place, slurm: Slurm) -> ServerProcess:
    """A server whose one agent has Slurm run its commands."""
    server = two_projects(place)
    slurm_agent(server, slurm, "--immediate=5")
    return server


def two_projects(place: Place) -> ServerProcess:
    """A server with one more project, "short", whose `build_timeout` is soon over."""
    server = place.configure_server()
    server.sections["project short"] = {"build_timeout": "2s"}
    server.start()
    return server


def slurm_agent(server: ServerProcess, slurm: Slurm, options: str, **more: Any) -> AgentProcess:
    place = server.place
    assert isinstance(place, Place)
    env = {**slurm.env, "MINE": "seen", "MY_TOKEN": "hidden"}
    return place.agent(server, env, shell=f"{SHELLS / 'slurm'} {options}", **more)


def ended(server: ServerProcess, command: str) -> dict[str, Any]:
    return dict(server.wait_final(server.start_build(command=command), within=40))


def begun(server: ServerProcess, command: str) -> int:
    number = int(server.start_build(command=f"echo begun; {command}"))
    wait_for(lambda: server.output(number).startswith(b"begun\n"), 20, "the job has begun")
    return number


def ended_short(server: ServerProcess) -> dict[str, Any]:
    order = {"project": "short", "commit": "HEAD", "command": "echo ran"}
    number = int(server.post("/api/builds", order).json()["id"])
    return dict(server.wait_final(number, within=20))


def errors(server: ServerProcess, number: int) -> str:
    return str(server.output(number, "stderr").decode())


def test_a_job_of_slurm_is_a_build_like_others(server: ServerProcess, slurm: Slurm) -> None:
    look = (
        "echo $CI $MINE ${MY_TOKEN-none} $SLURM_JOB_NAME; cat file.txt; git log -1 --format=%H; "
        'pwd; echo $WORKSPACE; echo x >"$MINICI_ARTIFACTS/x"; wc -c; printf last'
    )
    build = ended(server, look)
    assert (build["status"], build["exit_status"]) == ("success", 0), errors(server, build["id"])
    told, text, revision, here, workspace, stdin, last = (
        server.output(build["id"], "stdout").decode().split("\n")
    )
    assert told.startswith("true seen none minici-")
    assert (text, revision, here) == ("three", server.place.repository.third, workspace)
    assert (stdin, last) == ("0", "last")
    assert ended(server, 'ls -A "$MINICI_ARTIFACTS"; sleep 999 & echo ok')["status"] == "success"


@pytest.mark.parametrize(
    "command, status", [("exit 7", 7), ("kill -9 $$", 137), ("nope", 127), ("false\necho", 1)]
)
def test_slurm_hands_the_exit_status_on(server: ServerProcess, command: str, status: int) -> None:
    build = ended(server, command)
    assert (build["status"], build["exit_status"]) == ("failure", status)


def test_both_streams_come_whole_and_apart_from_slurm(server: ServerProcess) -> None:
    build = ended(server, f"exec {sys.executable} -c '{BOTH_STREAMS}'")
    assert build["status"] == "success", errors(server, build["id"])[-500:]
    for stream, letter in (("stdout", b"o"), ("stderr", b"e")):
        whole = (letter * 79 + b"\n") * (MEGABYTES * 2**20 // 80) + b"end"
        got = server.output(build["id"], stream)
        assert got == whole, (stream, len(got), len(whole), got[-200:])


def test_a_cancelled_build_leaves_nothing_in_slurm(server: ServerProcess, slurm: Slurm) -> None:
    number = begun(server, "trap 'echo cleaned; exit 0' TERM; sleep 999 & wait")
    assert server.post(f"/build/{number}/cancel").status == 303
    assert server.wait_final(number, within=15)["status"] == "cancelled"
    assert server.output(number, "stdout") == b"begun\ncleaned\n", "it had time to"
    number = begun(server, "trap '' TERM; sleep 998; sleep 998")
    at = time.monotonic()
    assert server.post(f"/build/{number}/cancel").status == 303
    assert server.wait_final(number, within=15)["status"] == "cancelled"
    wait_for(lambda: not slurm.queue(), 10 - (time.monotonic() - at), "the queue is empty")


def test_a_build_whose_node_has_gone_is_no_success(server: ServerProcess, slurm: Slurm) -> None:
    """srun itself exits 0."""
    number = begun(server, "while sleep 0.1; do :; done")
    node = slurm("squeue", "--noheader", "--format=%N")
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    build = server.wait_final(number, within=20)
    slurm("scontrol", "update", f"nodename={node}", "state=idle")
    assert (build["status"], build["exit_status"]) == ("failure", ENGINE_FAILED)
    assert ": NODE_FAIL (NodeDown)" in errors(server, number)


def test_a_build_that_was_preempted_says_so(server: ServerProcess, slurm: Slurm) -> None:
    number = begun(server, "trap 'exit 0' TERM; while sleep 0.1; do :; done")
    slurm("srun", "--partition=urgent", "--nodes=2", "--cpus-per-task=2", "true")
    build = server.wait_final(number, within=20)
    assert (build["status"], build["exit_status"]) == ("failure", ENGINE_FAILED)
    assert ": PREEMPTED (" in errors(server, number)


@contextmanager
def full(slurm: Slurm) -> Iterator[None]:
    """Others have all of both nodes."""
    everything = ("srun", "--quiet", "--nodes=2", "--cpus-per-task=2", "sleep", "60")
    with subprocess.Popen(everything, env=slurm.env) as others:
        try:
            wait_for(lambda: " R " in slurm.queue(), what="the nodes are taken")
            yield
        finally:
            others.terminate()


def test_waiting_for_slurm_has_a_limit_of_its_own(server: ServerProcess, slurm: Slurm) -> None:
    with full(slurm):
        build = ended(server, "echo ran")
    assert (build["status"], build["exit_status"]) == ("failure", ENGINE_FAILED)
    assert server.output(build["id"], "stdout") == b""
    assert "queued and waiting" in errors(server, build["id"])
    assert "Unable to allocate resources" in errors(server, build["id"])


def test_a_job_that_was_pending_runs_once_there_is_room(
    server: ServerProcess, slurm: Slurm
) -> None:
    with full(slurm):
        number = server.start_build(command="echo ran")
        wait_for(lambda: "queued and waiting" in errors(server, number), what="it is pending")
    assert server.wait_final(number)["status"] == "success", errors(server, number)
    assert server.output(number, "stdout") == b"ran\n"


def test_a_job_that_is_pending_at_build_timeout_leaves_the_queue(
    server: ServerProcess, slurm: Slurm
) -> None:
    """The limit holds for waiting and the command together: shells/README.md."""
    with full(slurm):
        build = ended_short(server)
        wait_for(lambda: "minici" not in slurm("squeue", "--format=%j"), what="the job has gone")
    assert build["status"] == "failure"
    assert build["reason"] == "ran out of time after 2 s (build_timeout)"
    assert server.output(build["id"], "stdout") == b""
    told = errors(server, build["id"])
    assert "the command had not begun; Slurm's job" in told and ": PENDING (" in told


def test_what_a_killed_agent_has_left_in_slurm_ends_with_its_next_build(
    server: ServerProcess, slurm: Slurm
) -> None:
    number = begun(server, "while sleep 0.1; do :; done")
    left = slurm("squeue", "--noheader", "--format=%i")
    place = server.place
    assert isinstance(place, Place)
    (agent,) = [each for each in place.processes if "slurm" in str(each.sections)]
    agent.kill()
    agent.start()
    wait_for(lambda: server.output(number).startswith(b"begun\n"), 30, "its next attempt")
    ask = ("squeue", "--noheader", "--states=all", f"--jobs={left}", "--format=%T")
    wait_for(lambda: slurm(*ask) == "CANCELLED", 20, "the job ends")
    server.post(f"/build/{number}/cancel")
    server.wait_final(number, within=30)


# Kubernetes: a stand-in of kubectl starts the pod's command here, once somebody is attached.

KUBECTL = """#!PYTHON
import json, os, signal, subprocess, sys, time
folder, words = "FOLDER", sys.argv[1:]
with open(folder + "/said", "a") as said:
    said.write(json.dumps(words) + "\\n")
if words[0] == "get":
    print(open(folder + "/pod").read())
elif words[0] == "delete" and words[1] == "pod" and words[2].startswith("minici-"):
    if "--grace-period=5" in words and os.path.exists(folder + "/pid"):
        os.kill(int(open(folder + "/pid").read()), signal.SIGTERM)
elif words[0] == "run":
    if os.path.exists(folder + "/pull-fails"):
        sys.exit("error: timed out waiting for the condition")
    split = words.index("--")
    options, command = words[1:split], words[split + 1:]
    env = dict(each[6:].split("=", 1) for each in options if each.startswith("--env="))
    given = [each[12:] for each in options if each.startswith("--overrides=")]
    spec = json.loads(given[0])["spec"]
    env["PATH"] = os.environ["PATH"]
    if os.path.exists(folder + "/pid"):
        os.unlink(folder + "/pid")
    while os.path.exists(folder + "/no-room"):
        time.sleep(0.05)
    pod = subprocess.Popen(command, env=env, cwd=spec["containers"][0]["workingDir"])
    with open(folder + "/pid", "w") as file:
        file.write(str(pod.pid))
    while pod.poll() is None:
        if os.path.exists(folder + "/evicted"):
            pod.kill()
            pod.wait()
            sys.exit("pod left in phase Failed")
        time.sleep(0.05)
    sys.exit(pod.returncode if pod.returncode >= 0 else 128 - pod.returncode)
"""


class Pods:
    """A server whose one agent has the stand-in run its commands."""

    def __init__(self, place: Place) -> None:
        self.folder = place.folder / "kubernetes"
        self.folder.mkdir()
        program = self.folder / "kubectl"
        program.write_text(
            KUBECTL.replace("PYTHON", sys.executable).replace("FOLDER", str(self.folder))
        )
        program.chmod(0o755)
        self.server = two_projects(place)
        env = {"PATH": f"{self.folder}:{os.environ['PATH']}", "MINE": "hidden"}
        place.agent(self.server, env, shell=f"{SHELLS / 'kubernetes'} image:1 minici-data")

    def said(self) -> list[list[str]]:
        lines = (self.folder / "said").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def set(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def close(self) -> None:
        for name in ("evicted", "pull-fails", "no-room"):
            (self.folder / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def all_pods(place: Place) -> Pods:
    return Pods(place)


@pytest.fixture
def pods(all_pods: Pods) -> Iterator[Pods]:
    yield all_pods
    all_pods.close()


def test_a_pod_is_a_build_like_others(pods: Pods) -> None:
    look = "echo $CI ${MINE-none}; cat file.txt; pwd; wc -c; echo no >&2; printf last"
    build = ended(pods.server, look)
    assert build["status"] == "success", errors(pods.server, build["id"])
    told, text, here, stdin, last = pods.server.output(build["id"], "stdout").decode().split("\n")
    assert (told, text, stdin, last) == ("true none", "three", "0", "last")
    assert errors(pods.server, build["id"]) == "no\n"
    run = next(words for words in pods.said() if words[0] == "run")
    assert {"--image=image:1", "--restart=Never", "--stdin"} <= set(run)
    (given,) = [json.loads(word[12:]) for word in run if word.startswith("--overrides=")]
    (container,) = given["spec"]["containers"]
    assert container["name"] == run[1] and container["workingDir"] == here
    assert here.startswith(container["volumeMounts"][0]["mountPath"] + "/")
    assert given["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "minici-data"}
    assert pods.said()[-1][:3] == ["delete", "pod", run[1]]
    failed = ended(pods.server, "echo 'a  \"b'\nexit 7")
    assert (failed["status"], failed["exit_status"]) == ("failure", 7)
    assert pods.server.output(failed["id"], "stdout") == b'a  "b\n'


def test_a_pod_goes_with_its_cancelled_build(pods: Pods) -> None:
    number = begun(pods.server, "trap 'echo cleaned; exit 0' TERM; sleep 999 & wait")
    assert pods.server.post(f"/build/{number}/cancel").status == 303
    assert pods.server.wait_final(number, within=15)["status"] == "cancelled"
    run = [words for words in pods.said() if words[0] == "run"][-1]
    assert ["delete", "pod", run[1], "--grace-period=5", "--timeout=8s"] in pods.said()


def test_a_build_whose_pod_was_evicted_says_so(pods: Pods) -> None:
    pods.set("pod", "Failed Evicted ")
    number = begun(pods.server, "exec sleep 999")
    pods.set("evicted", "")
    build = pods.server.wait_final(number, within=20)
    assert (build["status"], build["exit_status"]) == ("failure", ENGINE_FAILED)
    assert "pod: Failed Evicted" in errors(pods.server, number)


def test_a_build_whose_image_does_not_come_says_so(pods: Pods) -> None:
    pods.set("pod", "Pending  ImagePullBackOff")
    pods.set("pull-fails", "")
    build = ended(pods.server, "echo ran")
    assert (build["status"], build["exit_status"]) == ("failure", ENGINE_FAILED)
    assert "pod: Pending  ImagePullBackOff" in errors(pods.server, build["id"])
    assert pods.said()[-1][0] == "delete"


def test_a_pod_that_was_pending_runs_once_there_is_room(pods: Pods) -> None:
    pods.set("no-room", "")
    before = len(pods.said())
    number = pods.server.start_build(command="echo ran")
    wait_for(lambda: [w for w in pods.said()[before:] if w[0] == "run"], what="it is pending")
    assert pods.server.build(number)["status"] == "running"
    pods.close()
    assert pods.server.wait_final(number)["status"] == "success", errors(pods.server, number)
    assert pods.server.output(number, "stdout") == b"ran\n"


def test_a_pod_that_is_pending_at_build_timeout_is_deleted(pods: Pods) -> None:
    pods.set("pod", "Pending  ContainerCreating")
    pods.set("no-room", "")
    build = ended_short(pods.server)
    assert build["status"] == "failure"
    assert build["reason"] == "ran out of time after 2 s (build_timeout)"
    assert pods.server.output(build["id"], "stdout") == b""
    assert "had not begun; pod: Pending  ContainerCreating" in errors(pods.server, build["id"])
    run = [words for words in pods.said() if words[0] == "run"][-1]
    assert ["delete", "pod", run[1], "--grace-period=5", "--timeout=8s"] in pods.said()
