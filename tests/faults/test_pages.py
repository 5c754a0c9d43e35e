"""Faults of the pages: output that was not counted, attempts without a word why, old files."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import ROOT, Place, ServerProcess, wait_for

ENGLISH = {"Accept": "text/html", "Accept-Language": "en"}
RUSSIAN = {"Accept": "text/html", "Accept-Language": "ru"}


def page(server: ServerProcess, path: str, language: dict[str, str] = ENGLISH) -> str:
    reply = server.get(path, language)
    assert reply.status == 200, path
    return reply.body.decode()


def text_of(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page).replace("\xa0", " ").split())


@pytest.mark.parametrize("end", ["lost", "cancelled"])
def test_fault_69_the_output_of_a_build_without_a_result_is_counted(place: Place, end: str) -> None:
    server = place.server(max_attempts=1)
    agent = place.keep(FakeAgent(server))
    server.start_build(command="two lines")
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"one\ntwo\n")
    agent.output(build, "stderr", 0, b"err")
    if end == "cancelled":
        server.post("/build/1/cancel")
    agent.close()
    record = server.wait_status(1, end)
    assert (record["stdout_bytes"], record["stderr_bytes"], record["dropped_bytes"]) == (8, 3, 0)
    listed = server.api("/builds")["builds"][0]
    assert (listed["stdout_bytes"], listed["stderr_bytes"]) == (8, 3)
    source = page(server, "/build/1")
    assert '<span class="text">two</span>' in source
    assert "There is no output" not in source
    shown = text_of(source)
    assert "11 B" in shown and "stdout 8 B" in shown and "stderr 3 B" in shown
    assert "11 B" in text_of(page(server, "/build/1?log=no"))
    server.stop()
    server.start()
    assert server.build(1)["stdout_bytes"] == 8 and "stdout 8 B" in text_of(
        page(server, "/build/1")
    )


def test_fault_70_attempts_that_do_not_count_are_told_from_lost_ones(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    for attempt in (1, 2):
        agent.returned(agent.wait_build(attempt))
    agent.wait_build(3)
    server.wait_status(1, "running")
    assert (
        "Attempt 3: 2 earlier attempts were returned by agents that stopped or could not work; "
        "this does not count." in text_of(page(server, "/build/1"))
    )
    assert "это в счёт не идёт" in text_of(page(server, "/build/1", RUSSIAN))
    agent.forget(agent.builds[2])  # it is lost now
    agent.wait_build(4)
    server.wait_status(1, "running")
    shown = text_of(page(server, "/build/1"))
    assert "Attempt 4: 2 earlier" in shown and "1 lost its agent and counts." in shown


def test_fault_61_pages_are_opened_after_the_package_was_removed(place: Place) -> None:
    copy = place.folder / "copy"
    shutil.copytree(ROOT / "minici", copy / "minici")
    server = place.configure_server(env={"PYTHONPATH": str(copy)}, repository="/nowhere.git")
    server.start()
    shutil.rmtree(copy)
    server.start_build()
    for path in ("/", "/build/1", "/agents", "/feed.atom", "/badge.svg", "/cc.xml"):
        for language in (ENGLISH, RUSSIAN):
            page(server, path, language)
    assert server.get("/build/7", ENGLISH).status == 404
    for name in set(re.findall(r"/static/[a-z.-]+", page(server, "/build/1"))):
        assert server.get(name).status == 200, name


def test_agents_of_one_name_are_shown_with_their_addresses(place: Place) -> None:
    server = place.server()
    agents = [place.keep(FakeAgent(server, "twin")) for _ in range(2)]
    server.start_build()
    wait_for(lambda: any(agent.builds for agent in agents))
    (taken,) = [agent for agent in agents if agent.builds]
    server.wait_status(1, "running")
    name = f"twin (127.0.0.1:{taken.port})"
    assert name in text_of(page(server, "/build/1")) and name in text_of(page(server, "/"))


def test_fault_62_damage_of_an_output_is_said_on_its_page(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    agent.result(agent.wait_build(), 0, "one\ntwo\n")
    server.wait_final(1)
    text = "The files of this output are damaged"
    assert text not in page(server, "/build/1")
    timeline = server.data / "builds" / "1" / "1" / "timeline"
    timeline.write_bytes(timeline.read_bytes() + b"\xff" * 24)
    assert text in page(server, "/build/1")
    assert "Файлы этого вывода повреждены" in page(server, "/build/1", RUSSIAN)
    assert '<span class="text">two</span>' in page(server, "/build/1")


def test_rule_21_trouble_of_an_agent_is_shown_with_the_agent_and_the_build(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    state = {"name": "fake", "slots": 1, "running": [], "undelivered": []}
    disk = {"mirrors": 3 << 20, "workspaces": 1024}
    agent.script_always("/ping", (200, {**state, "trouble": "the disk is full", "disk": disk}))
    wait_for(lambda: "the disk is full" in page(server, "/agents"), 20)
    assert "mirrors 3.0 MB, workspaces 1.0 KB" in text_of(page(server, "/agents"))
    server.start_build()
    shown = text_of(page(server, "/build/1"))
    assert "No agent takes builds now: fake is in trouble: the disk is full." in shown
    assert "0 of 1 slots free" in text_of(page(server, "/"))
    agent.script_always("/ping", None)
    server.wait_status(1, "running")
    assert "the disk is full" not in page(server, "/agents")


def test_the_refusal_of_an_agent_is_said_in_the_readers_language(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    told = {"error": "every slot is taken", "error_key": "slots_taken", "error_values": {}}
    agent.script("/build", (503, told))
    server.start_build()
    agent.wait_build()
    server.wait_status(1, "running")
    assert "HTTP 503: все слоты заняты" in text_of(page(server, "/build/1", RUSSIAN))
    assert "HTTP 503: every slot is taken" in text_of(page(server, "/build/1"))


def test_an_agent_tells_the_key_of_its_refusal(place: Place) -> None:
    server = place.server()
    reply = place.agent(server).post("/cancel", {"id": 7})
    assert reply.status == 404 and reply.json()["error_key"] == "not_on_agent"
