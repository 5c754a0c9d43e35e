"""The builds that an agent has."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

from minici.build import AttemptId
from minici.executor.inventory import (
    DELIVER,
    DROP,
    GIVE_BACK,
    Inventory,
    NoSlot,
    RunningBuild,
)
from minici.executor.order import Order
from minici.executor.outbox import Outbox, PendingResult
from tests.support.results import SUCCESS


def order(number: int, attempt: int = 1) -> Order:
    return Order(AttemptId(number, attempt), "/repository", "HEAD", "true", 60.0, 1000, "http://x/")


def finish(inventory: Inventory, outbox: Outbox, running: RunningBuild) -> PendingResult:
    entry = outbox.add(running.folder, running.order.attempt_id, SUCCESS, 1000, {})
    inventory.finish(running, entry)
    return entry


def test_a_build_goes_from_one_list_to_the_other(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=1)
    assert inventory.accept(order(1))
    running = inventory.take()
    assert running is not None and inventory.snapshot() == ([(1, 1)], [])
    assert not inventory.accept(order(1)), "it is here already"
    with pytest.raises(NoSlot, match="slot"):
        inventory.accept(order(1, 2))
    entry = finish(inventory, outbox, running)
    assert inventory.snapshot() == ([], [(1, 1)])
    assert not inventory.accept(order(1)), "its result waits"
    assert inventory.accept(order(2)), "the slot is free before the result is delivered"
    assert inventory.next_undelivered() == entry
    inventory.settle(entry)
    assert inventory.snapshot() == ([(2, 1)], [])


def test_stopping_a_build(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=3)
    for each in (order(1), order(1, 2), order(2)):
        inventory.accept(each)
    first, second, other = (inventory.take() for _ in range(3))
    assert first and second and other
    assert not inventory.stop(3, None, "x", DELIVER)
    assert not inventory.stop(1, 3, "x", DELIVER)
    assert inventory.stop(1, 2, "cancelled", DELIVER)
    assert (first.stop.reason, second.stop.reason) == (None, "cancelled")
    assert inventory.stop(1, None, "elsewhere", DROP)
    assert (first.stop.reason, first.if_stopped) == ("elsewhere", DROP)
    assert (second.stop.reason, second.if_stopped) == ("cancelled", DELIVER), "the first counts"
    finish(inventory, outbox, other)
    assert inventory.stop(2, 1, "x", DELIVER), "it is here, and has ended"


def test_closing_gives_everything_back_and_takes_nothing_more(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=2)
    inventory.accept(order(1))
    running = inventory.take()
    assert running is not None
    waiting: list[Any] = []
    thread = threading.Thread(target=lambda: waiting.append(inventory.take()))
    thread.start()
    inventory.close()
    thread.join(10)
    assert waiting == [None]
    assert (running.if_stopped, running.stop.reason) == (GIVE_BACK, "the agent stops")
    assert inventory.slots == 0
    with pytest.raises(NoSlot, match="stops"):
        inventory.accept(order(2))
    inventory.drop(running)
    inventory.drop(running)
    assert inventory.snapshot() == ([], []) and not running.folder.exists()


def test_no_snapshot_misses_a_build(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=1)
    stop = threading.Event()
    seen: list[Any] = []

    def look() -> None:
        while not stop.is_set():
            seen.append(inventory.snapshot())

    thread = threading.Thread(target=look)
    inventory.accept(order(1))
    thread.start()
    for number in range(1, 50):
        running = inventory.take()
        assert running is not None
        finish(inventory, outbox, running)
        inventory.accept(order(number + 1))
        inventory.settle(inventory.next_undelivered())
    stop.set()
    thread.join()
    assert all(len(running) + len(undelivered) >= 1 for running, undelivered in seen)


def test_a_full_disk_takes_no_build(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    inventory = Inventory(outbox, slots=1)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "begin", full)
        with pytest.raises(OSError):
            inventory.accept(order(1))
    assert inventory.snapshot() == ([], []) and inventory.accept(order(1))
