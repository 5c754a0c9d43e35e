"""`/api/builds/ID/changes`: what a build wrote that the last success did not."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, wait_for


class Bench:
    """A server of two projects, and an agent that answers what a test wants."""

    def __init__(self, place: Place) -> None:
        self.server = place.configure_server(name="roof")
        self.server.sections["project wall"] = {"command": "make"}
        self.server.start()
        self.agent = place.keep(FakeAgent(self.server))

    def run(
        self, stdout: str, status: int = 0, command: str = "make", project: str = "roof"
    ) -> int:
        params = {"commit": "HEAD", "command": command, "project": project}
        number = int(self.server.post("/api/builds", params).json()["id"])
        self.agent.result(self.agent.wait_build(number), status, stdout)
        return number

    def changes(self, number: int) -> Any:
        return self.server.api(f"/builds/{number}/changes")


@pytest.fixture
def bench(place: Place) -> Bench:
    return Bench(place)


def test_the_last_success_of_project_and_command_is_what_counts(bench: Bench) -> None:
    first = bench.run("a 10:00:00\nb\n", 1)
    assert bench.changes(first) == {"against": None, "lines": []}
    success = bench.run("a 11:11:11\nb\n")
    for stdout, more in (("other\n", {"command": "x"}), ("other\n", {"project": "wall"})):
        bench.run(stdout, **more)
    bench.run("c\n", 1)
    last = bench.run("a 12:00:00\nc\nb\nother", 1)
    assert bench.changes(last) == {"against": success, "lines": [2, 4]}
    bench.run("c\n")
    assert bench.changes(last) == {"against": success, "lines": [2, 4]}, "a later one is none"


def test_a_build_that_has_not_ended_or_is_not_there(bench: Bench) -> None:
    bench.run("a\n")
    number = bench.server.start_build(command="make")
    assert bench.changes(number) == {"against": 1, "lines": []}
    assert bench.server.get("/api/builds/99/changes").status == 404
    assert bench.server.get("/api/builds/1/changes?x=1").status == 400


def test_who_goes_away_leaves_the_place_to_the_next(bench: Bench) -> None:
    line = "{:07x}ghij klmnop qrstuv wxyz roof tide harbour\n"
    bench.run("".join(line.format(n) for n in range(20_000)))
    number = bench.run("x\n", 1)
    for _ in range(25):
        with socket.create_connection(("127.0.0.1", bench.server.port)) as gone:
            gone.sendall(b"GET /api/builds/%d/changes HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
    wait_for(lambda: bench.server.get(f"/api/builds/{number}/changes").status == 200, 30)
    assert bench.changes(number) == {"against": 1, "lines": [1]}
