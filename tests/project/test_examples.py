"""What stands in examples/ works: the configuration, the units, and the agent in Node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from minici.config import AGENT_KEYS, SERVER_KEYS, Key, read_agent, read_server
from minici.web.passwords import hash_password
from tests.support.fakes import FakeServer
from tests.support.harness import ROOT, Place, ServerProcess, environment, wait_for

EXAMPLES = ROOT / "examples"
CONFIG = EXAMPLES / "config.ini"
SETTING = re.compile(r"(#?)(\w+) = (.+)")

# A file may stand for what is no default but an example.
EXAMPLE_FILES = ("certificate", "private_key", "authority", "secret_file")


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
    text = re.sub(r"(?m)^secret = .*", "", text)
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


@pytest.mark.parametrize("unit", sorted(EXAMPLES.glob("systemd/*")), ids=lambda path: path.name)
def test_the_units_start_what_there_is(unit: Path) -> None:
    module = re.findall(r"ExecStart=\S+ -m (\S+) ", unit.read_text(encoding="utf-8"))
    assert module == [unit.stem.replace("-", ".")]


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
        build = built(server, commit, "git rev-parse HEAD; ls left; touch left; true", "success")
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
    build = built(server, "HEAD", "env | grep -c SECRET; true", "success")
    assert server.output(build["id"], "stdout") == b"0\n"
