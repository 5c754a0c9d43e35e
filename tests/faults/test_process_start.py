"""Faults 58 to 61: how a process was started, and what becomes of its files and of its readers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipapp
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

import pytest

from tests.support.harness import ROOT, Minici, Place, ServerProcess, wait_for
from tests.support.repositories import Repository, git
from tests.support.standalone import Standalone

# Starts a program with every signal ignored, blocked, or only SIGCHLD ignored.
_WITH_SIGNALS = """
import os, signal, sys
how, *words = sys.argv[1:]
numbers = [n for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP)]
for number in [signal.SIGCHLD] if how == "children" else numbers:
    if how != "blocked":
        signal.signal(number, signal.SIG_IGN)
if how == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
os.execvp(words[0], words)
"""

# Prints what a program finds of its signals. Python itself ignores two of them.
_SHOW_SIGNALS = """
import signal
own = (signal.SIGPIPE, signal.SIGXFSZ)
numbers = [n for n in signal.valid_signals() if n not in own]
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
print([n for n in numbers if signal.getsignal(n) == signal.SIG_IGN])
"""


def with_signals(process: Minici, how: str) -> Minici:
    process.prefix = [sys.executable, "-c", _WITH_SIGNALS, how]
    return process


@pytest.mark.parametrize("how", ["blocked", "ignored", "children"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fault_58_signals_that_were_blocked_or_ignored(place: Place, how: str, number: int) -> None:
    server = place.configure_server()
    with_signals(server, how).start()
    agent = place.configure_agent(server)
    with_signals(agent, how).start()
    server.wait_agents()
    (place.home / "show.py").write_text(_SHOW_SIGNALS)
    build = server.start_build(
        command=f"{sys.executable} {place.home / 'show.py'}; sh -c 'kill -PIPE $$' || echo $?"
    )
    assert server.wait_final(build)["status"] == "success"
    assert server.output(build, "stdout") == b"[]\n[]\n141\n"
    background = server.start_build(command="setsid sleep 999 & sleep 999 & echo ok")
    assert server.wait_final(background)["status"] == "success"
    assert agent.stop(15, number) == 0
    assert server.stop(15, number) == 0


def test_fault_58_a_command_leads_a_session_of_its_own(place: Place) -> None:
    server = place.server()
    place.agent(server)
    number = server.start_build(command="ps -o pid= -o pgid= -o sid= -p $$")
    assert server.wait_final(number)["status"] == "success"
    assert len(set(server.output(number).split())) == 1


@pytest.mark.parametrize("how", ["blocked", "ignored"])
def test_fault_58_in_one_go(place: Place, how: str) -> None:
    minici = Standalone(place, place.repository.path)
    with_signals(minici, how)
    minici.launch()
    minici.ready()
    (place.home / "show.py").write_text(_SHOW_SIGNALS)
    assert minici.build(f"{sys.executable} {place.home / 'show.py'}")["status"] == "success"
    assert minici.get("/build/1/stdout").body == b"[]\n[]\n"
    assert minici.stop(20, signal.SIGINT) == 0


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_fault_58_standard_streams_that_were_closed(place: Place, closed: tuple[int, ...]) -> None:
    """A file or socket that got such a number would get the log, or be a child's input."""
    words = " ".join(f"{number}>&-" for number in closed)
    server = place.configure_server(port=free_port())
    server.prefix = ["/bin/sh", "-c", f'exec "$@" {words}', "sh"]
    server.launch()
    server.port = int(str(server.sections["server"]["port"]))
    wait_for(lambda: healthy(server), what="the server answers")
    agent = place.configure_agent(server)
    agent.prefix = server.prefix
    agent.launch()
    server.wait_agents()
    number = server.start_build(command="echo ok; echo err >&2; cat")
    assert server.wait_final(number)["status"] == "success"
    assert server.output(number, "stdout") == b"ok\n"
    for process in (server, agent):
        found = {os.readlink(f"/proc/{process.pid}/fd/{descriptor}") for descriptor in closed}
        assert found == {os.devnull}
    assert agent.stop(15) == server.stop(15) == 0


# The locale.


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for LOCPATH with locales that are not UTF-8."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef"):
        for name, charset in (("en_US", "ISO-8859-1"), ("ru_RU", "KOI8-R")):
            words = ["localedef", "-i", name, "-f", charset, str(folder / f"{name}.{charset}")]
            subprocess.run(words, check=True, capture_output=True)
    return folder


def in_locale(locales: Path, name: str) -> dict[str, str]:
    """The variables of a locale in which Python's own encoding is not UTF-8."""
    if sys.platform == "darwin":
        name = name.replace("ISO-", "ISO").replace("KOI8", "KOI8")  # as macOS has them
    env = {"LOCPATH": str(locales), "LC_ALL": name, "PYTHONUTF8": "0"}
    ask = "import sys; print(sys.getfilesystemencoding())"
    encoding = subprocess.run(
        [sys.executable, "-c", ask], env={**os.environ, **env}, capture_output=True, text=True
    ).stdout.strip()
    assert encoding not in ("", "utf-8"), f"{name} is not there"
    return env


LOCALES = ["en_US.ISO-8859-1", "ru_RU.KOI8-R", "C"]
COMMAND = 'printf \'%s|\' \'ключ €\' "$MINICI_COMMIT" "$ODD" "$LC_ALL"; cat файл.txt; ls d*'


@pytest.fixture
def cyrillic(place: Place) -> Repository:
    """A repository whose path, branch, file and message are Cyrillic."""
    repository = Repository(place.folder / "проект")
    git(repository.path, "checkout", "--quiet", "-b", "ветка", "main")
    (repository.path / "файл.txt").write_text("содержание\n", encoding="utf-8")
    (repository.path / os.fsdecode(b"d\xe9\xff")).write_text("")
    git(repository.path, "add", ".")
    author = ("-c", "user.name=Ада", "-c", "user.email=ada@example.org")
    git(repository.path, *author, "commit", "--quiet", "-m", "Сообщение €")
    return repository


def expected(locale: str) -> bytes:
    text = f"ключ €|ветка|caf\udce9 ё|{locale}|содержание\n"
    return text.encode("utf-8", "surrogateescape") + b"d\xe9\xff\n"


@pytest.mark.parametrize("name", LOCALES)
def test_fault_59_a_locale_that_is_not_utf_8(
    place: Place, cyrillic: Repository, locales: Path, name: str
) -> None:
    env = in_locale(locales, name)
    odd = os.fsdecode(b"caf" + b"\xe9" + " ё".encode())
    server = place.server(env=env, repository=cyrillic.path, data=place.folder / "данные")
    agent = place.agent(server, env={**env, "ODD": odd}, data=place.folder / "агент ж")
    number = server.start_build("ветка", COMMAND)
    build = server.wait_final(number)
    assert build["status"] == "success", (build, server.output(number, "stderr"))
    assert server.output(number, "stdout") == expected(name)
    assert build["subject"] == "Сообщение €" and build["command"] == COMMAND
    assert "ключ €" in server.get(f"/build/{number}").text
    missing = server.wait_final(server.start_build("нет-такой", "true"))
    assert missing["status"] == "failure" and "нет-такой" in missing["reason"]
    assert agent.stop() == server.stop() == 0
    assert "ветка" in agent.log()


@pytest.mark.parametrize("name", LOCALES)
def test_fault_59_in_one_go(place: Place, cyrillic: Repository, locales: Path, name: str) -> None:
    minici = Standalone(place, cyrillic.path)
    odd = os.fsdecode(b"caf" + b"\xe9" + " ё".encode())
    minici.env.update(in_locale(locales, name), ODD=odd)
    minici.launch()
    minici.ready()
    assert minici.build(COMMAND, "ветка")["status"] == "success"
    assert minici.get("/build/1/stdout").body == expected(name)
    assert minici.stop() == 0


def test_fault_59_a_config_with_a_wrong_word_is_one_line(place: Place, locales: Path) -> None:
    server = place.configure_server(env=in_locale(locales, "en_US.ISO-8859-1"), max_queue="много")
    server.launch()
    assert server.wait_end() == 2
    assert len(server.log().splitlines()) == 1 and "много" in server.log()


# A log that nobody reads.


@contextlib.contextmanager
def unread(path: Path) -> Iterator[int]:
    """A full named pipe that nobody reads, and the descriptor at which it could be read."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def healthy(server: ServerProcess) -> bool:
    with contextlib.suppress(OSError):
        return server.get("/healthz").status == 200
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fault_60_stdout_and_stderr_that_nobody_reads(place: Place, number: int) -> None:
    out, err = place.folder / "out", place.folder / "err"
    with unread(out), unread(err):
        quiet = ["/bin/sh", "-c", f'exec "$@" >{out} 2>{err}', "sh"]
        server = place.configure_server(port=free_port())
        server.prefix = quiet
        server.launch()
        server.port = int(str(server.sections["server"]["port"]))
        wait_for(lambda: healthy(server), what="the server answers")
        agent = place.configure_agent(server)
        agent.prefix = quiet
        agent.launch()
        server.wait_agents()
        for _ in range(20):
            assert server.wait_final(server.start_build(), within=10)["status"] == "success"
        begun = time.monotonic()
        assert server.get("/").status == 200
        assert time.monotonic() - begun < 2
        assert agent.stop(10, number) == 0
        assert server.stop(10, number) == 0


def test_fault_60_what_is_wrong_with_the_config_and_nobody_reads_it(place: Place) -> None:
    err = place.folder / "err"
    with unread(err):
        server = place.configure_server(max_queue="many")
        server.prefix = ["/bin/sh", "-c", f'exec "$@" 2>{err}', "sh"]
        server.launch()
        assert server.wait_end(10) == 2


def test_fault_60_in_one_go(place: Place) -> None:
    out, err = place.folder / "out", place.folder / "err"
    with unread(out), unread(err):
        minici = Standalone(place, place.repository.path)
        minici.prefix = ["/bin/sh", "-c", f'exec "$@" >{out} 2>{err}', "sh"]
        minici.port = free_port()
        minici.words += ["--port", str(minici.port)]
        minici.launch()
        wait_for(lambda: healthy(minici), what="the server answers")  # type: ignore[arg-type]
        assert minici.build("true")["status"] == "success"
        assert minici.stop(20, signal.SIGINT) == 0


# A package that is replaced or removed while its processes run.


def copy_package(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "minici", folder / "minici", ignore=ignored)
    return folder


def as_folder(place: Place) -> Path:
    return copy_package(place.home)


def as_archive(place: Place) -> Path:
    archive = place.folder / "minici.pyz"
    zipapp.create_archive(copy_package(place.home), archive, main="minici.agent:main")
    shutil.rmtree(place.home / "minici")
    return archive


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path / "minici")
    else:
        path.unlink()


def replace(path: Path) -> None:
    """Put another version in its place, in which nothing is where it was."""
    if path.is_dir():
        for file in (path / "minici").rglob("*.*"):
            if file.is_file():
                file.write_bytes(b"another (version\n")
    else:
        size = path.stat().st_size
        path.write_bytes(b"PK\3\4" + os.urandom(size))


PAGES = (
    "/",
    "/build/1",
    "/build/1/output",
    "/agents",
    "/build/99",
    "/nothing",
    "/feed.atom",
    "/badge.svg",
    "/static/style.css",
    "/static/minici.js",
    "/static/palette.css",
    "/static/icon-failure.svg",
    "/api/builds",
    "/healthz",
)


@pytest.mark.parametrize("made", [as_folder, as_archive])
@pytest.mark.parametrize("change", [remove, replace])
def test_fault_61_the_package_is_changed_while_it_runs(
    place: Place, made: Callable[[Place], Path], change: Callable[[Path], None]
) -> None:
    package = made(place)
    env = {"PYTHONPATH": str(package), "PYTHONPYCACHEPREFIX": str(place.folder / "pycache")}
    server = place.server(env=env)
    agent = place.agent(server, env=env)
    change(package)
    shutil.rmtree(place.folder / "pycache", ignore_errors=True)
    build = server.wait_final(server.start_build(command="kill -9 $PPID; sleep 9"))
    assert build["status"] != "success"
    number = server.start_build(command="echo on; exit 3")
    assert server.wait_final(number)["exit_status"] == 3
    assert server.output(number) == b"on\n"
    for path in PAGES:
        assert server.get(path).status in (200, 404), path
        assert server.get(path, {"Accept-Language": "en"}).status < 500, path
    assert server.post("/build", {"commit": "", "command": "x"}).status == 400
    assert server.get(f"/build/{number}/live").status == 200
    assert agent.stop() == server.stop() == 0


@pytest.mark.parametrize("made", [as_folder, as_archive])
def test_fault_61_in_one_go(place: Place, made: Callable[[Place], Path]) -> None:
    package = made(place)
    minici = Standalone(place, place.repository.path)
    minici.env.update(PYTHONPATH=str(package), PYTHONPYCACHEPREFIX=str(place.folder / "pycache"))
    minici.launch()
    minici.ready()
    remove(package)
    shutil.rmtree(place.folder / "pycache", ignore_errors=True)
    assert minici.build("kill -9 $PPID; sleep 9")["status"] != "success"
    for _ in range(4):
        assert minici.build("true")["status"] == "success"
    assert minici.get("/build/1").status == minici.get("/agents").status == 200
    assert minici.stop(20, signal.SIGINT) == 0


def test_fault_61_a_supervisor_that_can_not_be_started_fails_no_build(place: Place) -> None:
    """Python itself is upgraded: for a moment there is no interpreter."""
    server = place.server()
    agent = place.configure_agent(server)
    interpreter = place.folder / "python"
    interpreter.symlink_to(sys.executable)
    agent.prefix = [sys.executable, "-c", _WITH_INTERPRETER, str(interpreter)]
    agent.start()
    server.wait_agents()
    assert server.wait_final(server.start_build())["status"] == "success"
    interpreter.unlink()
    number = server.start_build(command="kill -9 $PPID; sleep 9")
    server.wait_final(number)
    number = server.start_build(command="echo on")
    wait_for(lambda: "supervisor" in agent.log(), what="the agent says so")
    assert server.build(number)["status"] in ("queued", "running")
    interpreter.symlink_to(sys.executable)
    build: Optional[dict[str, object]] = server.wait_final(number, within=90)
    assert build is not None and build["status"] == "success", build


# Starts the program that follows with another interpreter, which is the same one.
_WITH_INTERPRETER = """
import os, sys
interpreter, _, *words = sys.argv[1:]
os.execv(interpreter, [interpreter, *words])
"""
