"""The one loop of an agent that does something again and again, and later and later on failures.

It registers, delivers results, streams output and looks after an agent in trouble: section 5 of
the contract, rules 9, 10 and 21.
"""

from __future__ import annotations

import logging
import threading
from typing import Callable, Optional

from minici.web.client import Backoff, CallError

log = logging.getLogger(__name__)


class RetryLoop:
    """Calls `step` in a thread of its own, which `start` begins.

    `step` returns the seconds until the next call, or None when there is nothing more to do. When
    it raises CallError or OSError, `failed` is told and the step is repeated after a backoff; any
    other exception goes to the log, too. `hurry` and `stop` are for any thread.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Optional[float]],
        failed: Callable[[Exception], None],
        backoff: Optional[Backoff] = None,
    ) -> None:
        self._step = step
        self._failed = failed
        self._backoff = backoff or Backoff()
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """End the wait for the next call of `step`."""
        self._woken.set()

    def stop(self) -> None:
        """Call `step` no more; does not wait for a call under way."""
        self._stopping = True
        self._woken.set()

    def run(self) -> bool:
        """Do in the calling thread what `start` does in another; False if it was stopped."""
        while not self._stopping:
            try:
                pause = self._step()
                if pause is None:
                    return True
                self._backoff.reset()
            except (CallError, OSError) as error:
                self._failed(error)
                pause = self._backoff.next()
            except Exception as error:
                log.exception("internal error in %s", self._thread.name)
                self._failed(error)
                pause = self._backoff.next()
            if pause > 0:
                self._woken.wait(pause)
                self._woken.clear()
        return False
