"""The agent: `python -m minici.agent config.ini`, put together from its parts."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from minici.checkout.mirrors import Mirrors
from minici.checkout.upkeep import Upkeep
from minici.config import AgentConfig
from minici.config_file import read_agent
from minici.daemon import CanNotStart, Stop, announce, run, shown_url, warn_if_readable
from minici.durable import FolderLock
from minici.executor.endpoints import AgentEndpoints, error_as_json
from minici.executor.file_upload import SENDERS
from minici.executor.heartbeat import Heartbeat, route_to
from minici.executor.inventory import Inventory
from minici.executor.outbox import Outbox
from minici.executor.result_delivery import ResultDelivery
from minici.executor.self_check import SelfCheck
from minici.executor.slot import Slot, SlotSettings
from minici.process.account import Account
from minici.process.command import Supervisor
from minici.process.launcher import launcher
from minici.process.leftovers import end_leftovers
from minici.web import tls
from minici.web.client import Client
from minici.web.guard import AgentGuard, AllowedHosts
from minici.web.listener import Listener
from minici.web.routing import Application, Route

_KEPT_SECONDS = 2.0  # that a connection to the server is kept without a call
_STOP_SECONDS = 12.0  # for the commands to end, and their builds to be given back

log = logging.getLogger("minici.agent")

_SUMMARY = (
    "An agent checks commits out and runs commands for a server. The section [agent] of\n"
    "config.ini sets it up; `python -m minici init` writes one."
)


class Agent:
    """An agent and all its parts. `start` and `stop` are for the thread that made it.

    Raises CanNotStart, FolderLocked or ConfigError; nothing is then left running.
    """

    def __init__(self, config: AgentConfig) -> None:
        if shutil.which("git") is None:  # or every build that it takes would fail for it
            raise CanNotStart("git is missing: install it, or add its folder to PATH; start again")
        self._config = config
        context = tls.listening_as(config)
        trust = _trust(config)
        self._listener = self._listen(context)
        self._port = self._listener.server_port
        self._scheme = "http" if context is None else "https"
        self._name = config.name or f"{socket.gethostname()}:{self._port}"
        self.url = shown_url(config.host, self._port, context is not None)
        data = config.data or config.folder / f"minici-agent-{self._port}"
        try:
            self._lock, outbox, self._inventory = _open_data(data, config)
        except BaseException:
            self._listener.server_close()
            raise
        # Results and output come one after the other; what registers is not to hold a connection.
        client = Client(config.server, config.secret, trust, kept=_KEPT_SECONDS)
        files = Client(config.server, config.secret, trust, kept=_KEPT_SECONDS, most_kept=SENDERS)
        self._delivery = ResultDelivery(client, files, self._inventory, outbox)
        self._heartbeat = Heartbeat(
            Client(config.server, config.secret, trust), self._description, self._delivery.hurry
        )
        self._make_workers(_settings(config, data), outbox, client)
        self._listener.application = self._application(self._endpoints().routes())

    def _make_workers(self, settings: SlotSettings, outbox: Outbox, client: Client) -> None:
        data, slots, inherited = settings.data, self._config.slots, settings.inherited
        supervisor = Supervisor(data / "processes" / "self-check")
        self._self_check = SelfCheck(data, outbox, self._inventory, supervisor, inherited)
        mirrors = Mirrors(data / "mirrors")
        self._upkeep = Upkeep(
            data, mirrors, slots, self._config.keep_mirrors, inherited, settings.account
        )
        self._slots = [
            Slot(number, settings, mirrors, self._inventory, outbox, client, self._self_check)
            for number in range(slots)
        ]

    def _endpoints(self) -> AgentEndpoints:
        return AgentEndpoints(
            self._config.server,
            self._name,
            self._inventory,
            self._heartbeat,
            self._self_check,
            self._upkeep.disk_usage,
        )

    def start(self) -> None:
        launcher.adopt_orphans()
        for slot in self._slots:
            slot.start()
        self._self_check.start()
        self._listener.start()
        self._heartbeat.start()
        self._delivery.start()
        self._upkeep.start()

    def stop(self) -> None:
        """End what runs and give it back; what waits to be delivered stays for the next life."""
        self._heartbeat.stop()
        self._inventory.close()
        deadline = time.monotonic() + _STOP_SECONDS
        self._upkeep.stop()
        for slot in self._slots:
            slot.join(max(0.0, deadline - time.monotonic()))
        self._listener.stop(within=1.0)
        self._lock.release()

    def _listen(self, context: Optional[tls.Context]) -> Listener:
        """Take the port, by which the data folder may be named. Nothing is answered yet."""
        host, port = self._config.host, self._config.port
        try:
            return Listener(host, port, self._application([]), context)
        except OSError as error:
            raise CanNotStart(
                f"can't listen on {host} port {port}: {error.strerror or error}; "
                "is something else running there?"
            ) from None

    def _application(self, routes: Sequence[Route]) -> Application:
        hosts = AllowedHosts(self._config.host, _advertised(self._config)[0])
        return Application(routes, AgentGuard(hosts, self._config.secret), error_as_json)

    def _description(self) -> Mapping[str, object]:
        """The parameters of `POST /notify_agent`. Raises OSError while they can't be known."""
        host, port = _advertised(self._config)
        if host is None:
            anywhere = self._config.host in ("0.0.0.0", "::")
            host = route_to(self._config.server) if anywhere else self._config.host
        return {
            "host": host,
            "port": port or self._port,
            "name": self._name,
            "slots": self._config.slots,
            "labels": " ".join(self._config.labels),
            "running": ",".join(str(each.build) for each in self._inventory.running()),
            "scheme": self._scheme,
        }


def _advertised(config: AgentConfig) -> tuple[Optional[str], Optional[int]]:
    """Host and port of `advertise`, as far as it names them."""
    if config.advertise is None:
        return None, None
    host, colon, port = config.advertise.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = config.advertise, ""
    return host.strip("[]"), int(port) if port else None


def _trust(config: AgentConfig) -> Optional[tls.Context]:
    """The context by which the server's certificate is checked. Raises ConfigError."""
    if not config.server.startswith("https:"):
        return None
    try:
        return tls.client_context(only=config.authority)
    except OSError as error:
        key = "authority" if config.authority else "server"
        raise config.error(key, f"it can't be used ({error})") from None


def _open_data(data: Path, config: AgentConfig) -> tuple[FolderLock, Outbox, Inventory]:
    """Take the data folder, and the results that an earlier life has left there.

    Raises CanNotStart, FolderLocked.
    """
    try:
        lock = _own(data, shared=other_user(config) is not None)
        outbox = Outbox(data)
        inventory = Inventory(outbox, config.slots)
        inventory.restore(outbox.open())
    except OSError as error:
        raise CanNotStart(
            f"{error.filename or data}: {error.strerror or error}; "
            "make the data folder a place where this user can write"
        ) from None
    return lock, outbox, inventory


def _own(data: Path, shared: bool) -> FolderLock:
    """Make the data folder this process's own, and end what an earlier one has left.

    If `shared`, the user as whom commands run gets through to what is theirs; nobody else reads
    here, and not even they the results. Raises OSError, FolderLocked.
    """
    passable = 0o711 if shared else 0o700
    _make(data, passable)
    lock = FolderLock(data)
    lock.acquire()
    for name in ("mirrors", "workspaces", "artifacts"):
        _make(data / name, passable)
    _make(data / "processes", 0o700)
    ended = end_leftovers((data / "processes").iterdir())
    if ended:
        log.warning("ended %d processes that an earlier life of this agent left", ended)
    return lock


def _make(folder: Path, mode: int) -> None:
    """Make a folder; an existing one keeps its mode."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(mode)  # whatever the umask


def other_user(config: AgentConfig) -> Optional[Account]:
    """The user as whom commands run; None if that is the agent's own."""
    account = Account.named(config.user) if config.user else None
    return None if account is None or account.uid == os.geteuid() else account


def _settings(config: AgentConfig, data: Path) -> SlotSettings:
    account = other_user(config)
    return SlotSettings(data, config.shell, config.pass_names, account, dict(os.environ))


def _main(path: Path, stop: Stop) -> None:
    config = read_agent(path)
    warn_if_readable(config.secret_in)
    agent = Agent(config)
    agent.start()
    announce(f"minici agent: {agent.url}/ -> {config.server}/")
    stop.wait()
    log.info("stopping")
    agent.stop()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run an agent until it is told to stop; returns the exit status."""
    return run(_main, arguments, "python -m minici.agent config.ini", _SUMMARY)


if __name__ == "__main__":
    sys.exit(main())
