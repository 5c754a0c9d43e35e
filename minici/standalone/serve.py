"""Server and agents on a git repository of this host: `python -m minici [FOLDER]`."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.daemon import LIFELINE_VARIABLE, Stop, announce, complain
from minici.durable import write_atomic
from minici.standalone.repository import LocalRepository, Unusable, data_folder, find_repositories

_DEFAULT_PORT = 8000
_POLL_SECONDS = 0.5
_STOP_SECONDS = 20.0
_ON_PUSH = "branches = *\npoll = 1s\nsupersede = no\n"
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])  # a folder, or the file of a zipapp
# Runs a program of this package, and not of one that the folder has in which a person stands.
_RUN_MODULE = """
import runpy, sys
root, module = sys.argv[1:3]
del sys.argv[1:3]
sys.path[:] = [path for path in sys.path if path]
if root not in sys.path:
    sys.path.insert(0, root)
runpy.run_module(module, run_name="__main__")
"""

# Server and agents.


@dataclass(frozen=True)
class Wanted:
    """The arguments of `python -m minici`. With `on_push`, what is committed is built by itself."""

    folders: Sequence[str]
    port: Optional[int] = None
    agents: int = 2
    on_push: bool = False
    command: Optional[str] = None


def serve_here(wanted: Wanted, stop: Stop) -> None:
    """Run a server and agents on some repositories until told to stop. Raises Unusable."""
    repositories = find_repositories(wanted.folders, wanted.command)
    data = data_folder(repositories[0].path)
    try:
        data.mkdir(parents=True, exist_ok=True)
        os.chmod(data, 0o700)
    except OSError as error:
        raise Unusable(
            f"{data}: {error.strerror}; set XDG_DATA_HOME to a folder of yours"
        ) from None
    with _lifeline() as lifeline:
        members: list[_Member] = []
        try:
            _start_members(members, repositories, data, wanted, lifeline, stop)
            if not stop:
                for member in members:
                    announce(member.ready_line)
                url = members[0].ready_line.partition(": ")[2]
                for line in _advice(repositories, wanted, url):
                    complain(f"minici: {line}")
                complain(f"minici: builds are kept in {data}; Ctrl-C ends all of it")
            _watch(members, stop)
        finally:
            # All agents at once, or the builds of one would go to the next; the server last, so
            # that it receives the builds that they give back.
            for agent in members[1:]:
                agent.ask_to_stop()
            for member in reversed(members):
                member.stop()


def _advice(repositories: Sequence[LocalRepository], wanted: Wanted, url: str) -> tuple[str, ...]:
    """The next steps, as lines."""
    paths = ", ".join(str(each.path) for each in repositories)
    if wanted.on_push:
        commands = "; ".join(dict.fromkeys(each.command for each in repositories))
        return (f"commit to a branch of {paths}, and see it built at {url}: {commands}",)
    return (
        f"open {url} and start a build of {paths}",
        "with --on-push, each commit is built by itself",
    )


def _start_members(
    members: list[_Member],
    repositories: Sequence[LocalRepository],
    data: Path,
    wanted: Wanted,
    lifeline: int,
    stop: Stop,
) -> None:
    """Start the server, then the agents, adding each to `members`.

    Raises Unusable. Returns early when it is told to stop.
    """
    secret = secrets.token_hex(16)
    server = _Member("server", data / "server.ini", lifeline)
    members.append(server)
    port = _free_port(_DEFAULT_PORT) if wanted.port is None else wanted.port
    server.start(_server_config(repositories, data, port, secret, wanted.on_push))
    try:
        url = server.await_ready(stop)
    except Unusable:
        if wanted.port is not None or _free_port(port):
            raise
        # Somebody else has taken the port since it was found free.
        server.stop()
        server.start(_server_config(repositories, data, 0, secret, wanted.on_push))
        url = server.await_ready(stop)
    for number in range(1, 1 if stop else wanted.agents + 1):
        agent = _Member("agent", data / f"agent-{number}.ini", lifeline)
        members.append(agent)
        agent_port = _free_port(_port_of(url) + number)
        agent.start(_agent_config(data / f"agent-{number}", agent_port, url, secret))
    for agent in members[1:]:
        agent.await_ready(stop)


class _Member:
    """One of the processes, a server or an agent, with a config.ini and a log of its own."""

    def __init__(self, kind: str, config: Path, lifeline: int) -> None:
        self.kind = kind
        self.ready_line = ""
        self._config = config
        self._lifeline = lifeline
        self._process: Optional[subprocess.Popen[bytes]] = None

    def start(self, config: str) -> None:
        """Start the process; several may start at once."""
        write_atomic(self._config, config.encode("utf-8", "surrogateescape"))
        os.chmod(self._config, 0o600)
        program = [sys.executable, "-X", "utf8", "-c", _RUN_MODULE, _PACKAGE_ROOT]
        with open(self._config.with_suffix(".log"), "ab") as log:
            self._process = subprocess.Popen(
                [*program, f"minici.{self.kind}", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, LIFELINE_VARIABLE: str(self._lifeline)},
                pass_fds=[self._lifeline],
                start_new_session=True,
            )

    def await_ready(self, stop: Stop) -> str:
        """Wait for the ready line, and return the address in it. Raises Unusable without one.

        Returns an empty address when it is told to stop.
        """
        self.ready_line = line = self._first_line(stop)
        found = re.match(r"minici (?:server|agent): (\S+?)/?(?: ->|$)", line)
        if stop:
            return ""
        if not found:
            raise Unusable(f"the {self.kind} did not start: {self._last_words()}")
        return found[1]

    def _first_line(self, stop: Stop) -> str:
        assert self._process is not None and self._process.stdout is not None
        output = self._process.stdout.fileno()
        line = b""
        while not stop and not line.endswith(b"\n"):
            if select.select([output], [], [], _POLL_SECONDS)[0]:
                data = os.read(output, 4096)
                if not data:
                    break
                line += data
        return line.decode("utf-8", "replace").strip()

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        self.ask_to_stop()
        if self._process is None:
            return
        if self._process.poll() is None:
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._config.with_suffix(".log").read_text("utf-8", "replace").splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it said nothing"


def _watch(members: Sequence[_Member], stop: Stop) -> None:
    while not stop.wait(_POLL_SECONDS):
        for member in members:
            if member.ended():
                raise Unusable(f"the {member.kind} ended by itself; its log says why")


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """A pipe for the members to read: it ends when this process ends, even if it is killed."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _free_port(wanted: int) -> int:
    """Return the wanted port, or 0 if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError):
            return 0
    return wanted


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def _server_config(
    repositories: Sequence[LocalRepository], data: Path, port: int, secret: str, on_push: bool
) -> str:
    first, *others = repositories
    return "".join(
        [
            f"[server]\nport = {port}\ndata = {data / 'server'}\nsecret = {secret}\n",
            f"name = {first.name}\n{_project_keys(first, on_push)}",
            *(f"[project {each.name}]\n{_project_keys(each, on_push)}" for each in others),
        ]
    )


def _project_keys(repository: LocalRepository, on_push: bool) -> str:
    keys = f"repository = {repository.path}\ncommand = {_one_value(repository.command)}\n"
    # Each commit is built, also where the next one is made before.
    return keys + (_ON_PUSH if on_push else "")


def _one_value(command: str) -> str:
    """A command as the value of a key: what goes on is indented."""
    return command.replace("\n", "\n  ")


def _agent_config(data: Path, port: int, server: str, secret: str) -> str:
    return f"[agent]\nport = {port}\nserver = {server}\ndata = {data}\nsecret = {secret}\n"
