"""Threads for calls that nobody waits for: `minici/thread_pool.py`."""

from __future__ import annotations

import logging
import threading

import pytest

from minici.thread_pool import ThreadPool
from tests.support.harness import wait_for


def test_slow_calls_delay_no_other() -> None:
    pool, gate, done = ThreadPool(), threading.Event(), threading.Event()
    for _ in range(50):
        pool("slow", lambda: gate.wait(30))
    pool("quick", done.set)
    assert done.wait(30)
    gate.set()


def test_a_thread_that_has_ended_its_call_takes_the_next() -> None:
    pool, seen = ThreadPool(idle_seconds=60), []
    for count in range(1, 6):
        pool("note", lambda: seen.append(threading.get_ident()))
        wait_for(lambda: len(seen) == count and len(pool._idle) == 1)
    assert len(set(seen)) == 1


def test_a_thread_that_waits_in_vain_ends() -> None:
    before, done = threading.active_count(), threading.Event()
    pool = ThreadPool(idle_seconds=0.01)
    pool("note", done.set)
    assert done.wait(30)
    wait_for(lambda: threading.active_count() == before, what="the end of its thread")
    done.clear()
    pool("note", done.set)
    assert done.wait(30)


def test_a_call_that_fails_is_in_the_log_and_the_next_one_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool, done = ThreadPool(), threading.Event()
    with caplog.at_level(logging.ERROR):
        pool("the division", lambda: 1 // 0)
        wait_for(lambda: "the division failed" in caplog.text)
    pool("quick", done.set)
    assert done.wait(30)


def test_where_no_thread_can_be_started_the_call_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, seen = ThreadPool(), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            pool("note", lambda: seen.append("refused"))
    done = threading.Event()
    pool("quick", done.set)
    assert done.wait(30) and seen == []


def test_calls_from_many_threads_are_all_made() -> None:
    pool, lock, count = ThreadPool(), threading.Lock(), [0]

    def note() -> None:
        with lock:
            count[0] += 1

    def call() -> None:
        for _ in range(200):
            pool("note", note)

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    wait_for(lambda: count[0] == 2000, what="2000 calls")
