"""Labels, pausing, and why a build waits: sections 2, 3 and 5 (rules 3 and 6) of the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, holds_for, wait_for

JSON = "application/json"


@pytest.fixture
def server(place: Place) -> ServerProcess:
    return place.server()


def agent_of(place: Place, server: ServerProcess, name: str = "fake", **more: Any) -> FakeAgent:
    agent = place.keep(FakeAgent(server, name, register=False))
    assert agent.register(**more).status == 200
    return agent


def start(server: ServerProcess, **more: Any) -> dict[str, Any]:
    body = json.dumps({"commit": "HEAD", "command": "true", **more}).encode()
    reply = server.request("POST", "/api/builds", body, {"Content-Type": JSON})
    assert reply.status == 201, reply
    build: dict[str, Any] = json.loads(reply.body)
    return build


def agents(server: ServerProcess) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in server.agents()}


# Who may take a build.


def test_rule_03_a_build_goes_to_an_agent_that_has_all_of_its_labels(
    place: Place, server: ServerProcess
) -> None:
    plain = agent_of(place, server, "plain", slots=4)
    linux = agent_of(place, server, "linux", slots=4, labels="linux x86")
    full = agent_of(place, server, "full", slots=4, labels="  gpu linux\tgpu ")
    assert agents(server)["full"]["labels"] == ["gpu", "linux"]
    assert start(server, labels="linux gpu linux")["labels"] == ["linux", "gpu"]
    assert int(full.wait_build()["id"]) == 1
    start(server)
    assert int(plain.wait_build()["id"]) == 2, "an agent without labels goes first"
    start(server, labels=["x86"])
    assert int(linux.wait_build()["id"]) == 3


def test_rule_03_a_build_that_no_agent_may_take_holds_up_none_behind_it(
    place: Place, server: ServerProcess
) -> None:
    start(server, labels="arm64")
    start(server)
    agent = agent_of(place, server, labels="linux")
    assert int(agent.wait_build()["id"]) == 2
    agent.result(agent.builds[0])
    holds_for(lambda: len(agent.builds) == 1, 0.5, "one build")
    agent.register(labels="linux arm64")  # at once, and the old labels are forgotten
    assert int(agent.wait_build(2)["id"]) == 1


def test_rule_03_labels_of_a_project_and_of_a_build_are_asked_for_together(place: Place) -> None:
    server = place.server(labels="linux")
    assert start(server, labels="gpu")["labels"] == ["linux", "gpu"]
    reply = server.post("/build", {"commit": "HEAD", "command": "true", "labels": "linux mac"})
    assert reply.status == 303 and server.build(2)["labels"] == ["linux", "mac"]
    assert server.post("/build/1/rebuild").status == 303
    assert server.build(3)["labels"] == ["linux", "gpu"]
    gpu = agent_of(place, server, slots=4, labels="linux gpu")
    assert {int(gpu.wait_build(count)["id"]) for count in (1, 2)} == {1, 3}


def test_rule_03_labels_are_kept_over_a_restart_of_the_server(place: Place) -> None:
    server = place.server(labels="linux")
    start(server, labels="gpu")
    agent = agent_of(place, server, labels="linux")
    server.kill()
    server.restart()
    assert agents(server)["fake"]["labels"] == ["linux"]
    agent.wait_pings()
    assert not agent.builds and server.build(1)["labels"] == ["linux", "gpu"]
    agent.register(labels="gpu linux")
    assert int(agent.wait_build()["id"]) == 1


@pytest.mark.parametrize("labels", ["a,b", "é", "x" * 2000, 'a"b'])
def test_a_label_is_made_of_a_few_characters(server: ServerProcess, labels: str) -> None:
    params = {"commit": "HEAD", "command": "true", "labels": labels}
    body = json.dumps(params).encode()
    reply = server.request("POST", "/api/builds", body, {"Content-Type": JSON})
    assert reply.status == 400 and "labels" in reply.error()
    assert server.post("/build", params).status == 400
    about = {"host": "127.0.0.1", "port": 9, "labels": labels}
    assert server.post("/notify_agent", about).status == 400
    assert server.api("/builds")["builds"] == [] and server.agents() == []


def test_rule_06_the_last_attempt_waits_for_an_idle_agent_with_its_labels(place: Place) -> None:
    server = place.server(max_attempts=2)
    gpu = agent_of(place, server, "gpu", slots=2, labels="gpu")
    start(server, labels="gpu")
    first = gpu.wait_build()
    start(server, labels="gpu")
    beside = gpu.wait_build(2)
    gpu.forget(first)  # it has lost it: the next attempt is the last
    wait_for(lambda: server.build(1)["status"] == "queued", 10, "orphaned")
    plain = agent_of(place, server, "plain")
    start(server, labels="gpu")
    start(server)
    assert int(plain.wait_build()["id"]) == 4, "others are not held up"
    holds_for(lambda: len(gpu.builds) == 2, 0.5, "two builds")
    gpu.result(beside)
    last = gpu.wait_build(3)
    assert (last["id"], last["attempt"]) == ("1", "2")
    holds_for(lambda: len(gpu.builds) == 3, 0.5, "nothing is given beside it")
    gpu.result(last)
    assert int(gpu.wait_build(4)["id"]) == 3


def test_rule_06_a_pause_of_the_agent_that_is_kept_free_holds_up_nobody(place: Place) -> None:
    server = place.server(max_attempts=2)
    kept = agent_of(place, server, "kept", slots=3)
    start(server)
    first = kept.wait_build()
    start(server)
    kept.wait_build(2)
    kept.forget(first)
    wait_for(lambda: server.build(1)["status"] == "queued", 10, "orphaned")
    start(server)
    alone = "its last attempt runs alone"
    assert server.build(1)["waiting"] == f"{alone}: it waits until kept has nothing else to do"
    assert server.build(3)["waiting"].startswith(f"waits for build 1, whose {alone[4:]}; kept")
    server.post("/agents/pause", {"agent": kept.address})
    paused = "no agent takes builds now: kept is paused: resume it"
    assert [server.build(number)["waiting"] for number in (1, 3)] == [paused] * 2
    other = agent_of(place, server, "other", slots=2)
    assert int(other.wait_build()["id"]) == 1
    holds_for(lambda: len(other.builds) == 1, 0.5, "nothing is given beside it")
    server.post("/agents/resume", {"agent": kept.address})
    assert int(kept.wait_build(3)["id"]) == 3


def test_a_real_agent_tells_its_labels(place: Place) -> None:
    server = place.server(labels="linux")
    agent = place.agent(server, labels="linux docker:24", name="here")
    assert agents(server)["here"]["labels"] == ["linux", "docker:24"]
    number = server.start_build()
    assert server.wait_final(number)["status"] == "success"
    assert agent.stop() == 0


# Pause and resume.


def test_a_paused_agent_gets_no_builds_and_goes_on_with_its_own(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server, slots=2)
    start(server)
    first = agent.wait_build()
    assert server.post("/agents/pause", {"agent": agent.address}).status == 303
    assert agents(server)["fake"]["paused"] is True
    start(server)
    agent.wait_pings()
    agent.register()
    assert len(agent.builds) == 1 and not agent.made("/cancel")
    assert agent.result(first).status == 200 and server.build(1)["status"] == "success"
    holds_for(lambda: len(agent.builds) == 1, 0.5, "no build for a paused agent")
    body = json.dumps({"agent": agent.address}).encode()
    assert server.request("POST", "/agents/resume", body, {"Content-Type": JSON}).status == 303
    assert int(agent.wait_build(2)["id"]) == 2
    assert agents(server)["fake"]["paused"] is False


def test_a_paused_agent_is_not_called_even_for_a_build_that_was_on_its_way(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server, slots=50)
    late = 0
    for _ in range(10):
        start(server)
        server.post("/agents/pause", {"agent": agent.address})
        calls = len(agent.made("/build"))
        agent.wait_pings()
        late += len(agent.made("/build")) - calls
        server.post("/agents/resume", {"agent": agent.address})
    assert late == 0
    agent.wait_build(10)
    attempts = [each for each in server.api("/builds")["builds"] if each["status"] == "running"]
    assert len(attempts) == 10


def test_an_agent_that_went_while_paused_says_both(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    server.post("/agents/pause", {"agent": agent.address})
    agent.close()
    wait_for(lambda: agents(server)["fake"]["gone"], 10, "gone")
    both = "fake is gone: start it again (it is paused too: resume it)"
    assert start(server)["waiting"] == f"no agent takes builds now: {both}"
    assert server.post("/agents/resume", {"agent": agent.address}).status == 303
    assert server.build(1)["waiting"].endswith("fake is gone: start it again")
    agent.open()
    agent.register()
    assert int(agent.wait_build()["id"]) == 1


def test_a_pause_is_kept_over_restarts_of_either_side(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    server.post("/agents/pause", {"agent": agent.address})
    server.kill()
    server.restart()
    assert agents(server)["fake"]["paused"] is True
    agent.close()
    wait_for(lambda: agents(server)["fake"]["gone"], 10, "gone")
    agent.open()
    agent.register()
    agent.wait_pings()
    start(server)
    assert agents(server)["fake"]["paused"] is True and not agents(server)["fake"]["gone"]
    holds_for(lambda: not agent.builds, 0.5, "no build for a paused agent")


def test_a_pause_of_a_real_agent_is_kept_while_its_build_goes_on_and_over_restarts(
    place: Place,
) -> None:
    server = place.server()
    agent = place.agent(server, name="real")
    address = agents(server)["real"]["address"]
    gate = place.folder / "gate"
    running = server.start_build("HEAD", f"until test -e {gate}; do sleep 0.1; done")
    server.wait_status(running, "running")
    server.post("/agents/pause", {"agent": address})
    waiting = server.start_build()
    gate.touch()
    assert server.wait_final(running)["status"] == "success"
    assert agent.stop() == 0
    agent.restart()
    assert server.stop() == 0
    server.restart()
    paused = "no agent takes builds now: real is paused: resume it"
    wait_for(lambda: server.build(waiting)["waiting"] == paused, 30, "paused and there")
    holds_for(lambda: server.build(waiting)["status"] == "queued", 0.5, "no build for it")
    server.post("/agents/resume", {"agent": address})
    assert server.wait_final(waiting)["status"] == "success"


def test_the_agent_at_an_address_is_the_one_that_registered_last(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server, "old", labels="linux")
    server.post("/agents/pause", {"agent": agent.address})
    agent.register(name="new", labels="mac")
    ((name, known),) = agents(server).items()
    assert (name, known["labels"], known["paused"]) == ("new", ["mac"], True)
    assert start(server, labels="linux")["waiting"].startswith("no agent has the label linux")
    waiting = start(server, labels="mac")["waiting"]
    assert waiting.endswith("label mac takes builds now: new is paused: resume it")


def test_pausing_an_agent_that_is_not_known_or_from_another_site(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server)
    for verb in ("pause", "resume"):
        path = f"/agents/{verb}"
        reply = server.post(path, {"agent": "127.0.0.1:1"}, Accept=JSON)
        assert reply.status == 404 and "127.0.0.1:1" in reply.error()
        assert server.post(path).status == 400
        assert server.post(path, {"agent": agent.address, "address": "x"}).status == 400
        foreign = {"Origin": "http://elsewhere.example"}
        assert server.post(path, {"agent": agent.address}, **foreign).status == 403
        assert server.get(path).status == 405
    assert agents(server)["fake"]["paused"] is False


def test_the_pages_show_labels_and_pauses(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server, labels="linux gpu")
    server.post("/agents/pause", {"agent": agent.address})
    start(server, labels="gpu")
    page = server.get("/agents", {"Accept-Language": "en"}).text
    assert "Paused" in page and "gpu" in page and 'action="/agents/resume"' in page
    assert "1 paused" in server.get("/", {"Accept-Language": "en"}).text
    assert "<li>gpu</li>" in server.get("/build/1", {"Accept-Language": "en"}).text


# Why a build waits.


def test_rule_03_a_build_says_why_it_waits_and_what_would_help(
    place: Place, server: ServerProcess
) -> None:
    assert start(server, labels="linux")["waiting"].startswith("no agent is registered")
    plain = agent_of(place, server, "plain")
    missing = "no agent has the label linux: start one that has it"
    assert server.build(1)["waiting"] == missing
    assert [each["waiting"] for each in server.api("/builds")["builds"]] == [missing]
    assert f"N{missing[1:]}." in server.get("/build/1", {"Accept-Language": "en"}).text
    russian = server.get("/build/1", {"Accept-Language": "ru"}).text
    assert "Метки linux нет ни у одного агента" in russian
    linux = agent_of(place, server, "linux", labels="linux")
    assert int(linux.wait_build()["id"]) == 1
    assert server.build(1)["waiting"] is None
    start(server, labels="linux")
    assert server.build(2)["waiting"] == "next for a free slot"
    server.post("/agents/pause", {"agent": linux.address})
    unable = "no agent with the label linux takes builds now: linux"
    assert server.build(2)["waiting"] == f"{unable} is paused: resume it"
    server.post("/agents/resume", {"agent": linux.address})
    linux.trouble = "no space"
    wait_for(lambda: "in trouble: no space" in server.build(2)["waiting"], 10, "trouble")
    linux.close()
    wait_for(lambda: "linux is gone" in str(server.build(2)["waiting"]), 10, "gone")
    server.post("/build/2/cancel")
    assert server.build(2)["waiting"] is None
    assert not plain.builds


def test_two_agents_with_one_name_are_told_apart_by_their_addresses(
    place: Place, server: ServerProcess
) -> None:
    both = [agent_of(place, server, "vm:8001") for _ in range(2)]
    for each in both:
        server.post("/agents/pause", {"agent": each.address})
    waiting = start(server)["waiting"]
    assert all(f"vm:8001 ({each.address}) is paused" in waiting for each in both)


def test_rule_06_a_lost_build_tells_agents_of_one_name_apart(place: Place) -> None:
    server = place.server(max_attempts=2)
    both = {each.address: each for each in (agent_of(place, server, "vm:8001") for _ in range(2))}
    start(server)
    for attempt in (1, 2):
        wait_for(lambda n=attempt: server.build(1)["attempt"] == n, 10, "the attempt")
        agent = both[server.build(1)["attempts"][-1]["address"]]
        agent.wait_build()
        agent.close()
        wait_for(lambda n=attempt: server.build(1)["attempts"][n - 1]["ending"], 10, "its end")
    reason = server.build(1)["reason"]
    assert server.build(1)["status"] == "lost"
    for address in both:
        assert f"on vm:8001 ({address}): agent vm:8001 ({address}) is gone" in reason


def test_reasons_name_an_agent_alone_once_it_has_its_name_for_itself(
    place: Place, server: ServerProcess
) -> None:
    first, second = (agent_of(place, server, "vm") for _ in range(2))
    second.register(name="other")
    start(server)
    wait_for(lambda: first.builds or second.builds, 10, "taken")
    for name, agent in (("vm", first), ("other", second)):
        for build in agent.builds:
            agent.returned(build)
            assert server.build(1)["attempts"][0]["reason"] == f"agent {name} stopped"


def test_rule_03_the_time_until_a_slot_is_free_is_that_of_earlier_builds(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server)
    start(server)
    agent.result(agent.wait_build())
    start(server)
    agent.wait_build(2)
    start(server)
    text = "next for a free slot, in about 5 s"
    wait_for(lambda: server.build(3)["waiting"] == text, 10, "the usual time")
    assert f"N{text[1:]}." in server.get("/build/3", {"Accept-Language": "en"}).text
