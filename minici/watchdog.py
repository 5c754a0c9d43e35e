"""The watchdog: pings every agent, and has the Dispatcher draw the conclusions."""

from __future__ import annotations

import logging
import threading
import time

from minici.calls import AgentCalls
from minici.dispatch import Dispatcher
from minici.roster import Agent, Pinged

log = logging.getLogger("minici.watchdog")

_LEAST_PAUSE = 0.05  # seconds: a thousand agents are pinged in groups, not one by one
_MOST_PAUSE = 0.25  # seconds: what is not a ping falls due by itself


class Watchdog:
    """One thread that watches; each ping runs beside it, so that a slow agent delays none."""

    def __init__(self, dispatcher: Dispatcher, calls: AgentCalls) -> None:
        self._dispatcher = dispatcher
        self._calls = calls
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._dispatcher.attention.set()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._dispatcher.attention.clear()
            try:
                for agent in self._dispatcher.due_pings():
                    self._ping_beside(agent)
                self._dispatcher.settle()
            except Exception:
                log.exception("the watchdog stumbled, and goes on")
            pause = min(_MOST_PAUSE, self._dispatcher.pause())
            if not self._dispatcher.attention.wait(_LEAST_PAUSE):
                self._dispatcher.attention.wait(max(0.0, pause - _LEAST_PAUSE))

    def _ping_beside(self, agent: Agent) -> None:
        name = f"ping-{agent.address}"
        threading.Thread(target=self._ping, args=(agent,), name=name, daemon=True).start()

    def _ping(self, agent: Agent) -> None:
        ping = Pinged(time.monotonic(), answered=False)
        try:
            ping = self._calls.ping(agent)
        except Exception:
            log.exception("the ping of %s stumbled", agent.address)
        self._dispatcher.pinged(agent, ping)
