"""The agent: `python -m minici.agent config.ini`. What it is made of, and what it answers."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from minici.build import AttemptId
from minici.checkout.mirror import Mirrors
from minici.config import AgentConfig, read_agent
from minici.daemon import CanNotStart, Stop, announce, run, shown_url, warn_if_readable
from minici.durable import FolderLock
from minici.executor.heartbeat import Heartbeat, route_to
from minici.executor.inventory import DELIVER, DROP, Inventory, NoSlot, Order
from minici.executor.outbox import Outbox
from minici.executor.result_delivery import ResultDelivery
from minici.executor.slot import Slot, SlotSettings
from minici.process.command import Account
from minici.process.launcher import launcher
from minici.process.leftovers import end_leftovers
from minici.validation import check_command, check_commit, check_repository
from minici.web import tls
from minici.web.client import Client
from minici.web.guard import AgentGuard, Hosts
from minici.web.listener import Listener
from minici.web.params import BadParams, Params
from minici.web.routing import HttpError, Request, Response, Route, Site, json_response

_TIMEOUT = 3600.0  # seconds, where a server names none: the default of `build_timeout`
_OUTPUT_LIMIT = 64 * 1024 * 1024  # bytes; likewise
_KEPT = 2.0  # seconds that a connection to the server is kept without a call
_LAST_SECONDS = 12.0  # for the commands to end, and their builds to be given back
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")

log = logging.getLogger("minici.agent")

_SUMMARY = (
    "An agent checks commits out and runs commands for a server. The section [agent] of\n"
    "config.ini sets it up; `python -m minici init` writes one."
)


class Agent:
    """Everything an agent is made of. `start` and `stop` are for the thread that made it.

    Raises CanNotStart, FolderLocked or ConfigError; nothing is then left running.
    """

    def __init__(self, config: AgentConfig) -> None:
        if shutil.which("git") is None:  # or every build that it takes would fail for it
            raise CanNotStart("git is missing: install it, or add its folder to PATH; start again")
        self._config = config
        context = tls.listening_as(config)
        trust = _trust(config)
        # Results and output come one after the other; what registers is not to hold a connection.
        client = Client(config.server, config.secret, trust, kept=_KEPT)
        self._listener = self._listen(context)
        self._port = self._listener.server_port
        self._scheme = "http" if context is None else "https"
        self._name = f"{socket.gethostname()}:{self._port}"
        self.url = shown_url(config.host, self._port, context is not None)
        data = config.data or config.folder / f"minici-agent-{self._port}"
        try:
            self._lock = _own(data, shared=other_user(config) is not None)
            outbox = Outbox(data)
            self._inventory = Inventory(outbox, config.slots)
            self._inventory.restore(outbox.open())
        except OSError as error:
            self._listener.server_close()
            raise CanNotStart(
                f"{error.filename or data}: {error.strerror or error}; "
                "make the data folder a place where this user can write"
            ) from None
        except BaseException:
            self._listener.server_close()
            raise
        self._delivery = ResultDelivery(client, self._inventory, outbox)
        self._heartbeat = Heartbeat(
            Client(config.server, config.secret, trust), self._description, self._delivery.hurry
        )
        settings = _settings(config, data)
        mirrors = Mirrors(data / "mirrors")
        self._slots = [
            Slot(number, settings, mirrors, self._inventory, outbox, client)
            for number in range(config.slots)
        ]

    def start(self) -> None:
        launcher.adopt_orphans()
        for slot in self._slots:
            slot.start()
        self._listener.start()
        self._heartbeat.start()
        self._delivery.start()

    def stop(self) -> None:
        """End what runs and give it back; what waits to be delivered stays for the next life."""
        self._heartbeat.stop()
        self._inventory.close()
        deadline = time.monotonic() + _LAST_SECONDS
        for slot in self._slots:
            slot.join(max(0.0, deadline - time.monotonic()))
        self._listener.stop(within=1.0)
        self._lock.release()

    def _listen(self, context: Optional[tls.Context]) -> Listener:
        host, port = self._config.host, self._config.port
        guard = AgentGuard(Hosts(host, _advertised(self._config)[0]), self._config.secret)
        routes = [
            Route("POST", "/build", self._accept, "server"),
            Route("GET", "/ping", self._ping, "server", quiet=True),
            Route("POST", "/cancel", self._cancel, "server"),
        ]
        try:
            return Listener(host, port, Site(routes, guard, _as_json), context)
        except OSError as error:
            raise CanNotStart(
                f"can't listen on {host} port {port}: {error.strerror or error}; "
                "is something else running there?"
            ) from None

    def _description(self) -> Mapping[str, object]:
        """What the server is told of this agent. Raises OSError while it can't be known."""
        host, port = _advertised(self._config)
        if host is None:
            anywhere = self._config.host in ("0.0.0.0", "::")
            host = route_to(self._config.server) if anywhere else self._config.host
        return {
            "host": host,
            "port": port or self._port,
            "name": self._name,
            "slots": self._config.slots,
            "running": ",".join(str(number) for number, _ in self._inventory.running()),
            "scheme": self._scheme,
        }

    # What it answers: section 3 of the contract, "Agent, for the server".

    def _accept(self, request: Request) -> Response:
        order = read_order(request.params(), self._config.server)
        try:
            self._inventory.accept(order)
        except NoSlot as error:
            raise HttpError(503, str(error)) from None
        except OSError as error:
            raise HttpError(503, f"this agent's data folder: {error.strerror}") from None
        return json_response({}, 202)

    def _ping(self, request: Request) -> Response:
        self._heartbeat.heard()
        running, undelivered = self._inventory.snapshot()
        return json_response(
            {
                "name": self._name,
                "slots": self._inventory.slots,
                "running": [_named(attempt_id) for attempt_id in running],
                "undelivered": [_named(attempt_id) for attempt_id in undelivered],
            }
        )

    def _cancel(self, request: Request) -> Response:
        params = request.params()
        number = _number(params, "id")
        attempt = _number(params, "attempt") if params.get("attempt") else None
        superseded = params.text("superseded", "") == "1"
        reason, then = ("it goes on elsewhere", DROP) if superseded else ("cancelled", DELIVER)
        if not self._inventory.stop(number, attempt, reason, then):
            raise HttpError(404, "this agent has no such build")
        return json_response({})


def read_order(params: Params, server: str) -> Order:
    """A build from the parameters of `POST /build`. Raises BadParams."""
    number = _number(params, "id")
    commit, command = params.text("commit"), params.text("command")
    repository = params.text("repository")
    wrong = check_repository(repository) or check_commit(commit) or check_command(command)
    if wrong:
        raise BadParams(wrong)
    return Order(
        attempt_id=AttemptId(number, _number(params, "attempt", 1)),
        repository=repository,
        commit=commit,
        command=command,
        timeout=params.decimal("timeout", _TIMEOUT),
        output_limit=params.number("output_limit", _OUTPUT_LIMIT, least=1),
        url=params.text("url", "") or f"{server}/build/{number}",
    )


def _number(params: Params, name: str, default: Optional[int] = None) -> int:
    if default is not None and not params.get(name):
        return default
    text = params.text(name)
    if not _NUMBER.fullmatch(text):
        raise BadParams(f"the parameter {name} must be a number from 1 on, in plain digits")
    return int(text)


def _named(attempt_id: AttemptId) -> dict[str, int]:
    return {"id": attempt_id[0], "attempt": attempt_id[1]}


def _as_json(request: Request, error: HttpError) -> Response:
    return json_response({"error": error.sentence, **error.data}, error.status, error.headers)


def _advertised(config: AgentConfig) -> tuple[Optional[str], Optional[int]]:
    """Host and port of `advertise`, as far as it names them."""
    if config.advertise is None:
        return None, None
    host, colon, port = config.advertise.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = config.advertise, ""
    return host.strip("[]"), int(port) if port else None


def _trust(config: AgentConfig) -> Optional[tls.Context]:
    """What the server's certificate is checked by. Raises ConfigError."""
    if not config.server.startswith("https:"):
        return None
    try:
        return tls.calling(only=config.authority)
    except OSError as error:
        key = "authority" if config.authority else "server"
        raise config.error(key, f"it can't be used ({error})") from None


def _own(data: Path, shared: bool) -> FolderLock:
    """Make the data folder this process's own, and end what an earlier one has left.

    If `shared`, the user as whom commands run gets through to what is theirs; nobody else reads
    here, and not even they the results. Raises OSError, FolderLocked.
    """
    passable = 0o711 if shared else 0o700
    _make(data, passable)
    lock = FolderLock(data)
    lock.acquire()
    for name, mode in (("mirrors", passable), ("workspaces", passable), ("processes", 0o700)):
        _make(data / name, mode)
    ended = end_leftovers((data / "processes").iterdir())
    if ended:
        log.warning("ended %d processes that an earlier life of this agent left", ended)
    return lock


def _make(folder: Path, mode: int) -> None:
    """Make a folder, unless it is there: who may read that one is not for us to say."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(mode)  # whatever the umask


def other_user(config: AgentConfig) -> Optional[Account]:
    """As whom commands run, where that is not the agent's own user already."""
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
