"""Faults 3 and 14: the server ends at every single step on its disk."""

from __future__ import annotations

import http.client
from typing import Optional

from tests.support.crashes import Hook, crash_at_every_step
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for
from tests.support.http_client import Reply

GONE = (OSError, http.client.HTTPException)


class World:
    """A server with the hook, and an agent that is a script."""

    def __init__(self, place: Place, slots: int = 1, agent: bool = True) -> None:
        data = place.folder / "data"
        self.hook = Hook(place, data)
        self.server: ServerProcess = place.server(self.hook.env, data=data, max_queue=10_000)
        self.agent = place.keep(FakeAgent(self.server, slots=slots, register=agent))
        self.last: Optional[Reply] = None

    def attempted(self, reply: Reply, *good: int) -> bool:
        self.last = reply
        assert reply.status in good, reply
        return True

    def finish(self, number: int, output: bytes) -> None:
        """The agent brings the build to its end, as often as it takes; all of it is there."""
        server, agent = self.server, self.agent

        def delivered() -> bool:
            known = server.build(number)
            if known["status"] == "success":
                return True
            mine = [b for b in agent.builds if int(b["id"]) == number]
            if known["status"] == "running" and mine:
                text = output.decode("utf-8", "surrogateescape")
                reply = agent.result(mine[-1], 0, text, "")
                assert reply.status == 200, reply
            return False

        wait_for(delivered, 30, f"the end of build {number}")
        assert server.output(number) == output
        known = server.build(number)
        numbers = [attempt["attempt"] for attempt in known["attempts"]]
        assert len(numbers) == len(set(numbers)) and known["stdout_bytes"] == len(output)


def test_fault_03_at_every_step_of_a_start(place: Place) -> None:
    """A whole build or none; what was acknowledged is there; no id is used again."""
    world = World(place, agent=False)
    server = world.server
    acknowledged: dict[int, str] = {}
    server.start_build(command="echo first")

    def act(step: int) -> bool:
        try:
            acknowledged[server.start_build(command=f"echo {step}")] = f"echo {step}"
        except GONE:
            return False
        return True

    def check(step: int, through: bool) -> None:
        found = {b["id"]: b for b in server.api("/builds?limit=100")["builds"]}
        assert 1 in found
        for number, command in acknowledged.items():
            assert found[number]["command"] == command
        newest = found[max(found)]
        assert newest["status"] == "queued" and newest["command"].startswith("echo ")
        assert all(build.get("command") for build in found.values()), "a whole build or none"
        after = server.start_build(command="echo after")
        assert after > max(found)
        acknowledged[after] = "echo after"

    steps = crash_at_every_step(world.hook, server, act, check)
    assert steps >= 8, "the hook has seen the writing"


def test_fault_03_at_every_step_of_a_start_and_dispatch(place: Place) -> None:
    """With an agent that is free: the hand-over has steps of its own after the answer."""
    world = World(place)
    server, agent = world.server, world.agent

    def act(step: int) -> bool:
        try:
            count = len(agent.builds)
            server.start_build(command=f"echo {step}")
            agent.wait_build(count + 1, within=3)
        except (*GONE, AssertionError):
            return False
        return True

    def check(step: int, through: bool) -> None:
        builds = server.api("/builds?limit=100")["builds"]
        for build in builds:
            if build["status"] != "success":
                world.finish(build["id"], b"done\n")
        assert not through or builds[0]["command"] == f"echo {step}"

    assert crash_at_every_step(world.hook, server, act, check) >= 10


def test_fault_03_at_every_step_of_output(place: Place) -> None:
    world = World(place)
    server, agent = world.server, world.agent
    piece = b"0123456789\n" * 50

    def prepare(step: int) -> None:
        server.start_build()
        assert agent.wait_build(step)["id"] == str(step)
        wait_for(lambda: server.build(step)["status"] == "running", what="running")
        agent.output(agent.builds[-1], "stdout", 0, b"before\n")

    def act(step: int) -> bool:
        try:
            reply = agent.output(agent.builds[-1], "stdout", 7, piece)
        except GONE:
            return False
        return world.attempted(reply, 200)

    def check(step: int, through: bool) -> None:
        build = agent.builds[-1]
        reply = agent.output(build, "stdout", 7 + len(piece), b"")
        have = reply.json()["next"]
        assert 0 <= have <= 7 + len(piece)
        whole = b"before\n" + piece
        assert server.output(step) == whole[:have]
        if have < len(whole):
            assert agent.output(build, "stdout", have, whole[have:]).status == 200
        assert agent.result(build, 0, "", stdout_offset=len(whole)).status == 200
        assert server.output(step) == whole

    assert crash_at_every_step(world.hook, server, act, check, prepare) >= 1


def test_fault_14_at_every_step_of_a_result(place: Place) -> None:
    """The agent sends again; the record is whole."""
    world = World(place)
    server, agent = world.server, world.agent

    def prepare(step: int) -> None:
        server.start_build()
        build = agent.wait_build(step)
        wait_for(lambda: server.build(step)["status"] == "running", what="running")
        agent.output(build, "stdout", 0, b"a piece ")

    def deliver(offset: int = 8) -> Reply:
        rest = "a piece and the rest"[offset:]
        about = {"revision": "a" * 40, "subject": "Subject", "author": "Author"}
        return agent.result(agent.builds[-1], 0, rest, "err", stdout_offset=offset, **about)

    def act(step: int) -> bool:
        try:
            reply = deliver()
        except GONE:
            return False
        return world.attempted(reply, 200)

    def check(step: int, through: bool) -> None:
        before = server.build(step)
        if through:
            assert before["status"] == "success"
        reply = deliver()
        if reply.status == 409:
            assert not through
            reply = deliver(reply.json()["stdout"])
        assert reply.status == 200, reply
        known = server.build(step)
        assert known["status"] == "success" and known["subject"] == "Subject"
        assert server.output(step, "stdout") == b"a piece and the rest"
        assert server.output(step, "stderr") == b"err"
        assert (known["stdout_bytes"], known["stderr_bytes"]) == (20, 3)
        if before["status"] == "success":
            assert known == before

    assert crash_at_every_step(world.hook, server, act, check, prepare) >= 5


def test_fault_14_at_every_step_of_a_cancel(place: Place) -> None:
    world = World(place, agent=False)
    server = world.server

    def prepare(step: int) -> None:
        server.start_build()

    def act(step: int) -> bool:
        try:
            reply = server.post(f"/build/{step}/cancel")
        except GONE:
            return False
        return world.attempted(reply, 303)

    def check(step: int, through: bool) -> None:
        known = server.build(step)
        assert known["status"] in (("cancelled",) if through else ("queued", "cancelled"))
        server.post(f"/build/{step}/cancel")
        assert server.build(step)["status"] == "cancelled"

    assert crash_at_every_step(world.hook, server, act, check, prepare) >= 2


def test_fault_14_at_every_step_of_a_return(place: Place) -> None:
    world = World(place)
    server, agent = world.server, world.agent

    def prepare(step: int) -> None:
        server.start_build()
        wait_for(lambda: any(int(b["id"]) == step for b in agent.builds), what="handed over")
        wait_for(lambda: server.build(step)["status"] == "running", what="running")

    def act(step: int) -> bool:
        try:
            reply = agent.returned(agent.builds[-1])
        except GONE:
            return False
        return world.attempted(reply, 200)

    def check(step: int, through: bool) -> None:
        mine = [b for b in agent.builds if int(b["id"]) == step]
        if not through:
            assert agent.returned(mine[0]).status == 200
        wait_for(lambda: len([b for b in agent.builds if int(b["id"]) == step]) > 1, what="again")
        world.finish(step, b"after\n")

    assert crash_at_every_step(world.hook, server, act, check, prepare) >= 2
