"""Real processes, real git and real sockets for the tests: everything here is from outside.

Nothing of the package is imported: the tests hold what the contract says, whoever wrote it.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from tests.support.processes import AgentProcess, Ground, Minici, ServerProcess
from tests.support.proxy import Proxy
from tests.support.repositories import Repository
from tests.support.system import (
    CRASH_HOOK,
    FINAL,
    ROOT,
    Setting,
    commands_left,
    environment,
    holds_for,
    marked,
    render_config,
    wait_for,
)

__all__ = [
    "CRASH_HOOK",
    "FINAL",
    "ROOT",
    "AgentProcess",
    "Ground",
    "Minici",
    "Place",
    "ServerProcess",
    "Setting",
    "commands_left",
    "environment",
    "holds_for",
    "marked",
    "render_config",
    "wait_for",
]

T = TypeVar("T")


class Place(Ground):
    """All that one test starts: a folder, a marker, and what must be ended again."""

    living: list[Place] = []

    def __init__(self, folder: Path, repository: Repository) -> None:
        self.folder = folder
        self.repository = repository
        self.marker = uuid.uuid4().hex
        self.home = folder / "home"
        self.elsewhere = folder / "elsewhere"
        self.processes: list[Minici] = []
        self.closed_at_end: list[Any] = []
        self.tracebacks_expected = False
        for needed in (self.home, self.elsewhere):
            needed.mkdir()
        Place.living.append(self)

    def configure_server(
        self, env: Optional[Mapping[str, str]] = None, **settings: Any
    ) -> ServerProcess:
        """A server that is not started yet."""
        name = f"server{sum(isinstance(p, ServerProcess) for p in self.processes) + 1}"
        quick: dict[str, Setting] = {
            "port": 0,
            "repository": self.repository.path,
            "data": self.folder / f"{name}-data",
            "ping_interval": "0.2s",
        }
        server = ServerProcess(self, name, {"server": {**quick, **settings}}, env)
        self.processes.append(server)
        return server

    def server(self, env: Optional[Mapping[str, str]] = None, **settings: Any) -> ServerProcess:
        server = self.configure_server(env, **settings)
        server.start()
        return server

    def configure_agent(
        self,
        server: Union[str, int, Any],
        env: Optional[Mapping[str, str]] = None,
        **settings: Any,
    ) -> AgentProcess:
        """An agent that is not started yet; `server` is an address or has an `address`."""
        name = f"agent{sum(isinstance(p, AgentProcess) for p in self.processes) + 1}"
        quick: dict[str, Setting] = {
            "port": 0,
            "server": getattr(server, "address", server),
            "data": self.folder / f"{name}-data",
        }
        agent = AgentProcess(self, name, {"agent": {**quick, **settings}}, env)
        self.processes.append(agent)
        return agent

    def agent(
        self,
        server: Union[str, int, Any],
        env: Optional[Mapping[str, str]] = None,
        **settings: Any,
    ) -> AgentProcess:
        """A started agent; where `server` is a real one, it is registered there already."""
        agent = self.configure_agent(server, env, **settings)
        known = len(server.agents()) if isinstance(server, ServerProcess) else 0
        agent.start()
        if isinstance(server, ServerProcess):
            server.wait_agents(known + 1)
        return agent

    def proxy(self, port: int) -> Proxy:
        return self.keep(Proxy(port))

    def keep(self, what: T) -> T:
        """Have `what.close()` called at the end of the test."""
        self.closed_at_end.append(what)
        return what

    def logs(self) -> list[tuple[str, str]]:
        """The logs, without the questions that `wait_for` asks again and again."""
        return [
            (
                f"log of {each.name}",
                "\n".join(line for line in each.log().splitlines() if " GET /" not in line)[-8000:],
            )
            for each in self.processes
        ]

    def close(self) -> list[str]:
        """End everything; return what should not have been there."""
        Place.living.remove(self)
        for process in self.processes:
            if process.alive:
                process.resume()
                process.kill()
        for each in self.closed_at_end:
            each.close()
        return self._strays() + self._tracebacks()

    def _strays(self) -> list[str]:
        try:
            wait_for(lambda: not marked(self.marker), 10)
        except AssertionError:
            left = marked(self.marker)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return [f"process {pid} outlived its agent: {line}" for pid, line in left.items()]
        return []

    def _tracebacks(self) -> list[str]:
        if self.tracebacks_expected:
            return []
        return [
            f"a traceback in the log of {each.name}: ...{found[1][:3000]}"
            for each in self.processes
            if len(found := each.log().split("Traceback (most recent call last)", 1)) > 1
        ]
