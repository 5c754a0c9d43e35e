"""The log: nobody waits for its reader, and what is lost is counted."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Callable

import pytest

from minici import log_handler
from minici.log_handler import BackgroundHandler
from tests.support.harness import ROOT, wait_for

LOST = re.compile(rb"WARNING (\d+) lines of this log are lost")


class Pipe:
    """A pipe with a log at one end; what has been read of it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.log = logging.Logger("test")
        self.log.addHandler(BackgroundHandler(self.writer))
        self.data = b""

    def read_until(self, condition: Callable[[], object]) -> None:
        os.set_blocking(self.reader, False)

        def read() -> object:
            try:
                self.data += os.read(self.reader, 1 << 20)
            except BlockingIOError:
                pass
            return condition()

        wait_for(read, 20, "the end of the log")

    def lost(self) -> int:
        return sum(int(number) for number in LOST.findall(self.data))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reader)


def test_a_line_is_written_as_it_is_logged(pipe: Pipe) -> None:
    pipe.log.info("ключ %s\n%s", "\udce9", "x")
    pipe.read_until(lambda: pipe.data.endswith(b"\n"))
    assert pipe.data.endswith(" INFO ключ \\xdce9\\x0ax\n".encode())


def test_nobody_waits_and_what_is_lost_is_counted(pipe: Pipe) -> None:
    text = "x" * 100
    begun = time.monotonic()
    for number in range(20_000):
        pipe.log.info("line %d %s", number, text)
    assert time.monotonic() - begun < 10
    pipe.log.handlers[0].flush()
    pipe.read_until(lambda: LOST.search(pipe.data))
    pipe.log.info("the end")
    pipe.read_until(lambda: b"the end" in pipe.data)
    numbers = [int(number) for number in re.findall(rb"line (\d+) x", pipe.data)]
    assert numbers == list(range(len(numbers))), "the oldest are kept, in order"
    assert 1_000 < len(numbers) < 20_000 and len(numbers) + pipe.lost() == 20_000
    lines = pipe.data.splitlines()
    assert LOST.search(lines[-2]) and lines[-1].endswith(b"the end")


def test_lines_that_fail_are_counted_and_the_process_rests(pipe: Pipe) -> None:
    unwritable, kept = os.open(os.devnull, os.O_RDONLY), os.dup(pipe.writer)
    os.dup2(unwritable, pipe.writer)
    for _ in range(5):
        pipe.log.info("nowhere")
        pipe.log.handlers[0].flush()
    used = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - used < 0.25, "it tries again only with the next line"
    os.dup2(kept, pipe.writer)
    pipe.log.info("again")
    pipe.read_until(lambda: b"again" in pipe.data)
    pipe.log.info("last")
    pipe.read_until(lambda: b"last" in pipe.data)
    assert pipe.lost() == 5 and b"nowhere" not in pipe.data


def test_a_descriptor_that_somebody_has_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    for number in range(3000):
        pipe.log.info("line %d %s", number, "x" * 100)
    pipe.log.info("the end")
    pipe.read_until(lambda: b"the end" in pipe.data)
    assert len(re.findall(rb"line \d+ x", pipe.data)) == 3000 and not pipe.lost()


def test_many_threads_lose_nothing(pipe: Pipe) -> None:
    def write(name: int) -> None:
        for number in range(200):
            pipe.log.info("line %d-%d", name, number)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    pipe.read_until(lambda: len(re.findall(rb"line \d-\d+\n", pipe.data)) == 1600)


def test_a_traceback_keeps_its_lines(pipe: Pipe) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        pipe.log.exception("failed")
    pipe.read_until(lambda: pipe.data.endswith(b"lines\n"))
    assert b"failed\nTraceback (most recent call last):\n" in pipe.data


def test_a_traceback_whose_source_can_not_be_read(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that was replaced meanwhile is unpacked to anything."""

    def broken(*_: object) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")

    monkeypatch.setattr(logging.Formatter, "formatException", broken)
    try:
        raise ValueError("the value")
    except ValueError:
        pipe.log.exception("failed")
    pipe.read_until(lambda: pipe.data.endswith(b"ValueError: the value\n"))


_ENDS = """
import sys
from minici.daemon import run
def main(path, stop):
    import logging, threading
    def fail():
        raise KeyError("in a thread")
    thread = threading.Thread(target=fail, name="some")
    thread.start()
    thread.join()
    for number in range(1000):
        logging.info("line %d", number)
    raise ZeroDivisionError("the end")
sys.exit(run(main, ["x"], "", ""))
"""


def test_a_process_writes_its_log_to_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ENDS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert sum(" INFO line " in line for line in lines) == 1000
    assert "KeyError: 'in a thread'" in lines and lines[-1] == "ZeroDivisionError: the end"
    assert any("the thread some ends" in line for line in lines)


def test_the_end_does_not_wait_for_a_reader(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_handler, "_FLUSH_SECONDS", 0.2)
    pipe.log.info("%s", "x" * 500_000)
    begun = time.monotonic()
    pipe.log.handlers[0].flush()
    assert 0.1 < time.monotonic() - begun < 5


def test_lines_that_follow_soon_are_written_together(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests, goes_on = threading.Event(), threading.Event()
    writes: list[bytes] = []

    def rest(_: float) -> None:
        rests.set()
        goes_on.wait(20)

    def write(_: int, data: bytes) -> None:
        writes.append(data)

    monkeypatch.setattr(log_handler, "time", SimpleNamespace(sleep=rest))
    monkeypatch.setattr(log_handler, "write_waiting", write)
    pipe.log.info("first")
    assert rests.wait(20)
    for number in range(100):
        pipe.log.info("line %d", number)
    assert len(writes) == 1 and writes[0].endswith(b"first\n"), "which nothing has held back"
    goes_on.set()
    pipe.log.handlers[0].flush()
    assert len(writes) == 2 and writes[1].count(b"\n") == 100
