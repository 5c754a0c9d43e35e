"""Server and agents in one go, on a git repository of this host: `python -m minici [FOLDER]`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Optional

from minici.daemon import LIFELINE, OWN_PATH, Stop
from minici.durable import write_atomic

_USUAL_PORT = 8000
_PACKAGE_ROOT = str(Path(__file__).resolve().parent.parent)

# What a repository is usually tested by, by a file at its top.
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
_ANYWHERE = "git log -1 --stat && ls -la"


class Unusable(Exception):
    """Why this can't be done here, in one line that says what to do."""


# The repository in which a person stands.


def find_repository(folder: str) -> Path:
    """The top of the git repository around a folder. Raises Unusable."""
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
            return _writable_in_a_config(path)
    raise Unusable(f"{folder} is in no git repository: go into one, then start again")


def _writable_in_a_config(path: bytes) -> Path:
    try:
        lines = path.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1:
        raise Unusable(f"{path!r} is no path of one line in UTF-8: give the folder another name")
    return Path(os.fsdecode(path))


def sensible_command(repository: Path) -> str:
    """What a person probably wants to run, judged by the files at the top of a repository."""
    for names, pattern, command in _COMMANDS:
        for name in names:
            with contextlib.suppress(OSError):
                if re.search(pattern, (repository / name).read_text("utf-8", "replace")):
                    return command
    return _ANYWHERE


def data_folder(repository: Path) -> Path:
    """Where the builds of a repository are kept: outside it, in the user's own data."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(Path.home(), ".local", "share")
    path = str(repository.resolve())
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", repository.name).strip(".") or "repository"
    return Path(home) / "minici" / f"{name}-{digest}"


# Server and agents in one go.


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
        secret = secrets.token_hex(16)
        server = _Member("server", data / "server.ini", lifeline)
        members = [server]
        try:
            port = _free_port(_USUAL_PORT) if port is None else port
            server.start(_server_config(repository, data, port, secret))
            url = server.await_ready()
            for number in range(1, agents + 1):
                agent = _Member("agent", data / f"agent-{number}.ini", lifeline)
                members.append(agent)
                agent_port = _free_port(_port_of(url) + number)
                agent.start(_agent_config(data / f"agent-{number}", agent_port, url, secret))
            for member in members[1:]:
                member.await_ready()
            noun = "agent" if agents == 1 else "agents"
            print(f"minici for {repository}: {url} (server and {agents} {noun})", flush=True)
            print(f"builds are kept in {data}; Ctrl-C ends all of it", flush=True)
            _watch(members, stop)
        finally:
            # The agents all at once, for else one's builds would go to the next; the server last,
            # so that it hears of what they give back.
            for agent in members[1:]:
                agent.ask_to_stop()
            for member in reversed(members):
                member.stop()


class _Member:
    """One process of the ensemble: a server or an agent, with a config.ini of its own."""

    def __init__(self, kind: str, config: Path, lifeline: int) -> None:
        self.kind = kind
        self._config = config
        self._lifeline = lifeline
        self._process: Optional[subprocess.Popen[str]] = None

    def start(self, config: str) -> None:
        """Start it; several may start at once."""
        write_atomic(self._config, config.encode("utf-8", "surrogateescape"))
        os.chmod(self._config, 0o600)
        own = os.environ.get("PYTHONPATH", "")
        paths = os.pathsep.join(filter(None, [_PACKAGE_ROOT, own]))
        environ = {**os.environ, LIFELINE: str(self._lifeline), "PYTHONPATH": paths}
        environ[OWN_PATH] = own  # what builds are to find
        with open(self._config.with_suffix(".log"), "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"minici.{self.kind}", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
                pass_fds=[self._lifeline],
                start_new_session=True,
            )

    def await_ready(self) -> str:
        """Wait for its ready line, and return the address in it. Raises Unusable without one."""
        line = _first_line(self._process.stdout if self._process else None)
        found = re.match(r"minici (?:server|agent): (\S+?)/?(?: ->|$)", line)
        if not found:
            raise Unusable(f"the {self.kind} did not start: {self._last_words()}")
        return found[1]

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
                self._process.wait(timeout=20)
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


def _first_line(stream: Optional[IO[str]]) -> str:
    return stream.readline().strip() if stream else ""


def _watch(members: Sequence[_Member], stop: Stop) -> None:
    while not stop.wait(0.5):
        for member in members:
            if member.ended():
                raise Unusable(f"the {member.kind} ended by itself; its log says why")


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """A pipe whose reading end the members hold: it closes when this process dies, however."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _free_port(wanted: int) -> int:
    """The port that is wanted, or 0 where something else has it."""
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
