"""Thousands of random histories of one server's state, in no time and without a network.

The state, the dispatcher, the watchdog and the reports are the real ones, on a real folder; time,
threads and agents are made here. Each history is a list of events drawn from a seed; after each
event, and when everything has been mended in the end, what the contract promises must hold. A
history that breaks a promise is shortened as long as it still breaks it, and printed.
"""

from __future__ import annotations

import dataclasses
import io
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from minici import build as builds
from minici import durable
from minici.build import STDERR, STDOUT, AttemptId, Build, Result
from minici.config import ConfigError, ProjectConfig, ServerConfig
from minici.output.format import OffsetGap, StreamTail
from minici.scheduler.agent_client import ACCEPTED, REFUSED, UNANSWERED, AgentClient, DispatchResult
from minici.scheduler.agent_updates import AgentUpdates, StaleAttempt
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.roster import KnownAgent, PingResult, Registration
from minici.scheduler.state import State
from minici.scheduler.watchdog import Watchdog
from minici.store import Store

HISTORIES = 2000
EVENTS = 40
# Of each part of the histories. With two, it is often a build's turn to run alone.
MAX_ATTEMPTS = (3, 3, 2, 2)

Event = tuple[str, int]  # what happens, and a number that settles every choice in it


class Broken(AssertionError):
    """A promise was not kept."""


@dataclasses.dataclass
class Node:
    """An agent of the model: what it has, and whether it lives and can be reached. That on port
    3 is somebody else's: it delivers what it was told to stop, as the contract lets it."""

    port: int
    alive: bool = True
    reachable: bool = True
    slots: int = 2
    trouble: Optional[str] = None
    running: dict[AttemptId, bytes] = dataclasses.field(default_factory=dict)
    undelivered: dict[AttemptId, tuple[int, bytes]] = dataclasses.field(default_factory=dict)

    @property
    def there(self) -> bool:
        return self.alive and self.reachable


class Wire(AgentClient):
    """The calls to agents, answered by the model instead of a network."""

    def __init__(self, world: World) -> None:
        self._world = world

    def dispatch(self, agent: KnownAgent, build: Build, params: Any) -> DispatchResult:
        node, chance = self._world.nodes[agent.port], self._world.chance
        if not node.there:
            return DispatchResult(REFUSED if not node.alive else UNANSWERED, "not there")
        if len(node.running) >= node.slots or node.trouble:
            return DispatchResult(REFUSED, node.trouble or "full")
        if chance.random() < 0.1:
            return DispatchResult(UNANSWERED, "the request was lost")
        node.running[AttemptId(build.id, build.attempt)] = b""
        self._world.handed.append(AttemptId(build.id, build.attempt))
        if chance.random() < 0.1:
            return DispatchResult(UNANSWERED, "the answer was lost")
        return DispatchResult(ACCEPTED)

    def ping(self, agent: KnownAgent) -> PingResult:
        node, now = self._world.nodes[agent.port], self._world.time
        if not node.there:
            return PingResult(now, answered=False, refused=not node.alive)
        return PingResult(
            now,
            True,
            running=tuple(node.running),
            undelivered=tuple(node.undelivered),
            trouble=node.trouble,
        )

    def cancel(self, agent: KnownAgent, held: AttemptId, superseded: bool) -> bool:
        node = self._world.nodes[agent.port]
        if not node.there:
            return False
        if held in node.running:
            written = node.running.pop(held)
            if not superseded or node.port == 3:
                node.undelivered[held] = (-15, written)
        return True


class World:
    """One server with its agents, and what it has acknowledged."""

    def __init__(self, folder: Path, max_attempts: int) -> None:
        self.folder = folder
        self.config = dataclasses.replace(CONFIG, max_attempts=max_attempts)
        self.chance = random.Random(0)
        self.time = 1000.0
        self.nodes = {port: Node(port) for port in (1, 2, 3)}
        self.pending: list[Callable[[], object]] = []
        self.acknowledged: dict[int, Optional[dict[str, Any]]] = {}  # id: the final record
        self.delivered: dict[int, tuple[int, bytes]] = {}  # the result that was answered 200 first
        self.handed: list[AttemptId] = []
        self.store: Optional[Store] = None
        self.boot()

    def boot(self) -> None:
        if self.store is not None:
            self.store.close()
        self.pending.clear()
        self.store = Store(self.folder, 1000)
        self.state = State(
            self.store, self.config, lambda: self.time, lambda: f"t{self.time:08.1f}"
        )
        wire = Wire(self)

        def beside(name: str, call: Callable[[], object]) -> None:
            self.pending.append(call)

        self.dispatcher = Dispatcher(self.state, wire, beside)
        self.watchdog = Watchdog(self.state, self.dispatcher, wire, beside)
        self.reports = AgentUpdates(self.state, self.dispatcher, "word")
        self.state.restore(self.store.open())

    # Events. Each takes a number that settles every choice in it.

    def play(self, event: Event) -> None:
        name, number = event
        self.chance = random.Random(number)
        getattr(self, f"on_{name}")()
        self.check()

    def on_start(self) -> None:
        build = self.state.enqueue("HEAD", "true")
        if build.id in self.acknowledged or any(build.id < other for other in self.acknowledged):
            raise Broken(f"id {build.id} after {sorted(self.acknowledged)}")
        self.acknowledged[build.id] = None

    def on_dispatch(self) -> None:
        before = {agent.address: len(agent.assignments) for agent in self.state.agents()}
        while self.dispatcher.dispatch():
            continue
        for agent in self.state.agents():
            if agent.trouble and len(agent.assignments) > before[agent.address]:
                raise Broken(f"{agent.name} has been given a build in spite of {agent.trouble}")

    def on_calls(self) -> None:
        self.chance.shuffle(self.pending)
        for _ in range(self.chance.randint(1, 3)):
            if self.pending:
                self.pending.pop()()

    def on_register(self) -> None:
        node = self._node()
        if node.there:
            running = frozenset(number for number, _ in node.running)
            self.reports.register(
                Registration("host", node.port, slots=node.slots, running=running)
            )

    def on_ping(self) -> None:
        for agent in self.state.registry.due_pings():
            self.pending.append(lambda agent=agent: self._ping(agent))
        self.watchdog.settle()

    def _ping(self, agent: KnownAgent) -> None:
        self.watchdog.pinged(agent, Wire(self).ping(agent))

    def on_time(self) -> None:
        self.time += self.chance.choice((0.1, 1.0, 2.5, 12.0, 100.0))
        self.watchdog.settle()

    def on_write(self) -> None:
        node = self._node()
        if not node.there or not node.running:
            return
        held = self.chance.choice(list(node.running))
        before, piece = node.running[held], b"%d" % self.chance.randrange(10)
        node.running[held] = before + piece
        try:
            self.reports.add_output(*held, STDOUT, len(before), piece)
        except StaleAttempt:
            del node.running[held]
        except OffsetGap:
            pass

    def on_end(self) -> None:
        node = self._node()
        if node.alive and node.running:
            held = self.chance.choice(list(node.running))
            node.undelivered[held] = (self.chance.choice((0, 1)), node.running.pop(held))

    def on_deliver(self) -> None:
        node = self._node()
        if node.there and node.undelivered:
            self._deliver(node, next(iter(node.undelivered)))

    def _deliver(self, node: Node, held: AttemptId) -> None:
        status, text = node.undelivered[held]
        rests = {
            STDOUT: StreamTail(0, len(text), io.BytesIO(text)),
            STDERR: StreamTail(0, 0, io.BytesIO()),
        }
        entry = self.state.unfinished_build(held[0])
        self.reports.finish(*held, Result(status), rests)
        if entry is not None and entry.build.final and entry.build.status != builds.CANCELLED:
            self.delivered.setdefault(held[0], (status, text))
        if self.chance.random() < 0.8:  # else the answer is lost, and it is sent again
            del node.undelivered[held]

    def on_give_back(self) -> None:
        node = self._node()
        if node.there and node.running:
            held = self.chance.choice(list(node.running))
            del node.running[held]
            self.reports.give_back(*held, trouble=node.trouble)

    def on_cancel(self) -> None:
        if self.acknowledged:
            self.dispatcher.cancel(self.chance.choice(list(self.acknowledged)))

    def on_die(self) -> None:
        node = self._node()
        node.alive = False
        node.running.clear()

    def on_revive(self) -> None:
        self._node().alive = True

    def on_trouble(self) -> None:
        node = self._node()
        node.trouble = None if node.trouble else "no space"

    def on_part(self) -> None:
        node = self._node()
        node.reachable = not node.reachable

    def on_restart(self) -> None:
        self.boot()

    def _node(self) -> Node:
        return self.nodes[self.chance.choice((1, 2, 3))]

    # Promises.

    def check(self) -> None:
        for number, final in self.acknowledged.items():
            record = self.state.load(number)
            if not isinstance(record, Build):
                raise Broken(f"build {number} is damaged: {record.reason}")
            self._check_build(record, final)
        self._check_alone()
        if len(set(self.handed)) != len(self.handed):
            raise Broken(f"an attempt was handed over twice: {self.handed}")

    def _check_alone(self) -> None:
        """The last attempt of a build that has lost agents has an agent to itself."""
        for agent in self.state.agents():
            for assignment in agent.assignments.values():
                build = self.state.load(assignment.build)
                last = isinstance(build, Build) and build.runs_alone(self.config.max_attempts)
                if last and not build.final and len(agent.assignments) > 1:
                    raise Broken(f"build {build.id} is not alone: {agent.assignments}")

    def _check_build(self, build: Build, final: Optional[dict[str, Any]]) -> None:
        record = builds.to_record(build)
        if final is not None and record != final:
            raise Broken(f"a final build changed: {final} -> {record}")
        endings = [attempt.ending for attempt in build.attempts]
        if endings.count(builds.FINISHED) > 1 or endings.count(None) > 1:
            raise Broken(f"two attempts are right: {endings}")
        numbers = [attempt.number for attempt in build.attempts]
        if numbers != sorted(set(numbers)):
            raise Broken(f"attempts are not in order: {numbers}")
        if not build.final:
            return
        self.acknowledged[build.id] = record
        if build.status == builds.LOST and len(build.failed_attempts) != self.config.max_attempts:
            raise Broken(f"lost after {len(build.failed_attempts)} attempts")
        if build.status in (builds.SUCCESS, builds.FAILURE):
            self._check_result(build)

    def _check_result(self, build: Build) -> None:
        if build.exit_status == -15:
            raise Broken(f"build {build.id}: to be stopped by the server is no result")
        status, text = self.delivered.get(build.id, (None, b""))
        assert self.store is not None
        with self.store.transcript(build.id, build.attempt) as transcript:
            kept = b"".join(transcript.read(STDOUT, 0, 10**6))
        if status is not None and (build.exit_status, kept) != (status, text):
            raise Broken(f"build {build.id}: {build.exit_status} {kept!r}, not {status} {text!r}")

    def mend(self) -> None:
        """Everything lives again and has time: then every build must become final."""
        for node in self.nodes.values():
            node.alive, node.reachable, node.trouble = True, True, None
        for _ in range(300):
            self.chance = random.Random(1)  # whose first draws lose nothing
            for node in self.nodes.values():
                running = frozenset(number for number, _ in node.running)
                self.reports.register(
                    Registration("host", node.port, slots=node.slots, running=running)
                )
                for held in list(node.running):
                    node.undelivered[held] = (0, node.running.pop(held))
                for held in list(node.undelivered):
                    self._deliver(node, held)
            self.on_dispatch()
            self.time += 3.0
            self.on_ping()
            while self.pending:
                self.pending.pop()()
            self.check()
            if all(final is not None for final in self.acknowledged.values()):
                return
        waiting = [number for number, final in self.acknowledged.items() if final is None]
        raise Broken(f"builds {waiting} never became final: {self.state.agents()}")


CONFIG = ServerConfig(
    port=0,
    projects=(ProjectConfig("p", "/repository", "make", build_timeout=600.0),),
    host="127.0.0.1",
    data=Path(),
    secret=None,
    secret_in=None,
    max_queue=1000,
    max_attempts=3,
    ping_interval=2.0,
    agent_timeout=10.0,
    output_limit=1000,
    keep_builds=0,
    keep_days=0.0,
    url=None,
    certificate=None,
    private_key=None,
    language="auto",
    public=frozenset(("healthz",)),
    open=False,
    users={},
    error=lambda key, what: ConfigError(f"{key}: {what}"),
)
NAMES = (
    "start start start dispatch dispatch calls calls calls calls register register ping ping "
    "time time write write end end deliver deliver give_back cancel die revive revive part restart "
    "trouble"
).split()


def history(seed: int) -> list[Event]:
    chance = random.Random(seed)
    return [
        (chance.choice(NAMES), chance.randrange(10**6)) for _ in range(chance.randint(5, EVENTS))
    ]


@contextmanager
def _folder() -> Iterator[Path]:
    memory = Path("/dev/shm")  # where there is one: thousands of folders, none worth a disk
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def broken(events: list[Event], max_attempts: int) -> Optional[str]:
    """What a history breaks, or None."""
    with _folder() as folder:
        world = World(folder, max_attempts)
        try:
            for event in events:
                world.play(event)
            world.mend()
        except Broken as error:
            return str(error)
        finally:
            assert world.store is not None
            world.store.close()
    return None


def shortened(events: list[Event], max_attempts: int) -> list[Event]:
    """The history without every event that it breaks a promise without."""
    size = len(events) // 2
    while size:
        start = 0
        while start < len(events):
            shorter = events[:start] + events[start + size :]
            if broken(shorter, max_attempts):
                events = shorter
            else:
                start += size
        size //= 2
    return events


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives a power cut is another test's matter; here it would only cost time."""
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("no_fsync")
@pytest.mark.parametrize("part", range(4))
def test_no_history_breaks_a_promise(part: int) -> None:
    max_attempts = MAX_ATTEMPTS[part]
    for seed in range(part, HISTORIES, 4):
        events = history(seed)
        if broken(events, max_attempts):
            short = shortened(events, max_attempts)
            pytest.fail(f"seed {seed}: {broken(short, max_attempts)}\nafter {short}")
