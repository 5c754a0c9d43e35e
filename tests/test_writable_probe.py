"""The look at the disk behind /healthz: `WritableProbe` and `Store.check_writable`."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from minici import store as store_module
from minici.build import Build
from minici.durable import WritableProbe
from minici.store import Store, StoreUnavailable


def test_many_who_ask_at_once_share_one_look() -> None:
    looks, gate, begun = [0], threading.Event(), threading.Event()

    def look() -> None:
        looks[0] += 1
        begun.set()
        gate.wait(30)

    probe = WritableProbe(look)
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(probe.check) for _ in range(50)]
        assert begun.wait(30)
        gate.set()
        for each in asked:
            each.result(30)
    assert looks == [1]


def test_a_result_holds_for_a_second() -> None:
    time, error = [100.0], [OSError(errno.ENOSPC, "No space left on device")]

    def look() -> None:
        if error:
            raise error[0]

    probe = WritableProbe(look, lambda: time[0])
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            probe.check()
    error.clear()
    time[0] += 0.9
    with pytest.raises(OSError, match="No space left"):
        probe.check()
    time[0] += 0.2
    probe.check()


def test_fault_63_a_start_that_shows_the_opposite_ends_a_result(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check_writable()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "")))
        with pytest.raises(StoreUnavailable):
            store.create(build)
        with pytest.raises(StoreUnavailable):
            store.check_writable()
    store.create(build)
    store.check_writable()


def build(number: int) -> Build:
    return Build(number, "main", "true", "/r", "now")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "data", 1000)
    store.open()
    return store


def files(store: Store) -> set[Path]:
    return set(store.folder.rglob("*"))


def test_fault_63_a_look_leaves_nothing_and_survives_a_crash(store: Store) -> None:
    before = files(store)
    store.check_writable()
    assert files(store) == before
    (store.folder / "probe").touch()
    (store.folder / "unfinished/probe").touch()
    (store.folder / "builds/probe/build.json").mkdir(parents=True)
    store.close()
    again = Store(store.folder, 1000)
    assert again.open() == [] and list(again.ids()) == []
    again.check_writable()
    assert files(again) == before
    again.close()


@pytest.mark.parametrize("call", ["mkdir", "link", "open", "fsync", "replace"])
def test_fault_63_what_stops_a_start_stops_the_look(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """No inodes, no space, or a folder where nobody may write: each is seen."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def unlinkable(*_: object, **__: object) -> None:
        refuse()

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        if call == "mkdir":  # which Python 3.9 looks up once
            patch.setattr(store_module.Path, "mkdir", unlinkable)
        if call == "link":  # the mark is made as a file then, and that fails as well
            patch.setattr(store_module.Path, "touch", unlinkable)
        with pytest.raises(StoreUnavailable):
            store.check_writable()
    assert list(store.folder.glob("*/probe*")) == []


def test_fault_63_a_look_that_holds_the_last_of_the_space_stops_no_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate, real = threading.Event(), threading.Event(), store_module.Path.mkdir

    def mkdir(path: Path, *rest: Any, **more: Any) -> None:
        if path.name in ("1", "2") and (path.parent / "probe").exists():
            gate.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *rest, **more)
        if path.name == "probe":
            begun.set()
            assert gate.wait(30)
            time.sleep(0.05)  # not gone at once

    monkeypatch.setattr(store_module.Path, "mkdir", mkdir)
    with ThreadPoolExecutor(1) as pool:
        looked = pool.submit(store.check_writable)
        assert begun.wait(30)
        made = store.create(build)
        looked.result(30)
    assert [each.id for each in store.page(None, 9).records if each] == [made.id]
