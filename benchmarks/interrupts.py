"""Signals that end a measure, and the moments at which they must wait.

A handler that raises leaves what it interrupts half done: a process that was being started would
be known to nobody then, and live on. For the main thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable


class _Interrupts:
    def __init__(self) -> None:
        self._wait = False
        self._waiting: list[Callable[[], object]] = []

    def handler(self, act: Callable[[], object]) -> Callable[..., None]:
        """A handler for `signal.signal` that calls `act`, which may raise, and which waits for
        the end of a block `put_off`."""

        def handle(*_: object) -> None:
            if self._wait:
                self._waiting.append(act)
            else:
                act()

        return handle

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Whatever comes within the block has its effect at the end of it."""
        self._wait = True
        try:
            yield
        finally:
            self._wait = False
            while self._waiting:
                self._waiting.pop(0)()


interrupts = _Interrupts()
