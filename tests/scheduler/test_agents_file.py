"""agents.json under many writers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from minici.config_file import read_server
from minici.scheduler.roster import Registration
from minici.scheduler.state import State
from minici.store import Store, StoreUnavailable


@pytest.fixture
def state(tmp_path: Path) -> State:
    config = tmp_path / "config.ini"
    config.write_text("[server]\nport = 0\nrepository = /r\n")
    store = Store(tmp_path / "data", 1024)
    store.open()
    return State(store, read_server(config))


def register(state: State, number: int) -> None:
    state.registry.register(Registration("127.0.0.1", number, f"agent-{number}", 1))
    assert number in ports(state), "written before whoever wanted it goes on"


def ports(state: State) -> list[int]:
    return [int(each["port"]) for each in state.store.load_agents()]


def test_many_that_register_at_once_share_their_writing(state: State) -> None:
    begun, gate, write = threading.Event(), threading.Event(), state.store.save_agents
    writes: list[int] = []

    def slow(records: Any) -> None:
        writes.append(len(records))
        begun.set()
        gate.wait(30)
        write(records)

    state.store.save_agents = slow  # type: ignore[method-assign]
    threads = [threading.Thread(target=register, args=(state, n)) for n in range(1, 101)]
    threads[0].start()
    begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(state.agents()) < 100:
        threads[-1].join(0.01)
    gate.set()
    for thread in threads:
        thread.join()
    assert sorted(ports(state)) == list(range(1, 101))
    assert writes[0] == 1 and len(writes) < 10


def test_what_could_not_be_written_is_written_by_the_next(state: State) -> None:
    write = state.store.save_agents

    def full(records: Any) -> None:
        raise StoreUnavailable("no space")

    state.store.save_agents = full  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        register(state, 1)
    state.store.save_agents = write  # type: ignore[method-assign]
    register(state, 2)
    assert ports(state) == [1, 2]


def test_an_agent_that_is_back_is_so_for_the_next_server_too(state: State) -> None:
    state.registry.register(Registration("127.0.0.1", 7, "agent", 1))
    (agent,) = state._roster
    with state._lock:
        state._roster.lost(agent, "silent", state.clock(), state.now())
    state.registry.save()
    assert state.store.load_agents()[0]["gone_since"]
    state.registry.register(Registration("127.0.0.1", 7, "agent", 1))
    assert not state.store.load_agents()[0].get("gone_since")


def test_an_agent_that_is_back_needs_no_disk(state: State) -> None:
    state.registry.register(Registration("127.0.0.1", 7, "agent", 1))
    (agent,) = state._roster

    def full(records: Any) -> None:
        raise StoreUnavailable("no space")

    state.store.save_agents = full  # type: ignore[method-assign]
    with state._lock:
        state._roster.lost(agent, "silent", state.clock(), state.now())
    state.registry.register(Registration("127.0.0.1", 7, "agent", 1))
    assert not agent.gone
