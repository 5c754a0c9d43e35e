"""A server whose host refuses it another thread: it does what it can, and goes on by itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from minici.build import CANCELLED, RUNNING, AttemptId
from minici.config_file import read_server
from minici.scheduler.agent_client import ACCEPTED, AgentClient, DispatchResult
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.roster import KnownAgent, PingResult, Registration
from minici.scheduler.state import State
from minici.scheduler.watchdog import Watchdog
from minici.store import Store
from minici.web.client import Client
from minici.web.listener import Listener
from minici.web.routing import Application, HttpError, Request, Response, Route
from tests.support.harness import wait_for


class Calls(AgentClient):
    """Agents that live, take every build and keep it."""

    def dispatch(self, *_: object) -> DispatchResult:
        return DispatchResult(ACCEPTED)

    def ping(self, agent: KnownAgent) -> PingResult:
        return PingResult(self._clock(), answered=True)

    def cancel(self, agent: KnownAgent, held: AttemptId, superseded: bool) -> bool:
        return True


class Host:
    """Starts a thread, which ends at once, or refuses it after a look at `meanwhile`."""

    def __init__(self) -> None:
        self.refuses = 0  # so many of the next threads
        self.meanwhile: Callable[[], object] = lambda: None
        self.started: list[str] = []

    def __call__(self, name: str, function: Callable[[], object]) -> None:
        if self.refuses > 0:
            self.refuses -= 1
            self.meanwhile()
            raise RuntimeError("can't start new thread")
        self.started.append(name)
        function()


class Room:
    """A server's inner rooms, with two agents and no network."""

    def __init__(self, folder: Path) -> None:
        config = folder / "config.ini"
        config.write_text("[server]\nport = 0\nrepository = /r\nping_interval = 0.05\n")
        self.store = Store(folder / "data", 1024)
        self.store.open()
        self.state = State(self.store, read_server(config))
        self.host = Host()
        calls = Calls(Client)
        self.dispatcher = Dispatcher(self.state, calls, self.host)
        self.watchdog = Watchdog(self.state, self.dispatcher, calls, self.host)
        for port in (1, 2):
            self.state.registry.register(Registration("127.0.0.1", port, f"agent-{port}", 1))


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.state.stop()
    room.store.close()


def test_every_agent_is_pinged_again_once_there_are_threads(room: Room) -> None:
    room.host.refuses = 3
    room.watchdog.start()
    wait_for(lambda: {"ping-127.0.0.1:1", "ping-127.0.0.1:2"} <= set(room.host.started))


def test_a_build_that_is_cancelled_meanwhile_does_not_come_back(room: Room) -> None:
    first = room.state.enqueue("main", "true")
    room.host.refuses, room.host.meanwhile = 1, lambda: room.dispatcher.cancel(first.id)
    with pytest.raises(RuntimeError):
        room.dispatcher.dispatch()
    assert room.state.load(first.id).status == CANCELLED
    assert room.state.queued() == []
    assert room.dispatcher.dispatch() is False


def test_a_cancellation_that_can_not_be_told_is_told_after_the_next_ping(room: Room) -> None:
    build = room.state.enqueue("main", "true")
    assert room.dispatcher.dispatch()
    room.host.refuses = 1
    room.dispatcher.cancel(build.id)
    assert room.state.load(build.id).status == RUNNING
    entry = room.state.unfinished_build(build.id)
    assert entry is not None and not entry.cancel_told
    agent = next(each for each in room.state._roster if each.assignments)
    answer = PingResult(room.state.clock(), True, running=(AttemptId(build.id, 1),), undelivered=())
    room.watchdog.pinged(agent, answer)
    assert entry.cancel_told and f"cancel-{build.id}" in room.host.started


def test_a_connection_that_gets_no_thread_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def as_it_is(request: Request, error: HttpError) -> Response:
        return Response(error.status)

    route = Route("GET", "/", lambda request: Response(body=b"here"), "people")
    listener = Listener("127.0.0.1", 0, Application([route], lambda request: None, as_it_is))
    listener.start()
    address = ("127.0.0.1", listener.server_port)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with socket.create_connection(address, timeout=30) as refused:
                assert refused.recv(1) == b""
    with socket.create_connection(address, timeout=30) as served:
        served.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert served.recv(12) == b"HTTP/1.1 200"
        assert len(listener.admission._open) == 1
    listener.stop()
