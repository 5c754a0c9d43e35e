"""Files that are replaced again and again, and what a crash leaves of them."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from minici import durable
from minici.build import Build
from minici.durable import forget_spare, read_whole, write_recycling
from minici.store import Store
from tests.support.crashes import Crash, crash_at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counter"


def test_what_is_replaced_becomes_the_next_file(path: Path) -> None:
    seen = []
    for number in range(1, 6):
        write_recycling(path, b"%d\n" % number)
        assert path.read_bytes() == b"%d\n" % number
        seen.append(path.stat().st_ino)
    assert len(set(seen)) == 2 and seen[0] != seen[1]
    assert sorted(os.listdir(path.parent)) == ["counter", "counter.tmp"]


def test_a_shorter_content_leaves_nothing_of_a_longer_one(path: Path) -> None:
    for content in (b"1000000\n", b"2000000\n", b"3\n", b"", b"4\n"):
        write_recycling(path, content)
        assert path.read_bytes() == content


def test_a_file_system_without_second_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    for number in range(3):
        write_recycling(path, b"%d\n" % number)
        assert os.listdir(path.parent) == ["counter"] and path.read_bytes() == b"%d\n" % number


@pytest.mark.parametrize("step", range(1, 10))
def test_a_crash_at_each_step_leaves_the_old_content_or_the_new(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write_recycling(path, b"1\n")
    write_recycling(path, b"2\n")
    with monkeypatch.context() as patch:
        crash_at(patch, step, ("open", "write", "ftruncate", "fsync", "link", "replace"))
        with pytest.raises(Crash):
            write_recycling(path, b"3\n")
    assert path.read_bytes() in (b"2\n", b"3\n")
    for number in range(4, 8):
        write_recycling(path, b"%d\n" % number)
        assert path.read_bytes() == b"%d\n" % number


def test_a_spare_that_is_the_file_itself_is_not_written_over(path: Path) -> None:
    """As a power cut may leave it, where one of two new names reached the disk."""
    write_recycling(path, b"1\n")
    os.link(path, path.parent / "counter.tmp")
    os.link(path, path.parent / "counter.old")
    kept = os.open(path, os.O_RDONLY)
    forget_spare(path)
    write_recycling(path, b"2\n")
    assert os.read(kept, 10) == b"1\n" and path.read_bytes() == b"2\n"
    os.close(kept)


def test_a_server_forgets_the_spare_when_it_starts(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("7\n")
    os.link(tmp_path / "counter", tmp_path / "counter.tmp")
    store = Store(tmp_path, 1000)
    store.open()
    kept = os.open(tmp_path / "counter", os.O_RDONLY)
    assert store.create(build).id == 8
    assert os.read(kept, 10) == b"7\n"
    os.close(kept)
    store.close()


def build(number: int) -> Build:
    return Build(number, "main", "true", "/repository", "2026-01-01T00:00:00Z")


def test_the_marks_are_names_of_one_empty_file(tmp_path: Path) -> None:
    store = Store(tmp_path, 1000)
    store.open()
    for _ in range(3):
        store.create(build)
    marks = [(tmp_path / "unfinished" / name).stat() for name in "123"]
    assert len({mark.st_ino for mark in marks}) == 1 and {mark.st_size for mark in marks} == {0}
    store.close()


def test_a_mark_is_made_where_it_can_not_be_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, 1000)
    store.open()
    (tmp_path / "mark").unlink()
    store.create(build)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EMLINK, "")))
    store.create(build)
    assert sorted(os.listdir(tmp_path / "unfinished")) == ["1", "2"]
    store.close()
    again = Store(tmp_path, 1000)
    assert [found.id for found in again.open()] == [1, 2]
    again.close()


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 7])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert read_whole(tmp_path / "file") == content
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_nothing_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for number in range(3):
        write_recycling(tmp_path / "counter", b"%d\n" % number)
        read_whole(tmp_path / "counter")
    with pytest.raises(OSError):
        read_whole(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


class FullSync:
    """Stands for the call of macOS that waits for the disk; `error` is what it answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int = 0) -> None:
        self.calls: list[str] = []
        self._error = error
        self._fsync = os.fsync
        monkeypatch.setattr(durable, "_F_FULLFSYNC", 51)
        monkeypatch.setattr(fcntl, "fcntl", self.fcntl)
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fcntl(self, descriptor: int, command: int) -> int:
        assert command == 51
        self.calls.append("full")
        if self._error:
            raise OSError(self._error, os.strerror(self._error))
        return 0

    def fsync(self, descriptor: int) -> None:
        self.calls.append("fsync")
        self._fsync(descriptor)


def test_where_fsync_stops_at_the_drive_what_goes_further_is_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = FullSync(monkeypatch)
    write_recycling(path, b"1\n")
    assert full.calls == ["full", "full"]  # the file, then the folder


def test_a_file_system_that_can_not_go_further_is_synced_as_far_as_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = FullSync(monkeypatch, errno.ENOTSUP)
    write_recycling(path, b"1\n")
    assert full.calls == ["full", "fsync"] * 2


def test_a_disk_that_fails_is_not_asked_until_it_says_yes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = FullSync(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_recycling(path, b"1\n")
    assert full.calls == ["full"] and not path.exists()


def test_everything_is_synced_the_same_way() -> None:
    """Else something would be safe on one system only."""
    package = Path(durable.__file__).parent
    found = list(package.rglob("*.py"))
    assert len(found) > 60
    callers = [file.name for file in found if "fsync(" in file.read_text("utf-8")]
    assert callers == ["durable.py"]
