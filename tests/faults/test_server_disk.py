"""Fault 63: `/healthz` says exactly whether a start would work, and disturbs none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.harness import Place, ServerProcess

only_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk"
)
_ANSWER_HOLDS_SECONDS = 1.0


def starts(server: ServerProcess) -> int:
    return server.post("/api/builds", {"commit": "HEAD", "command": "true"}).status


class SmallDisk:
    """A file system of few pages and inodes, and what takes them up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=120", "none", str(folder)]
        subprocess.run(words, check=True)
        (folder / "fill").mkdir()
        self._pages = folder / "pages"
        self._pages.touch()

    def leave_inodes(self, count: int) -> None:
        fill = self.folder / "fill"
        while (left := os.statvfs(self.folder).f_ffree) != count:
            if left > count:
                (fill / str(time.monotonic_ns())).touch()
            else:
                next(fill.iterdir()).unlink()

    def leave_pages(self, count: int) -> None:
        status = os.statvfs(self.folder)
        size = self._pages.stat().st_size + (status.f_bfree - count) * status.f_bsize
        with open(self._pages, "r+b") as file:
            file.truncate(0)
            file.write(bytes(size))


@pytest.fixture
def disk(place: Place) -> Iterator[SmallDisk]:
    disk = SmallDisk(place.folder / "disk")
    try:
        yield disk
    finally:
        for process in place.processes:
            process.kill()
        subprocess.run(["umount", str(disk.folder)], check=True)


@only_root
@pytest.mark.parametrize("what", ["inodes", "pages"])
def test_fault_63_a_file_system_with_few_of_them_left(
    place: Place, disk: SmallDisk, what: str
) -> None:
    server = place.server(data=disk.folder / "data")
    assert server.get("/healthz").status == 200 and starts(server) == 201
    leave = {"inodes": disk.leave_inodes, "pages": disk.leave_pages}[what]
    seen = []
    for count in (1, 2, 3, 9, 0, 9):
        leave(count)
        time.sleep(_ANSWER_HOLDS_SECONDS)
        health = server.get("/healthz")
        seen.append((count, health.status, starts(server)))
        assert health.status == 200 or b"No space left" in health.body
    assert all((health, start) in ((200, 201), (503, 503)) for _, health, start in seen), seen
    assert [health for _, health, _ in seen[-3:]] == [200, 503, 200]


@only_root
def test_fault_63_many_who_ask_beside_starts(place: Place, disk: SmallDisk) -> None:
    """With room for these builds, and hardly more: the answers are all good ones."""
    server = place.server(data=disk.folder / "data")
    builds, done = 12, threading.Event()
    seen: set[int] = set()
    assert starts(server) == 201
    disk.leave_inodes(3 * builds + 3)

    def ask() -> None:
        while not done.is_set():
            seen.add(server.get("/healthz").status)

    with ThreadPoolExecutor(51) as pool:
        askers = [pool.submit(ask) for _ in range(50)]
        started = []
        for _ in range(builds):
            started.append(starts(server))
            time.sleep(0.1)
        done.set()
        for each in askers:
            each.result(30)
    assert started == [201] * builds and seen == {200}
