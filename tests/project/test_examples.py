"""What stands in examples/ works: the configuration, the units, and the agent in Node."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from minici.config import AGENT_KEYS, SERVER_KEYS, Key
from minici.config_file import read_agent, read_server
from minici.web.passwords import hash_password
from tests.support.fakes import FakeServer
from tests.support.fresh_machine import FreshMachine
from tests.support.harness import FINAL, ROOT, Place, ServerProcess, environment, wait_for
from tests.support.http_client import encode_form, fetch
from tests.support.repositories import git

EXAMPLES = ROOT / "examples"
CONFIG = EXAMPLES / "config.ini"
SETTING = re.compile(r"(#?)(\w+) = (.+)")

# A file may stand for what is no default but an example.
EXAMPLE_FILES = ("certificate", "private_key", "authority", "secret_file", "webhook_secret_file")


def settings(section: str) -> dict[str, str]:
    """What the example says of each key of a section, whether it is in force there or not."""
    text = CONFIG.read_text(encoding="utf-8")
    body = text.split(f"\n[{section}]\n")[1].split("\n#[")[0].split("\n[")[0]
    found = [match for match in map(SETTING.fullmatch, body.splitlines()) if match]
    names = [match[2] for match in found]
    assert len(names) == len(set(names)), "a key stands there twice"
    return {match[2]: match[3] for match in found}


def test_the_example_configuration_is_right_as_it_is() -> None:
    server, agent = read_server(CONFIG), read_agent(CONFIG)
    assert (server.port, agent.port, agent.server) == (8000, 8001, "http://127.0.0.1:8000")


@pytest.mark.parametrize("section, keys", [("server", SERVER_KEYS), ("agent", AGENT_KEYS)])
def test_the_example_configuration_has_every_key(section: str, keys: Mapping[str, Key]) -> None:
    assert set(settings(section)) == set(keys)


@pytest.mark.parametrize("section, keys", [("server", SERVER_KEYS), ("agent", AGENT_KEYS)])
def test_the_example_configuration_shows_the_defaults(
    section: str, keys: Mapping[str, Key], tmp_path: Path
) -> None:
    shown = settings(section)
    for name, key in keys.items():
        if key.default in (None, "", ()) or key.required:
            continue
        same = key.default if isinstance(key.default, str) else None
        assert shown[name] == same or key.read(shown[name], tmp_path) == key.default, name


def test_every_line_of_the_example_configuration_may_be_put_in_force(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^#(?=\w+ = |\[users\])", "", CONFIG.read_text(encoding="utf-8"))
    text = re.sub(r"(?m)^(webhook_)?secret = .*", "", text)
    text = text.replace("user = nobody", "user = root")
    for key, name in re.findall(rf"(?m)^({'|'.join(EXAMPLE_FILES)}) = (.*)", text):
        pair = ROOT / "tests" / "support" / "tls" / f"{key}.pem"
        (tmp_path / name).write_text(pair.read_text() if pair.exists() else "a-word")
    copy = tmp_path / "config.ini"
    copy.write_text(text, encoding="utf-8")
    assert list(read_server(copy).users) == ["ada"]
    if os.geteuid() == 0:
        assert read_agent(copy).slots == 1


def test_the_example_of_a_hash_has_the_form_of_a_real_one() -> None:
    shown = CONFIG.read_text(encoding="utf-8").rsplit("ada = ", 1)[1].strip()
    assert re.sub("[0-9a-f]", "0", hash_password("x")) == re.sub("[0-9a-f]", "0", shown)


# Services: the steps of docs/getting-started.md, done as root on a machine without minici.

UNITS = sorted(EXAMPLES.glob("systemd/*"))
GETTING_STARTED = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
SERVICES = GETTING_STARTED.partition("\n## 3. Services\n")[2].partition("\n## ")[0]
STEPS = re.findall(r"(?ms)^```\n(.*?)^```", SERVICES)


def test_the_documents_have_the_steps_of_both_units() -> None:
    assert len(STEPS) == len(UNITS) == 2
    for unit in UNITS:
        heads = re.findall(r"(?m)^#     (.+)$", unit.read_text(encoding="utf-8"))
        assert len(heads) == 3
        assert any(set(heads) <= set(steps.splitlines()) for steps in STEPS), unit.name


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_understands_the_units(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    assert program, "the units need systemd-analyze; on Debian: apt-get install systemd"
    text = unit.read_text(encoding="utf-8")
    assert "User=minici" in text and "ExecStart=/usr/bin/python3 " in text
    # The programs and users that the steps put in place are not here.
    text = re.sub("(?m)^User=.*", "User=root", text).replace("/usr/bin/python3", "/bin/true")
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run([program, "verify", str(copy)], capture_output=True, text=True)
    about_it = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, about_it) == (0, []), done.stderr


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/proc/self/ns/mnt"), reason="needs root and Linux"
)
def test_fault_67_the_steps_end_with_two_services_that_run(place: Place) -> None:
    machine = FreshMachine(place.folder, place.marker)
    clone = place.folder / "clone"
    for part in ("minici", "examples"):
        shutil.copytree(ROOT / part, clone / part, ignore=shutil.ignore_patterns("__pycache__"))
    # Both on one host, by a root whose new files nobody else can read.
    printed = "".join([machine.call(f"umask 077\n{steps}", clone) for steps in STEPS])
    enabled = machine.enabled.read_text(encoding="utf-8").splitlines()
    assert enabled == ["enable --now minici-server", "enable --now minici-agent"]
    configs = [machine.at(f"/var/lib/{name}/config.ini") for name in ("minici", "minici-agent")]
    for config in configs:
        assert config.stat().st_uid == config.parent.stat().st_uid != 0
        assert config.stat().st_mode & 0o777 == 0o600
    # What differs here: a repository that exists, and free ports.
    project = machine.at("/opt/project.git")
    git(place.folder, "clone", "--quiet", "--bare", place.repository.url, str(project))
    machine.call(f"chown -R {configs[1].stat().st_uid} /opt/project.git", clone)
    for config in configs:
        text = re.sub("(?m)^repository = .*", "repository = /opt/project.git", config.read_text())
        config.write_text(re.sub("(?m)^port = .*", "port = 0", text))
    server = place.keep(machine.start("minici-server"))
    wait_for(server.port, 20, "the server's ready line")
    text = configs[1].read_text()
    configs[1].write_text(re.sub("(?m)^server = .*", f"server = 127.0.0.1:{server.port()}", text))
    agent = place.keep(machine.start("minici-agent"))
    wait_for(agent.port, 20, "the agent's ready line")
    password = re.search(r"sign in as admin with the password (\S+)", printed)
    assert password
    build_as_minici_agent(("127.0.0.1", server.port()), f"admin:{password[1]}")
    assert "WARNING" not in server.log + agent.log
    assert (agent.stop(), server.stop()) == (0, 0)


def build_as_minici_agent(address: tuple[str, int], who: str) -> None:
    """Have a server that asks for a password build its repository's HEAD."""
    headers = {"Authorization": f"Basic {base64.b64encode(who.encode()).decode()}"}
    body, kind = encode_form({"commit": "HEAD", "command": "id -un && test -w ."})
    reply = fetch(address, "POST", "/api/builds", body, {**headers, "Content-Type": kind})
    assert reply.status == 201, reply
    number = reply.json()["id"]

    def status() -> str:
        found = fetch(address, "GET", f"/api/builds/{number}", headers=headers)
        return str(found.json()["status"])

    wait_for(lambda: status() in FINAL, 30, "the build's end")
    output = fetch(address, "GET", f"/build/{number}/output", headers=headers)
    assert (status(), output.text) == ("success", "minici-agent\n")


class NodeAgent:
    """examples/agent.mjs, as a person starts it."""

    def __init__(self, place: Place, server: str, **more: str) -> None:
        node = shutil.which("node")
        assert node, "the example agent needs Node.js; on Debian: apt-get install nodejs"
        self.folder = place.folder / "node-agent"
        self.log = place.folder / "node-agent.err"
        env = environment(place.marker, place.home)
        del env["PYTHONPATH"]
        env.update(SERVER=server, PORT="0", FOLDER=str(self.folder), **more)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [node, str(EXAMPLES / "agent.mjs")], env=env, stdin=subprocess.DEVNULL, stderr=log
            )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(place: Place) -> ServerProcess:
    return place.server()


@pytest.fixture
def node(place: Place, server: ServerProcess) -> NodeAgent:
    agent = place.keep(NodeAgent(place, f"http://{server.address}"))
    server.wait_agents(1)
    return agent


def built(server: ServerProcess, commit: str, command: str, status: str) -> dict[str, Any]:
    build = server.wait_final(server.start_build(commit, command))
    assert build["status"] == status, build
    return build


def test_the_agent_is_short() -> None:
    assert len((EXAMPLES / "agent.mjs").read_text(encoding="utf-8").splitlines()) < 80


def test_the_agent_builds(server: ServerProcess, node: NodeAgent) -> None:
    command = r"cat file.txt; printf '\377\001a+b&c=d\n'; echo no >&2"
    build = built(server, "HEAD", command, "success")
    assert server.output(build["id"], "stdout") == b"three\n\xff\x01a+b&c=d\n"
    assert server.output(build["id"], "stderr") == b"no\n"
    assert build["exit_status"] == 0
    assert build["agent"] == server.agents()[0]["name"]


def test_the_agent_says_how_a_command_ended(server: ServerProcess, node: NodeAgent) -> None:
    assert built(server, "HEAD", "exit 3", "failure")["exit_status"] == 3
    assert built(server, "HEAD", "kill -9 $$", "failure")["exit_status"] == -9


def test_the_agent_checks_out_what_was_asked_for(
    place: Place, server: ServerProcess, node: NodeAgent
) -> None:
    repository = place.repository
    for commit, revision in (
        ("main", repository.third),
        ("topic", repository.topic),
        ("v1", repository.second),
        (repository.first, repository.first),
        (repository.second[:8], repository.second),
    ):
        build = built(server, commit, "git rev-parse HEAD; ls left || touch left", "success")
        assert server.output(build["id"], "stdout").decode().strip() == revision
    build = built(server, "nowhere", "true", "failure")
    assert b"nowhere" in server.output(build["id"], "stderr")


def test_the_agent_leaves_nothing_of_a_build_behind(server: ServerProcess, node: NodeAgent) -> None:
    build = built(server, "HEAD", "sleep 999 & echo ok", "success")
    assert server.output(build["id"], "stdout") == b"ok\n"


def test_the_agent_keeps_a_result_while_the_server_is_away(
    place: Place, server: ServerProcess, node: NodeAgent
) -> None:
    begun, gate = place.folder / "begun", place.folder / "gate"
    wait = f"touch {begun}; while ! [ -e {gate} ]; do sleep 0.05; done"
    number = server.start_build("HEAD", f"{wait}; echo done")
    wait_for(begun.exists, what="the command has begun")
    server.kill()
    gate.touch()
    wait_for(lambda: "ECONNREFUSED" in node.log.read_text(), 10, "a try in vain")
    server.restart()
    assert server.wait_final(number)["status"] == "success"
    assert server.output(number, "stdout") == b"done\n"


def test_the_agent_may_be_started_first_and_share_a_secret(place: Place) -> None:
    nobody = FakeServer()
    nobody.close()
    node = place.keep(NodeAgent(place, f"http://{nobody.address}", SECRET="a-word"))
    wait_for(lambda: "ECONNREFUSED" in node.log.read_text(), 10, "a try in vain")
    server = place.server(port=nobody.address.rpartition(":")[2], secret="a-word")
    server.wait_agents(1)
    build = built(server, "HEAD", "env | grep -c SECRET || true", "success")
    assert server.output(build["id"], "stdout") == b"0\n"
