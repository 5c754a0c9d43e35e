"""No build is left out of the queue, whatever goes wrong on the way to an agent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from minici import build as builds
from minici.config import ServerConfig
from minici.config_file import read_server
from minici.scheduler.agent_client import ACCEPTED, DispatchResult
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.roster import KnownAgent, PingResult, Registration
from minici.scheduler.state import State
from minici.scheduler.watchdog import Watchdog
from minici.store import Store


class Calls:
    """Agents that say yes, and have nothing when they are asked."""

    def __init__(self) -> None:
        self.offered: list[int] = []

    def dispatch(self, agent: KnownAgent, build: builds.Build, params: object) -> DispatchResult:
        self.offered.append(build.attempt)
        return DispatchResult(ACCEPTED)

    def cancel(self, *_: object, **__: object) -> bool:
        return True


class World:
    def __init__(self, folder: Path, config: ServerConfig) -> None:
        self.time = 1000.0
        self.store = Store(folder / "data", 1000)
        unfinished = self.store.open()
        self.state = State(self.store, config, clock=lambda: self.time, now=lambda: "t")
        self.calls: Any = Calls()

        def at_once(name: str, call: Callable[[], object]) -> None:
            call()

        self.dispatcher = Dispatcher(self.state, self.calls, at_once)
        self.watchdog = Watchdog(self.state, self.dispatcher, self.calls, at_once)
        self.state.restore(unfinished)
        self.state.registry.register(Registration("127.0.0.1", 1, "one", 1))
        (self.agent,) = self.state._roster

    def ping(self) -> None:
        """The agent says that it has nothing."""
        self.time += 1
        self.watchdog.pinged(self.agent, PingResult(self.time, True, running=(), undelivered=()))
        self.watchdog.settle()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "config.ini").write_text(f"[server]\nport = 0\nrepository = {tmp_path}\n")
    world = World(tmp_path, read_server(tmp_path / "config.ini"))
    yield world
    world.store.close()


def failing(method: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """The method, which fails the first time."""
    times = iter([error])

    def fail(*args: Any, **named: Any) -> Any:
        for each in times:
            raise each
        return method(*args, **named)

    return fail


@pytest.mark.parametrize("method", ["prepare_attempt", "save"])
def test_a_fault_before_the_call_leaves_the_build_in_the_queue(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    number = world.state.enqueue("main", "true").id
    monkeypatch.setattr(world.store, method, failing(getattr(world.store, method), MemoryError()))
    with caplog.at_level(logging.ERROR):
        assert world.dispatcher.dispatch()
    assert f"build {number}: dispatch failed" in caplog.text
    assert world.state.load(number).status == builds.QUEUED  # type: ignore[union-attr]
    assert [each.id for each in world.state.queued()] == [number] and not world.agent.assignments
    assert not world.dispatcher.dispatch(), "not before a moment has passed"
    world.time += 5
    assert world.dispatcher.dispatch() and world.calls.offered == [1]
    assert world.state.load(number).status == builds.RUNNING  # type: ignore[union-attr]


def test_a_fault_after_the_call_is_settled_by_pings(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    number = world.state.enqueue("main", "true").id
    settle = failing(world.dispatcher._settle, MemoryError())
    monkeypatch.setattr(world.dispatcher, "_settle", settle)
    with caplog.at_level(logging.ERROR):
        assert world.dispatcher.dispatch()
    assert world.state.load(number).status == builds.RUNNING  # type: ignore[union-attr]
    for _ in range(3):
        world.ping()
    assert world.state.load(number).status == builds.QUEUED  # type: ignore[union-attr]
    world.time += 5
    assert world.dispatcher.dispatch() and world.calls.offered == [1, 2]


def test_a_build_stands_in_the_queue_once(world: World) -> None:
    world.state.enqueue("main", "true")
    dispatch = world.state.take_dispatch()
    assert dispatch is not None and world.state.queued() == []
    world.state.postpone(dispatch)
    world.state.postpone(dispatch)
    assert len(world.state.queued()) == 1


def test_the_next_build_is_the_one_that_is_dispatched_now(world: World) -> None:
    first, second = world.state.enqueue("main", "true").id, world.state.enqueue("main", "true").id
    assert world.state.is_next(first) and not world.state.is_next(second)
    assert world.dispatcher.dispatch()
    assert not world.state.is_next(first), "it runs"
    assert not world.state.is_next(second), "no slot is free"
