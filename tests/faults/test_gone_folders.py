"""A build's folder that somebody removes under a running server: that build is lost, no other."""

from __future__ import annotations

import shutil

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, wait_for


def test_of_a_build_that_waits(place: Place) -> None:
    server = place.server()
    for _ in range(3):
        server.start_build()
    shutil.rmtree(server.data / "builds" / "2")
    agent = place.keep(FakeAgent(server))
    for count, number in ((1, 1), (2, 3)):
        build = agent.wait_build(count)
        assert int(build["id"]) == number and agent.result(build).status == 200
    wait_for(lambda: "build 2: its folder can't be used" in server.log(), 10, "its error")
    assert server.get("/healthz").status == 200


def test_of_a_build_that_runs(place: Place) -> None:
    """Its result is refused so that the agent sets it aside, and the slot is free."""
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    assert agent.output(build, "stdout", 0, b"early\n").status == 200
    shutil.rmtree(server.data / "builds" / "1")
    assert agent.output(build, "stdout", 6, b"more\n").status in (404, 410, 422)
    reply = agent.result(build, 0, "early\nmore\n")
    assert 400 <= reply.status < 500 and reply.error()
    server.start_build()
    assert int(agent.wait_build(2)["id"]) == 2


def test_of_a_build_whose_agent_goes(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    agent.wait_build()
    shutil.rmtree(server.data / "builds" / "1")
    agent.close()
    wait_for(lambda: "it is given up" in server.log(), what="the build given up")
    number = server.start_build()
    again = place.keep(FakeAgent(server))
    assert int(again.wait_build()["id"]) == number
    assert "Traceback" not in server.log()


def test_a_damaged_builds_result_is_set_aside_and_not_forgotten(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    server.kill()
    (server.data / "builds" / "1" / "build.json").write_bytes(b"{")
    server.restart()
    assert agent.result(build).status == 422
