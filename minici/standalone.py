"""Server and agents on a git repository of this host: `python -m minici [FOLDER]`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from minici.daemon import LIFELINE_VARIABLE, Stop, announce
from minici.durable import write_atomic

_DEFAULT_PORT = 8000
_POLL_SECONDS = 0.5
_STOP_SECONDS = 20.0
_PACKAGE_ROOT = str(Path(__file__).resolve().parent.parent)  # a folder, or the file of a zipapp
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

# The usual test command of a repository that has a file of this name and content at its top.
_COMMANDS = (
    (("Makefile", "makefile", "GNUmakefile"), r"(?m)^test\s*:", "make test"),
    (("package.json",), r'"test"\s*:', "npm ci && npm test"),
    (("Cargo.toml",), "", "cargo test"),
    (("go.mod",), "", "go test ./..."),
    (("tox.ini",), "", "tox"),
    (("noxfile.py",), "", "nox"),
    (("pom.xml",), "", "mvn -B test"),
    (("gradlew",), "", "./gradlew test"),
    (("mix.exs",), "", "mix test"),
    (("Rakefile",), "", "rake test"),
    (("pytest.ini", "conftest.py", "setup.cfg", "pyproject.toml"), "pytest", "python3 -m pytest"),
    (("CMakeLists.txt",), "", "cmake -B build && cmake --build build && ctest --test-dir build"),
)
_FALLBACK_COMMAND = "git log -1 --stat && ls -la"


class Unusable(Exception):
    """This can't be done here. The text is one line that says what to do."""


# The repository in which a person stands.


def find_repository(folder: str) -> Path:
    """Return the top of the git repository around a folder. Raises Unusable."""
    for question in ("--show-toplevel", "--absolute-git-dir"):
        try:
            answer = subprocess.run(
                ["git", "-C", folder, "rev-parse", question],
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise Unusable("git is missing: install it, then start again") from None
        path = answer.stdout.rstrip(b"\n")
        if answer.returncode == 0 and path:
            return _path_for_config(path)
    raise Unusable(f"{folder} is in no git repository: go into one, then start again")


def _path_for_config(path: bytes) -> Path:
    try:
        lines = path.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1:
        raise Unusable(f"{path!r} is no path of one line in UTF-8: give the folder another name")
    return Path(lines[0])


def sensible_command(repository: Path) -> str:
    """Return the command that probably tests a repository, by the files at its top."""
    for names, pattern, command in _COMMANDS:
        for name in names:
            with contextlib.suppress(OSError):
                if re.search(pattern, (repository / name).read_text("utf-8", "replace")):
                    return command
    return _FALLBACK_COMMAND


def data_folder(repository: Path) -> Path:
    """Return the folder for a repository's builds: outside it, in the user's own data."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(Path.home(), ".local", "share")
    path = str(repository.resolve())
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", repository.name).strip(".") or "repository"
    return Path(home) / "minici" / f"{name}-{digest}"


# Server and agents.


def serve_here(folder: str, port: Optional[int], agents: int, stop: Stop) -> None:
    """Run a server and agents on a repository until told to stop. Raises Unusable."""
    repository = find_repository(folder)
    data = data_folder(repository)
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
            url = _start_members(members, repository, data, port, agents, lifeline, stop)
            if not stop:
                noun = "agent" if agents == 1 else "agents"
                announce(f"minici for {repository}: {url} (server and {agents} {noun})")
                announce(f"builds are kept in {data}; Ctrl-C ends all of it")
            _watch(members, stop)
        finally:
            # All agents at once, or the builds of one would go to the next; the server last, so
            # that it receives the builds that they give back.
            for agent in members[1:]:
                agent.ask_to_stop()
            for member in reversed(members):
                member.stop()


def _start_members(
    members: list[_Member],
    repository: Path,
    data: Path,
    port: Optional[int],
    agents: int,
    lifeline: int,
    stop: Stop,
) -> str:
    """Start the server, then the agents, adding each to `members`; return the server's address.

    Raises Unusable. Returns early when it is told to stop.
    """
    secret = secrets.token_hex(16)
    server = _Member("server", data / "server.ini", lifeline)
    members.append(server)
    port = _free_port(_DEFAULT_PORT) if port is None else port
    server.start(_server_config(repository, data, port, secret))
    url = server.await_ready(stop)
    for number in range(1, 1 if stop else agents + 1):
        agent = _Member("agent", data / f"agent-{number}.ini", lifeline)
        members.append(agent)
        agent_port = _free_port(_port_of(url) + number)
        agent.start(_agent_config(data / f"agent-{number}", agent_port, url, secret))
    for agent in members[1:]:
        agent.await_ready(stop)
    return url


class _Member:
    """One of the processes, a server or an agent, with a config.ini and a log of its own."""

    def __init__(self, kind: str, config: Path, lifeline: int) -> None:
        self.kind = kind
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
        line = self._first_line(stop)
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


def _server_config(repository: Path, data: Path, port: int, secret: str) -> str:
    return (
        "[server]\n"
        f"port = {port}\n"
        f"repository = {repository}\n"
        f"data = {data / 'server'}\n"
        f"secret = {secret}\n"
        f"command = {sensible_command(repository)}\n"
    )


def _agent_config(data: Path, port: int, server: str, secret: str) -> str:
    return f"[agent]\nport = {port}\nserver = {server}\ndata = {data}\nsecret = {secret}\n"
