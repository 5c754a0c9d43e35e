"""Hooks, by real programs: rule 18 of the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for

BRANCH = "refs/heads/main"


def program(place: Place, text: str, name: str = "hook") -> Path:
    path = place.folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def run(server: ServerProcess, agent: FakeAgent, status: int = 0, **params: str) -> int:
    """A build from its start to its end."""
    handed = len(agent.builds)
    reply = server.post("/api/builds", {"commit": "HEAD", "command": "true", **params})
    build = agent.wait_build(handed + 1)
    assert agent.result(build, status, revision="f" * 40).status == 200
    return int(reply.json()["id"])


def told_of(server: ServerProcess) -> None:
    wait_for(lambda: not list((server.data / "hooks").glob("*.json")), 30, "all is told")


def test_rule_18_what_a_hook_finds_in_its_environment(place: Place) -> None:
    hook = program(place, 'cat >/dev/null; env | grep ^MINICI_ | sort | tr "\\n" " " >>"$0.log"')
    hook.write_text(hook.read_text() + 'echo >>"$0.log"\n')
    server = place.server(hook=hook, name="roof")
    agent = place.keep(FakeAgent(server))
    run(server, agent, ref=BRANCH)
    told_of(server)
    last: dict[str, Any] = dict(
        each.split("=", 1) for each in lines(Path(f"{hook}.log"))[-1].split(" ") if each
    )
    assert last == {
        "MINICI_BUILD_ID": "1",
        "MINICI_BUILD_URL": f"http://{server.address}/build/1",
        "MINICI_PREVIOUS_STATUS": "",
        "MINICI_PROJECT": "roof",
        "MINICI_REF": BRANCH,
        "MINICI_REVISION": "f" * 40,
        "MINICI_STATUS": "success",
    }


def test_rule_18_the_previous_status_is_that_of_the_same_project_and_ref(place: Place) -> None:
    hook = program(
        place, 'echo "$MINICI_BUILD_ID $MINICI_STATUS $MINICI_PREVIOUS_STATUS" >>"$0.log"'
    )
    server = place.configure_server(hook=hook, name="roof")
    server.sections["project wall"] = {"command": "make"}
    server.start()
    agent = place.keep(FakeAgent(server))
    run(server, agent, 1, ref=BRANCH)
    run(server, agent, 0, ref="refs/heads/other")
    run(server, agent, 0, ref=BRANCH, project="wall")
    run(server, agent, 0)
    run(server, agent, 0, ref=BRANCH)
    told_of(server)
    ends = [each.split(" ") for each in lines(Path(f"{hook}.log"))]
    previous = {int(number): before for number, status, before in ends if status != "running"}
    assert previous == {1: "", 2: "", 3: "", 4: "", 5: "failure"}


def test_rule_18_the_hooks_of_a_build_run_one_after_the_other(place: Place) -> None:
    hook = program(
        place, 'echo "begun $MINICI_STATUS" >>"$0.log"; sleep 0.4; echo ended >>"$0.log"'
    )
    server = place.server(hook=hook)
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    wait_for(lambda: "begun running" in lines(Path(f"{hook}.log")), 10, "the second one")
    agent.result(build)
    told_of(server)
    found = lines(Path(f"{hook}.log"))
    assert found[1::2] == ["ended"] * (len(found) // 2), "each ends before the next begins"
    assert found[-2] == "begun success"


def test_rule_18_a_hook_that_hangs_holds_up_no_other_project(place: Place) -> None:
    hangs, notes = program(place, "sleep 50", "hangs"), program(place, 'echo >>"$0.log"', "notes")
    server = place.configure_server(hook=hangs, name="roof")
    server.sections["project wall"] = {"command": "make", "hook": notes}
    server.start()
    agent = place.keep(FakeAgent(server))
    for _ in range(6):
        run(server, agent)
    number = run(server, agent, project="wall")
    wait_for(lambda: not (server.data / f"hooks/{number}.json").exists(), 20, "its last hook")
    assert lines(Path(f"{notes}.log")) and server.get("/").status == 200
    server.stop()
