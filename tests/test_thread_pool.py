"""Threads for calls that nobody waits for: `minici/thread_pool.py`."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from minici.thread_pool import ThreadPool
from tests.support.harness import wait_for


def test_slow_calls_delay_no_other() -> None:
    beside, gate, done = ThreadPool(), threading.Event(), threading.Event()
    for _ in range(50):
        beside("slow", lambda: gate.wait(30))
    beside("quick", done.set)
    assert done.wait(30)
    gate.set()


def test_a_thread_that_has_ended_its_call_takes_the_next() -> None:
    beside, seen = ThreadPool(patience=60), []
    for count in range(1, 6):
        beside("note", lambda: seen.append(threading.get_ident()))
        wait_for(lambda: len(seen) == count and len(beside._idle) == 1)
    assert len(set(seen)) == 1


def test_few_threads_share_what_is_quick() -> None:
    beside, seen, lock = ThreadPool(few=2), [], threading.Lock()

    def note() -> None:
        with lock:
            seen.append(threading.get_ident())

    for _ in range(100):
        beside("note", note)
    wait_for(lambda: len(seen) == 100, what="100 calls")
    assert len(set(seen)) <= 2


@pytest.mark.parametrize("hanging", [1, 2, 50])
def test_where_few_hang_others_join(hanging: int) -> None:
    beside, gate, done = ThreadPool(few=1, patience=0.5), threading.Event(), threading.Semaphore(0)
    before = threading.active_count()
    for _ in range(hanging):
        beside("slow", lambda: gate.wait(60))
    for _ in range(100):
        beside("quick", done.release)
    for _ in range(100):
        assert done.acquire(timeout=60)
    gate.set()
    # None of those that joined stays, nor may join again: only what lets them join is left.
    wait_for(lambda: threading.active_count() <= before + 1, what="the end of those that joined")
    assert beside._joined == 0


def test_those_that_joined_leave_it_to_few_again() -> None:
    beside, gate, seen, lock = ThreadPool(few=1), threading.Event(), [], threading.Lock()
    for _ in range(5):
        beside("slow", lambda: gate.wait(60))
    wait_for(lambda: len(beside._waiting) == 0, what="all five in threads of their own")
    gate.set()
    wait_for(lambda: len(beside._idle) == 5, what="five threads without a call")

    def note() -> None:
        with lock:
            seen.append(threading.get_ident())
        time.sleep(0.001)

    for _ in range(50):
        beside("note", note)
    wait_for(lambda: len(seen) == 50, what="50 calls")
    assert len(set(seen)) == 1


def test_where_none_can_join_the_calls_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    beside, gate, done = ThreadPool(few=1), threading.Event(), threading.Event()
    beside("quick", lambda: None)
    beside("slow", lambda: gate.wait(60))
    beside("another", lambda: gate.wait(60))
    wait_for(lambda: len(beside._waiting) == 0, what="one more thread")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        beside("last", done.set)
        wait_for(lambda: "1 calls wait for a thread" in caplog.text)
    assert done.wait(60)
    gate.set()


def test_a_thread_that_waits_in_vain_ends() -> None:
    before, done = threading.active_count(), threading.Event()
    beside = ThreadPool(patience=0.01)
    beside("note", done.set)
    assert done.wait(30)
    wait_for(lambda: threading.active_count() == before, what="the end of its thread")
    done.clear()
    beside("note", done.set)
    assert done.wait(30)


def test_a_call_that_fails_is_in_the_log_and_the_next_one_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beside, done = ThreadPool(), threading.Event()
    with caplog.at_level(logging.ERROR):
        beside("the division", lambda: 1 // 0)
        wait_for(lambda: "the division failed" in caplog.text)
    beside("quick", done.set)
    assert done.wait(30)


def test_where_no_thread_can_be_started_the_call_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    beside, seen = ThreadPool(), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            beside("note", lambda: seen.append("refused"))
    done = threading.Event()
    beside("quick", done.set)
    assert done.wait(30) and seen == []


def test_calls_from_many_threads_are_all_made() -> None:
    beside, lock, count = ThreadPool(), threading.Lock(), [0]

    def note() -> None:
        with lock:
            count[0] += 1

    def call() -> None:
        for _ in range(200):
            beside("note", note)

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    wait_for(lambda: count[0] == 2000, what="2000 calls")
