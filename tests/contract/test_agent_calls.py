"""Section 3 of the contract: the agent, as a server sees it that is a script."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlencode

import pytest

from tests.support.fakes import FakeServer
from tests.support.harness import AgentProcess, Place, commands_left, holds_for, wait_for
from tests.support.http_client import Reply


@pytest.fixture
def server(place: Place) -> FakeServer:
    return place.keep(FakeServer())


@pytest.fixture
def agent(place: Place, server: FakeServer) -> AgentProcess:
    return place.agent(server)


def hand(agent: AgentProcess, number: int = 1, command: str = "true", **more: Any) -> Reply:
    """Call /build of the agent."""
    params = {
        "id": number,
        "repository": agent.place.repository.path,
        "commit": "HEAD",
        "command": command,
        "attempt": 1,
        **more,
    }
    return agent.post("/build", {k: v for k, v in params.items() if v is not None})


def waiting(gate: Path) -> str:
    """A command that runs until the gate is there."""
    return f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"


def running(agent: AgentProcess) -> list[tuple[int, int]]:
    return [(each["id"], each["attempt"]) for each in agent.ping()["running"]]


# Registering.


def test_an_agent_registers_and_repeats_it(server: FakeServer, agent: AgentProcess) -> None:
    first = server.wait_agent()
    assert first.method == "POST"
    assert first.headers["content-type"] == "application/x-www-form-urlencoded"
    assert first.params["host"] == "127.0.0.1"
    assert int(first.params["port"]) == agent.port
    assert int(first.params["slots"]) == 1
    assert first.params["name"].endswith(f":{agent.port}")
    assert first.params["running"] == ""
    again = server.wait_call("/notify_agent", 2, within=15)
    assert again.at - first.at > 0.2


def test_what_runs_is_named_when_registering(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    gate = place.folder / "gate"
    hand(agent, 7, waiting(gate))
    count = len(server.made("/notify_agent"))
    server.wait_call("/notify_agent", count + 2, within=30)
    assert server.made("/notify_agent")[-1].params["running"] == "7"
    gate.touch()
    server.wait_result(7)


# /build


def test_a_build_is_accepted_at_once_and_done(server: FakeServer, agent: AgentProcess) -> None:
    begun = time.monotonic()
    assert hand(agent, 1, "sleep 1; echo out; echo err >&2").status == 202
    assert time.monotonic() - begun < 0.9
    result = server.wait_result(1)
    assert (result["id"], result["attempt"], result["status"]) == ("1", "1", "0")
    assert server.stream(1, "stdout") == b"out\n"
    assert server.stream(1, "stderr") == b"err\n"


def test_a_result_says_what_was_built(server: FakeServer, agent: AgentProcess) -> None:
    hand(agent, 1, commit="main")
    result = server.wait_result(1)
    assert result["revision"] == agent.place.repository.third
    assert result["subject"] == "Third: ünï"
    assert "Ада Лавлейс" in result["author"] and "@" in result["author_email"]


def test_a_build_it_already_has_is_202_and_runs_once(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    gate, count = place.folder / "gate", place.folder / "count"
    command = f"echo ran >> {count}; {waiting(gate)}"
    assert hand(agent, 1, command).status == 202
    assert hand(agent, 1, command).status == 202
    wait_for(count.exists, what="the command begun")
    assert hand(agent, 1, command).status == 202
    gate.touch()
    server.wait_result(1)
    holds_for(lambda: count.read_text() == "ran\n", 0.5, "it ran once")


def test_a_build_that_waits_to_be_delivered_is_202_and_runs_once(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    count = place.folder / "count"
    server.script_always("/notify_build_result", (503, {"error": "later"}))
    hand(agent, 1, f"echo ran >> {count}")
    wait_for(lambda: agent.ping()["undelivered"] == [{"id": 1, "attempt": 1}], what="undelivered")
    assert hand(agent, 1, f"echo ran >> {count}").status == 202
    server.script_always("/notify_build_result", None)
    server.wait_result(1)
    holds_for(lambda: count.read_text() == "ran\n", 0.5, "it ran once")


def test_503_when_every_slot_is_taken(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    gate = place.folder / "gate"
    assert hand(agent, 1, waiting(gate)).status == 202
    reply = hand(agent, 2)
    assert reply.status == 503
    reply.error()
    gate.touch()
    server.wait_result(1)
    wait_for(lambda: hand(agent, 2).status == 202, what="the slot free again")
    server.wait_result(2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"id": "x"},
        {"id": "0"},
        {"id": "-1"},
        {"id": "007"},
        {"id": "1_0"},
        {"id": "١"},
        {"id": "../1"},
        {"attempt": "0"},
        {"attempt": "x"},
        {"repository": None},
        {"repository": ""},
        {"repository": "-oops"},
        {"repository": "ext::sh -c id"},
        {"repository": "fd::3"},
        {"commit": None},
        {"commit": ""},
        {"commit": "-x"},
        {"commit": "a b"},
        {"commit": "a\nb"},
        {"commit": "a\0b"},
        {"command": None},
        {"command": ""},
        {"command": "a\0b"},
        {"timeout": "x"},
        {"timeout": "-1"},
        {"timeout": "nan"},
        {"output_limit": "x"},
        {"output_limit": "-1"},
    ],
)
def test_bad_parameters_are_400(
    server: FakeServer, agent: AgentProcess, wrong: dict[str, Optional[str]]
) -> None:
    good = {"id": 1, "repository": agent.place.repository.path, "commit": "HEAD", "command": "true"}
    params = {key: value for key, value in {**good, **wrong}.items() if value is not None}
    reply = agent.post("/build", params)
    assert reply.status == 400, reply
    reply.error()
    assert running(agent) == []


def test_attempt_timeout_and_output_limit_may_be_left_out(
    server: FakeServer, agent: AgentProcess
) -> None:
    assert hand(agent, 1, "echo hi", attempt=None).status == 202
    assert server.wait_result(1)["status"] == "0"


def test_timeout_ends_the_command(server: FakeServer, agent: AgentProcess) -> None:
    hand(agent, 1, "echo before; sleep 60", timeout="0.5")
    result = server.wait_result(1, within=20)
    assert int(result["status"]) != 0 and result["reason"]
    assert server.stream(1, "stdout") == b"before\n"


@pytest.mark.parametrize("timeout", ["2.5", "36000000.000", "3600000000000000.000"])
def test_timeout_may_be_weeks_and_has_decimals(
    server: FakeServer, agent: AgentProcess, timeout: str
) -> None:
    """In JSON it is a number."""
    order = {"repository": str(agent.place.repository.path), "commit": "main", "command": "true"}
    body = json.dumps({"id": 1, **order, "timeout": float(timeout)}).encode()
    headers = {"Content-Type": "application/json"}
    assert agent.request("POST", "/build", body, headers).status == 202
    assert server.wait_result(1)["status"] == "0"
    assert hand(agent, 2, "true", timeout=timeout).status == 202
    assert server.wait_result(2)["status"] == "0"


def test_output_limit_is_kept_by_the_agent(server: FakeServer, agent: AgentProcess) -> None:
    server.script_always("/notify_build_output", (404, {"error": "unknown"}))
    command = "i=1000; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done"
    hand(agent, 1, command, output_limit=1000)
    server.wait_result(1)
    lines = server.stream(1, "stdout").decode().split("\n")
    assert lines[:100] == [str(n) for n in range(1000, 1100)]
    assert lines[100] == "[minici: 4000 bytes dropped]"
    assert lines[101:] == [str(n) for n in range(1900, 2000)] + [""]


# /ping


def test_ping_names_what_it_has(place: Place, server: FakeServer, agent: AgentProcess) -> None:
    idle = agent.ping()
    assert set(idle) >= {"name", "slots", "running", "undelivered"}
    assert idle["slots"] == 1 and idle["running"] == [] and idle["undelivered"] == []
    gate = place.folder / "gate"
    server.script_always("/notify_build_result", (503, {"error": "later"}))
    hand(agent, 3, waiting(gate), attempt=2)
    assert agent.ping()["running"] == [{"id": 3, "attempt": 2}]
    gate.touch()
    wait_for(lambda: agent.ping()["undelivered"] == [{"id": 3, "attempt": 2}], what="undelivered")
    assert agent.ping()["running"] == []
    server.script_always("/notify_build_result", None)
    wait_for(lambda: agent.ping()["undelivered"] == [], what="delivered")


def test_a_build_is_never_in_neither_list(server: FakeServer, agent: AgentProcess) -> None:
    """From 202 on until the server has the result: else the server would think it forgotten."""
    hand(agent, 1, "sleep 0.3; echo x")

    def named_or_delivered() -> bool:
        lists = agent.ping()
        named = lists["running"] + lists["undelivered"]
        return named == [{"id": 1, "attempt": 1}] or bool(server.results)

    holds_for(named_or_delivered, 2, "it is running, undelivered or delivered")
    server.wait_result(1)


# /cancel


def test_cancel_ends_the_whole_group(place: Place, server: FakeServer, agent: AgentProcess) -> None:
    hand(agent, 1, "sleep 991 & sleep 992 & echo begun; wait")
    wait_for(lambda: server.stream(1, "stdout") == b"begun\n", what="the command begun")
    assert agent.post("/cancel", {"id": 1, "attempt": 1}).status == 200
    result = server.wait_result(1, within=10)
    assert int(result["status"]) != 0
    assert server.stream(1, "stdout") == b"begun\n"
    wait_for(lambda: not commands_left(place.marker), 10, "every process ended")


def test_cancel_asks_first_and_kills_after_ten_seconds(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    asked = place.folder / "asked"
    hand(agent, 1, f"trap 'echo asked >> {asked}' TERM; echo on; while :; do sleep 0.1 || :; done")
    wait_for(lambda: server.stream(1, "stdout") == b"on\n", what="the command begun")
    begun = time.monotonic()
    assert agent.post("/cancel", {"id": 1}).status == 200
    assert time.monotonic() - begun < 5, "the answer does not wait for the end"
    server.wait_result(1, within=20)
    assert 9 < time.monotonic() - begun < 14
    assert asked.exists()


def test_a_command_may_tidy_up_when_cancelled(server: FakeServer, agent: AgentProcess) -> None:
    hand(agent, 1, "trap 'echo tidy; exit 3' TERM; echo on; while :; do sleep 0.05; done")
    wait_for(lambda: server.stream(1, "stdout") == b"on\n", what="the command begun")
    agent.post("/cancel", {"id": 1})
    server.wait_result(1, within=9)
    assert server.stream(1, "stdout") == b"on\ntidy\n"


def test_cancel_of_what_it_does_not_have_is_404(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    gate = place.folder / "gate"
    hand(agent, 1, waiting(gate), attempt=2)
    assert agent.post("/cancel", {"id": 2}).status == 404
    assert agent.post("/cancel", {"id": 1, "attempt": 1}).status == 404
    agent.post("/cancel", {"id": 2}).error()
    assert running(agent) == [(1, 2)]
    gate.touch()
    assert server.wait_result(1)["status"] == "0"
    wait_for(lambda: not agent.ping()["undelivered"], what="delivered")
    assert agent.post("/cancel", {"id": 1}).status == 404


@pytest.mark.parametrize("params", [{}, {"id": "x"}, {"id": "1", "attempt": "x"}])
def test_a_bad_cancel_is_400(agent: AgentProcess, params: dict[str, str]) -> None:
    assert agent.post("/cancel", params).status == 400


# Output while it runs.


def test_output_goes_as_it_comes(place: Place, server: FakeServer, agent: AgentProcess) -> None:
    gate = place.folder / "gate"
    hand(
        agent,
        1,
        f"printf one; echo err >&2; while [ ! -e {gate} ]; do sleep 0.05; done; printf two",
    )
    wait_for(lambda: server.stream(1, "stdout") == b"one", what="the first output")
    wait_for(lambda: server.stream(1, "stderr") == b"err\n", what="the first output")
    gate.touch()
    result = server.wait_result(1)
    assert server.stream(1, "stdout") == b"onetwo"
    assert int(result.get("stdout_offset", 0)) + len(result["stdout"]) == 6
    call = server.made("/notify_build_output")[0]
    assert set(call.query) >= {"id", "attempt", "stream", "offset"}


def test_409_is_answered_by_going_on_from_there(server: FakeServer, agent: AgentProcess) -> None:
    server.script("/notify_build_output", (409, {"next": 0}), (409, {"next": 0}))
    hand(agent, 1, "printf 12345; sleep 0.5; printf 6789")
    server.wait_result(1)
    assert server.stream(1, "stdout") == b"123456789"


def test_404_falls_back_to_sending_everything(server: FakeServer, agent: AgentProcess) -> None:
    server.script_always("/notify_build_output", (404, {"error": "not found"}))
    hand(agent, 1, "echo one; sleep 0.3; echo two; echo err >&2")
    result = server.wait_result(1)
    assert int(result.get("stdout_offset", 0)) == 0
    assert result["stdout"] == "one\ntwo\n" and result["stderr"] == "err\n"


def test_410_stops_a_running_command(place: Place, server: FakeServer, agent: AgentProcess) -> None:
    server.script_always("/notify_build_output", (410, {"error": "moved on"}))
    hand(agent, 1, "echo hi; sleep 993")
    wait_for(lambda: not agent.ping()["running"], 20, "stopped")
    assert not commands_left(place.marker)


def test_410_does_not_keep_a_result_that_has_ended(server: FakeServer, agent: AgentProcess) -> None:
    def slow(call: Any) -> Any:
        time.sleep(1)
        return 410, {"error": "moved on"}

    server.script_always("/notify_build_output", slow)
    hand(agent, 1, "echo hi")
    assert server.wait_result(1)["status"] == "0"
    assert server.results[0]["stdout"] == "hi\n" or server.stream(1, "stdout") == b"hi\n"


def test_409_to_a_result_is_answered_by_sending_from_there(
    server: FakeServer, agent: AgentProcess
) -> None:
    """The server has lost what it had acknowledged: it gets all of it again."""
    hand(agent, 1, "printf 12345; sleep 1; printf 6789")
    wait_for(lambda: server.stream(1, "stdout") == b"12345", what="the first output")

    def forgetful(call: Any) -> Any:
        server.streams.clear()
        server.script_always("/notify_build_result", None)
        return 409, {"stdout": 0, "stderr": 0, "error": "gone"}

    server.script_always("/notify_build_output", (503, {"error": "later"}))
    server.script_always("/notify_build_result", forgetful)
    server.wait_result(1)
    assert server.stream(1, "stdout") == b"123456789"


# Environment of a command.


def environment_of(server: FakeServer, number: int, attempt: int) -> dict[str, str]:
    server.wait_result(number)
    text = server.stream(number, "stdout", attempt).decode("utf-8", "surrogateescape")
    return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)


def test_what_a_command_finds_in_its_environment(place: Place, server: FakeServer) -> None:
    given = {
        "PLAIN": "kept ü",
        "MINICI_ODD": "x",
        "DEPLOY_SECRET": "x",
        "GITHUB_TOKEN": "x",
        "DB_PASSWORD": "x",
        "SOME_API_KEY": "x",
        "AWS_ACCESS_KEY": "x",
        "AWS_SECRET_KEY": "x",
        "SSH_PRIVATE_KEY": "x",
        "KEPT_TOKEN": "given",
        "NPM_FIRST_TOKEN": "given",
        "TOKEN_COUNT": "x",
        "TOKEN": "x",
        "DB_PASS": "x",
        "PGPASSWORD": "x",
        "GITHUB_PAT": "x",
        "NPM_AUTH": "x",
        "NOT_SECRET_AT_ALL": "x",
        "MANPATH": "not secret",
    }
    agent = place.agent(server, env=given, **{"pass": "KEPT_TOKEN NPM_F*"})
    url = "http://ci.example/build/5"
    hand(agent, 5, "env -0", commit="v1", attempt=2, url=url)
    env = environment_of(server, 5, attempt=2)
    hidden = [name for name in given if given[name] == "x"]
    assert not set(hidden) & set(env)
    for name in ("PLAIN", "KEPT_TOKEN", "NPM_FIRST_TOKEN", "MANPATH"):
        assert env[name] == given[name]
    second, path = place.repository.second, str(place.repository.path)
    expected = {
        "CI": "true",
        "MINICI": "true",
        "MINICI_BUILD_ID": "5",
        "MINICI_ATTEMPT": "2",
        "MINICI_COMMIT": "v1",
        "MINICI_REVISION": second,
        "MINICI_REPOSITORY": path,
        "MINICI_BUILD_URL": url,
        "BUILD_ID": "5",
        "BUILD_NUMBER": "5",
        "BUILD_URL": url,
        "GIT_COMMIT": second,
        "GIT_TERMINAL_PROMPT": "0",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert env["PATH"] == os.environ["PATH"]


def test_stdin_is_empty_and_the_folder_is_the_checkout(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    hand(agent, 1, 'cat; pwd; echo "$WORKSPACE"; ls -A; cat file.txt; ./script.sh')
    server.wait_result(1)
    lines = server.stream(1, "stdout").decode().splitlines()
    assert lines[0] == lines[1]
    assert sorted(lines[2:6]) == [".git", ".gitignore", "file.txt", "script.sh"]
    assert lines[6:] == ["three", "from the script"]


def test_no_file_of_an_earlier_build_is_there(server: FakeServer, agent: AgentProcess) -> None:
    hand(agent, 1, "touch left a.ignored; mkdir -p d/e; echo x > d/e/f; echo changed > file.txt")
    server.wait_result(1)
    wait_for(
        lambda: (
            hand(agent, 2, "ls -A; cat file.txt; git status --porcelain --ignored").status == 202
        )
    )
    server.wait_result(2)
    lines = server.stream(2, "stdout").decode().splitlines()
    assert lines == [".git", ".gitignore", "file.txt", "script.sh", "three"]


@pytest.mark.parametrize("commit", ["HEAD", "main", "topic", "v1", "light", "full", "short"])
def test_what_a_commit_may_be(server: FakeServer, agent: AgentProcess, commit: str) -> None:
    own = agent.place.repository
    expected = {
        "topic": own.topic,
        "v1": own.second,
        "light": own.first,
        "full": own.first,
        "short": own.first,
    }
    typed = {"full": own.first, "short": own.first[:9]}.get(commit, commit)
    hand(agent, 1, "git rev-parse HEAD", commit=typed)
    assert server.wait_result(1)["revision"] == expected.get(commit, own.third)
    assert server.stream(1, "stdout").decode().strip() == expected.get(commit, own.third)


@pytest.mark.parametrize("commit", ["nowhere", "f" * 40, "0123456"])
def test_an_unknown_commit_is_a_failure_that_says_so(
    server: FakeServer, agent: AgentProcess, commit: str
) -> None:
    hand(agent, 1, "echo ran", commit=commit)
    result = server.wait_result(1)
    assert int(result["status"]) != 0 and commit in result["reason"]
    assert b"ran\n" not in server.stream(1, "stdout")


def test_an_unreachable_repository_is_a_failure_that_says_so(
    server: FakeServer, agent: AgentProcess
) -> None:
    hand(agent, 1, "echo ran", repository="/nowhere/at/all")
    result = server.wait_result(1)
    assert int(result["status"]) != 0 and "/nowhere/at/all" in result["reason"]
    assert running(agent) == []


def test_query_parameters_do_too(server: FakeServer, agent: AgentProcess) -> None:
    params = {
        "id": 1,
        "repository": agent.place.repository.path,
        "commit": "HEAD",
        "command": "true",
    }
    assert agent.request("POST", "/build?" + urlencode(params)).status == 202
    server.wait_result(1)
