"""Threads for calls that may take long: a slow agent delays nobody.

A thousand agents are pinged five hundred times a second, so a thread that has ended its call waits
a while for the next one: to start a thread costs more than most calls.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Callable, TypeVar

log = logging.getLogger("minici.thread_pool")

_IDLE_SECONDS = 10.0

_T = TypeVar("_T")
_Call = tuple[str, Callable[[], object]]


def for_each(action: Callable[[_T], object], items: Iterable[_T], threads: int) -> None:
    """Call `action` with each item, in several threads at once, and wait for all of them.

    Raises what a call has raised; no other call is then begun.
    """
    waiting, lock = deque(items), threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        while not failures:
            with lock:
                if not waiting:
                    return
                item = waiting.popleft()
            try:
                action(item)
            except Exception as error:
                failures.append(error)

    others = [
        threading.Thread(target=work, name="each", daemon=True)
        for _ in range(min(threads, len(waiting)) - 1)
    ]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]


class ThreadPool:
    """Calls functions, each in a thread that does nothing else meanwhile. Any thread may use it.

    A thread ends when no call has come for it in `idle_seconds`.
    """

    def __init__(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()  # guards _idle
        # The queues of the threads without a call. The one that was busy last is taken first, so
        # that those that are too many end.
        self._idle: list[SimpleQueue[_Call]] = []

    def __call__(self, name: str, function: Callable[[], object]) -> None:
        """Call a function in the background; if it fails, the log says so under `name`.

        Raises RuntimeError where no thread can be started; it is then not called.
        """
        call = (name, function)
        with self._lock:
            if self._idle:
                self._idle.pop().put(call)
                return
        threading.Thread(target=self._serve, args=(call,), name="pool", daemon=True).start()

    def _serve(self, call: _Call) -> None:
        calls: SimpleQueue[_Call] = SimpleQueue()
        calls.put(call)
        while True:
            try:
                name, function = calls.get(timeout=self._idle_seconds)
            except Empty:
                with self._lock:
                    if calls in self._idle:
                        self._idle.remove(calls)
                        return
                name, function = calls.get()  # it has come in this moment
            try:
                function()
            except Exception:
                log.exception("%s failed", name)
            with self._lock:
                self._idle.append(calls)
