"""Retention: which builds are removed, and in what order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from minici.config_file import read_server
from minici.scheduler.agent_client import AgentClient
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.retention import Retention
from minici.scheduler.state import State
from minici.store import Store
from minici.web.client import Client

DAY = timedelta(days=1)


class Room:
    """A server's store and state without agents; `moment` is its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
        config = folder / "config.ini"
        config.write_text("[server]\nport = 0\nrepository = /r\n")
        self.store = Store(folder / "data", 1024)
        unfinished = self.store.open()
        self.state = State(self.store, read_server(config), now=self._now)
        self.state.restore(unfinished)
        self.dispatcher = Dispatcher(self.state, AgentClient(Client), lambda name, call: None)

    def _now(self) -> str:
        return self.moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def start(self, count: int = 1) -> list[int]:
        return [self.state.enqueue("main", "true").id for _ in range(count)]

    def end(self, *numbers: int) -> None:
        for number in numbers:
            self.dispatcher.cancel(number)

    def retention(self, keep_builds: int = 0, keep_days: float = 0.0) -> Retention:
        retention = Retention(
            self.store, self.state, keep_builds, keep_days, now=lambda: self.moment
        )
        retention.list_builds()
        return retention

    def kept(self) -> list[int]:
        return sorted(self.store.ids())


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.store.close()


def settle(retention: Retention) -> None:
    while retention.sweep():
        continue


def test_the_newest_final_builds_stay(room: Room) -> None:
    room.end(*room.start(5))
    retention = room.retention(keep_builds=2)
    settle(retention)
    assert room.kept() == [4, 5] and room.store.oldest == 4
    room.end(*room.start(30))
    assert retention.sweep() == 20, "a few at a time"
    settle(retention)
    assert room.kept() == [34, 35]


def test_an_unfinished_build_is_passed_and_goes_when_it_is_final(room: Room) -> None:
    numbers = room.start(6)
    room.end(*numbers[1:])
    retention = room.retention(keep_builds=2)
    settle(retention)
    assert room.kept() == [1, 5, 6] and room.store.oldest == 1
    room.end(1)
    settle(retention)
    assert room.kept() == [5, 6]


def test_builds_of_an_earlier_server_count(tmp_path: Path) -> None:
    first = Room(tmp_path)
    first.end(*first.start(4))
    first.store.close()
    room = Room(tmp_path)
    retention = room.retention(keep_builds=3)
    room.end(*room.start(1))
    settle(retention)
    assert room.kept() == [3, 4, 5]
    room.store.close()


def test_a_damaged_build_stays_and_is_no_obstacle(room: Room) -> None:
    room.end(*room.start(5))
    (room.folder / "data/builds/1/build.json").write_text("{")
    (room.folder / "data/builds/2/build.json").write_text('{"id": 2}')
    settle(room.retention(keep_builds=1))
    assert room.kept() == [1, 2, 5] and room.store.oldest == 1


def test_old_builds_go_and_an_unreadable_time_is_not_old(room: Room) -> None:
    room.end(*room.start(4))
    record = room.folder / "data/builds/2/build.json"
    record.write_text(record.read_text().replace(room._now(), "long ago"))
    retention = room.retention(keep_days=2)
    room.moment += DAY
    settle(retention)
    assert room.kept() == [1, 2, 3, 4]
    room.moment += 2 * DAY
    room.end(*room.start())
    settle(retention)
    assert 1 not in room.kept() and {2, 5} <= set(room.kept())


def test_a_gap_of_a_million_ids_is_no_obstacle(room: Room) -> None:
    room.end(*room.start(3))
    room.store.close()
    (room.folder / "data/counter").write_text("1000000\n")
    room = Room(room.folder)
    room.end(*room.start(3))
    retention = room.retention(keep_builds=1)
    for _ in range(20):
        retention.sweep()
    assert room.kept() == [1000003]
    room.store.close()
