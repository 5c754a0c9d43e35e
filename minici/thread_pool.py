"""What may take long runs beside the thread that decides on it: a slow agent delays nobody.

A thousand agents are pinged five hundred times a second, so a thread that has ended its call waits
a while for the next one: to start a thread costs more than most calls. And many threads at once
cost more than few, for each of them waits for the interpreter again and again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import Callable, Optional

log = logging.getLogger("minici.thread_pool")

_PATIENCE = 10.0  # seconds that a thread waits for another call
_HESITATION = 0.2  # seconds that a call waits for one of few threads
_FOR_ONE = 8  # calls that have waited for so long, for each thread that joins

_Call = tuple[str, Callable[[], object]]


class ThreadPool:
    """Calls functions, each in a thread that does nothing else meanwhile. For any thread.

    With `few`, so many threads share the calls. Where that is too slow, because some of them hang
    or all take long, others join them until nothing waits any more.
    """

    def __init__(self, few: Optional[int] = None, patience: float = _PATIENCE) -> None:
        self._few = few
        self._patience = patience
        self._lock = threading.Lock()  # guards what follows
        self._threads = 0  # all of them, those included that have no call
        self._joined = 0  # how many more than `few` may be busy
        # What brings a call to each thread that has none. The one that was busy last is taken
        # first, so that those that are too many have their rest, and end.
        self._idle: list[SimpleQueue[_Call]] = []
        # Calls without a thread, and since when each waits, on the monotonic clock.
        self._waiting: deque[tuple[float, _Call]] = deque()
        self._queued = threading.Event()  # some are waiting
        self._relief: Optional[threading.Thread] = None

    def __call__(self, name: str, function: Callable[[], object]) -> None:
        """Have a function called, and logged under `name` if it fails. Does not wait for it.

        Raises RuntimeError where no thread can be started; it is then not called.
        """
        call = (name, function)
        with self._lock:
            busy = self._threads - len(self._idle)
            if self._few is None or busy < self._few + self._joined:
                self._hand(call)
            else:
                self._queue(call)

    def _queue(self, call: _Call) -> None:
        """Leave a call to the threads that there are. The lock is held by the caller."""
        if self._relief is None:
            self._relief = _started(self._relieve)
        self._waiting.append((time.monotonic(), call))
        self._queued.set()

    def _hand(self, call: _Call) -> None:
        """Give a call to a thread that has none. The lock is held by the caller."""
        if self._idle:
            self._idle.pop().put(call)
        else:
            _started(lambda: self._serve(call))
            self._threads += 1

    def _serve(self, first: _Call) -> None:
        call: Optional[_Call] = first
        inbox: SimpleQueue[_Call] = SimpleQueue()
        while call is not None:
            name, function = call
            try:
                function()
            except Exception:
                log.exception("%s failed", name)
            call = self._next(inbox)

    def _next(self, inbox: SimpleQueue[_Call]) -> Optional[_Call]:
        """A thread's next call, or None if there was none for a while."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()[1]
            self._joined = max(0, self._joined - 1)
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=self._patience)
        except Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    self._threads -= 1
                    return None
            return inbox.get()  # it has been brought in this moment

    def _relieve(self) -> None:
        """Let more threads join while calls wait too long, for as long as this process lives."""
        while self._queued.wait():
            time.sleep(_HESITATION)
            with self._lock:
                try:
                    self._let_join(time.monotonic() - _HESITATION)
                except RuntimeError as error:
                    log.error("%d calls wait for a thread: %s", len(self._waiting), error)
                if not self._waiting:
                    self._queued.clear()

    def _let_join(self, before: float) -> None:
        overdue = sum(since <= before for since, _ in self._waiting)
        for _ in range(-(-overdue // _FOR_ONE)):
            self._hand(self._waiting[0][1])
            self._waiting.popleft()
            self._joined += 1


def _started(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, name="beside", daemon=True)
    thread.start()
    return thread
