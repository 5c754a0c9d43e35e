"""A team's server on an ordinary day, for pictures: a data folder as if it had run since yesterday,
and agents with names. The builds are made directly; the server that shows them is a real one.
"""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

from minici import build as builds
from minici.build import Attempt, Build
from minici.output.writer import OutputWriter
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for

COUNT = 58  # builds that have ended
REPOSITORY = "https://git.example.org/tides.git"
REVISIONS = "6c1f0a93d2 8ef2417b60 a04d77c1e9 2b9908fe13 f17c52aa84".split()
SUBJECTS = (
    "Spring tides run higher than neap tides",
    "Say what the heights are above",
    "Read the harbour list once",
    "Times in the harbour's own zone",
    "The moon's node moves in 18.6 years",
)
COMMITS = ("main", "main", "main", "topic/neap", "v1.4", "main~1")
COMMANDS = {"make test": 95.0, "make lint": 14.0, "make docs && make check-links": 41.0}
ENDS = ["success"] * 11 + ["failure"] * 2 + ["cancelled"]
AGENTS = ("harbour:8001", "lighthouse:8001", "pier:8001")
LOG = (
    ("stdout", 0.1, "python3 -m pytest -q tests\n"),
    ("stdout", 2.4, "\x1b[32m" + "." * 38 + "\x1b[0m\x1b[31mF\x1b[0m" + "\x1b[32m....\x1b[0m\n"),
    ("stdout", 2.5, "=" * 26 + " FAILURES " + "=" * 26 + "\n"),
    (
        "stdout",
        2.5,
        "\x1b[1;31m______________ test_springs_come_twice_a_month ______________\x1b[0m\n",
    ),
    ("stdout", 2.5, "\n    def test_springs_come_twice_a_month():\n"),
    ("stdout", 2.5, ">       assert len(springs(2026, 8)) == 2\n"),
    ("stdout", 2.5, "\x1b[31mE       assert 3 == 2\x1b[0m\n\n"),
    ("stdout", 2.6, "tests/test_springs.py:31: AssertionError\n"),
    (
        "stderr",
        2.6,
        "warning: harbours.csv has no datum for Wick, see https://git.example.org/tides/8\n",
    ),
    ("stdout", 2.7, "\x1b[31m1 failed\x1b[0m, \x1b[32m42 passed\x1b[0m in 2.31s\n"),
    ("stderr", 2.8, "make: *** [Makefile:9: test] Error 1\n"),
)


class Scene:
    """The server, with `failed` the id of the newest build that failed."""

    def __init__(self, place: Place) -> None:
        self.now = datetime.now(timezone.utc)
        self._chance = random.Random(7)
        self.agents = [
            place.keep(FakeAgent(None, name, slots=2, register=False)) for name in AGENTS
        ]
        self.server = place.configure_server(repository=REPOSITORY, command="make test")
        (self.server.data / "builds").mkdir(parents=True)
        (self.server.data / "unfinished").mkdir()
        moment = self.now - timedelta(hours=21)
        self.failed = 0
        for number in range(1, COUNT + 1):
            moment += timedelta(seconds=21 * 3600 / (COUNT + 2) * self._chance.uniform(0.5, 1.4))
            moment = min(moment, self.now - timedelta(seconds=70 * (COUNT + 3 - number)))
            self._ended(number, moment)
        # The first has been running for twice as long as is usual.
        for number, agent, seconds in ((COUNT + 1, 0, 190), (COUNT + 2, 1, 41)):
            self._running(number, self.agents[agent], self.now - timedelta(seconds=seconds))
        (self.server.data / "counter").write_text(str(COUNT + 2))
        self._write_days()
        self._start()

    def _ended(self, number: int, moment: datetime) -> None:
        command = self._chance.choice(list(COMMANDS))
        status = self._chance.choice(ENDS) if number != COUNT - 1 else "failure"
        if status == "failure":
            self.failed, command = number, "make test"
        seconds = COMMANDS[command] * self._chance.uniform(0.85, 1.2)
        seconds *= {"failure": 0.6, "cancelled": 0.3}.get(status, 1.0)
        self._write(number, moment, command, status, seconds)

    def _running(self, number: int, agent: FakeAgent, moment: datetime) -> None:
        self._write(number, moment, "make test", "running", None, agent)
        agent.running.append({"id": number, "attempt": 1})
        (self.server.data / "unfinished" / str(number)).touch()

    def _write(
        self,
        number: int,
        moment: datetime,
        command: str,
        status: str,
        seconds: Optional[float],
        agent: Optional[FakeAgent] = None,
    ) -> None:
        agent = agent or self._chance.choice(self.agents)
        ended = None if seconds is None else stamp(moment + timedelta(seconds=seconds))
        which = self._chance.randrange(len(SUBJECTS))
        revision = (REVISIONS[which] * 4)[:40]
        ending = "finished" if seconds is not None else None
        build = Build(
            id=number,
            commit=self._chance.choice((*COMMITS, revision)),
            command=command,
            repository=REPOSITORY,
            queued_at=stamp(moment - timedelta(seconds=0.2)),
            status=status,
            revision=revision if ended else None,
            subject=SUBJECTS[which] if ended else None,
            author="Ada Lovelace <ada@example.org>" if ended else None,
            started_at=stamp(moment),
            finished_at=ended,
            exit_status={"success": 0, "failure": 2, "cancelled": -15}.get(status),
            reason="exit status 2" if status == "failure" else None,
            agent=agent.name,
            attempt=1,
            last_attempt=1,
            attempts=(Attempt(1, agent.name, agent.address, stamp(moment), ended, ending),),
        )
        folder = self.server.data / "builds" / str(number)
        (folder / "1").mkdir(parents=True)
        if status == "failure":
            build = self._with_output(build, folder / "1")
        (folder / "build.json").write_text(json.dumps(builds.to_record(build)), encoding="utf-8")

    def _with_output(self, build: Build, folder: Path) -> Build:
        with OutputWriter(folder, 1 << 20) as output:
            for stream, seconds, text in LOG:
                output.append(stream, text.encode(), seconds)
            sizes = output.totals
        record: dict[str, Any] = builds.to_record(build)
        record.update(stdout_bytes=sizes["stdout"], stderr_bytes=sizes["stderr"])
        return builds.from_record(record)

    def _write_days(self) -> None:
        busy = [[self._level(agent, quarter) for quarter in range(96)] for agent in range(3)]
        here, gone = ["9"] * 96, ["0"] * 96
        days = {agent.address: ["".join(here), "".join(gone), ""] for agent in self.agents}
        for agent, levels in zip(self.agents, busy):
            days[agent.address][2] = "".join(map(str, levels))
        last = self.agents[-1].address
        days[last] = ["9" * 61 + "0" * 3 + "9" * 20 + "0" * 12, "0" * 61 + "9" * 3 + "0" * 32, ""]
        days[last][1] = days[last][1][:84] + "9" * 12
        days[last][2] = "".join(
            str(level) if here == "9" else "0" for level, here in zip(busy[2], days[last][0])
        )
        written = {"saved_at": stamp(self.now), "days": days}
        (self.server.data / "agents-day.json").write_text(json.dumps(written), encoding="utf-8")

    def _level(self, agent: int, quarter: int) -> int:
        working = 52 <= quarter < 92 if agent else quarter >= 44
        return self._chance.choice((0, 2, 4, 5, 7) if working else (0, 0, 0, 0, 1))

    def _start(self) -> None:
        gone = self.agents[-1]
        records = [
            {"host": "127.0.0.1", "port": a.port, "name": a.name, "slots": 2} for a in self.agents
        ]
        records[-1].update(
            gone_since=stamp(self.now - timedelta(hours=3)),
            gone_reason="its port refuses connections",
            heard=stamp(self.now - timedelta(hours=3, seconds=2)),
        )
        text = json.dumps({"agents": records})
        (self.server.data / "agents.json").write_text(text, encoding="utf-8")
        gone.close()
        self.server.start()
        for agent in self.agents[:-1]:
            agent.server = self.server
            assert agent.register().status == 200
        self._start_builds(self.server)

    def _start_builds(self, server: ServerProcess) -> None:
        """Two that run from now on, and two for which there is no slot."""
        for commit, command in (
            ("topic/neap", "make lint"),
            ("main", "make docs && make check-links"),
            ("main", "make test"),
            ("v1.4", "make test"),
        ):
            server.start_build(commit, command)
        wait_for(lambda: sum(len(agent.builds) for agent in self.agents) == 2, 30, "two more run")


def stamp(moment: datetime) -> str:
    """A moment as records have it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
