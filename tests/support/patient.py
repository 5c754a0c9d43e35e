"""What has to be waited for for a minute: begun with the first test, looked at by the last ones."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Optional

from tests.support.fakes import HANG, FakeAgent, FakeServer
from tests.support.harness import Place, wait_for


class Curt:
    """A port that accepts, and closes at once: the times at which somebody came."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                self.times.append(time.monotonic())
                caller.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Held:
    """A port at which nobody listens, and which the system lends to nobody else meanwhile."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it can be taken by name
        self.socket.bind(("127.0.0.1", port))

    def close(self) -> None:
        self.socket.close()


class Patient:
    """Three agents whose servers are late in three ways, and a build that is overdue."""

    def __init__(self, place: Place) -> None:
        self.begun = time.monotonic()
        self.absent = place.keep(FakeServer())
        self.absent.close()
        place.keep(Held(int(self.absent.address.rpartition(":")[2])))
        self.mute = place.keep(FakeServer())
        self.mute.script_always("/notify_agent", HANG)
        self.curt = place.keep(Curt())
        self.agents = {
            name: place.configure_agent(server)
            for name, server in (("absent", self.absent), ("mute", self.mute), ("curt", self.curt))
        }
        for agent in self.agents.values():
            agent.launch()
        self.server = place.configure_server(build_timeout="1s", agent_timeout="5m", max_attempts=1)
        self.server.launch()
        self.stuck = place.keep(FakeServer())
        self.stuck.script("/notify_build_result", HANG)
        self.deliverer = place.configure_agent(self.stuck)
        self.deliverer.launch()
        self.place = place
        self.holder: Optional[FakeAgent] = None
        threading.Thread(target=self._hold, daemon=True).start()

    def _hold(self) -> None:
        """An agent that says for ever that it runs a build; and a result that meets silence."""
        self.deliverer.wait_ready()
        about = {"id": 1, "repository": self.place.repository.path, "commit": "HEAD"}
        self.deliverer.post("/build", {**about, "command": "echo delivered"})
        self.server.wait_ready()
        self.server.start_build()
        self.holder = self.place.keep(FakeAgent(self.server, "holder"))

    def wait_minute(self) -> None:
        wait_for(lambda: time.monotonic() - self.begun > 60, 90, "a minute")
