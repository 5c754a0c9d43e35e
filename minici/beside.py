"""Calls to agents run beside the threads that decide on them: a slow agent delays nobody.

A thousand agents are pinged five hundred times a second, so a thread that has ended its call waits
a while for the next one: to start a thread costs more than most calls.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Callable

log = logging.getLogger("minici.beside")

_PATIENCE = 10.0  # seconds that a thread waits for another call


class Beside:
    """Calls functions, each in a thread that does nothing else meanwhile. For any thread."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._changed = threading.Condition()  # guards what follows
        self._calls: deque[tuple[str, Callable[[], object]]] = deque()
        self._waiting = 0  # threads that have nothing to do

    def __call__(self, name: str, function: Callable[[], object]) -> None:
        """Have a function called, and logged under `name` if it fails. Does not wait for it.

        Raises RuntimeError where no thread can be started; it is then not called.
        """
        with self._changed:
            call = (name, function)
            self._calls.append(call)
            if self._waiting >= len(self._calls):
                self._changed.notify()
                return
            try:
                threading.Thread(target=self._serve, name="beside", daemon=True).start()
            except RuntimeError:
                self._calls.remove(call)
                raise

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._waiting += 1
                self._changed.wait_for(lambda: self._calls, self._patience)
                self._waiting -= 1
                if not self._calls:
                    return
                name, function = self._calls.popleft()
            try:
                function()
            except Exception:
                log.exception("%s failed", name)
