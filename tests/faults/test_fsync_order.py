"""The disk comes before the answer, as the kernel sees it: the server's system calls, traced.

A kill can't show this: what is only in the page cache survives it, and a power cut takes it. So
the calls themselves are looked at. strace is Linux's; elsewhere the promise is the same code.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for

CALLS = (
    "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg,write,writev,pwrite64"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")


class Trace:
    """The system calls of a server from now on, each as one line, in the order of their end."""

    def __init__(self, server: ServerProcess, file: Path) -> None:
        if shutil.which("strace") is None:
            pytest.fail("strace is missing: install it (apt-get install strace)")
        self._file = file
        command = ["strace", "-f", "-y", "-s", "400", "-e", f"trace={CALLS}", "-o", str(file)]
        self._process = subprocess.Popen(
            [*command, "-p", str(server.pid)], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert "attached" in line, line

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=20)

    def lines(self) -> list[str]:
        """Whole lines: a call that another thread interrupted is put together again, at its end."""
        begun: dict[str, str] = {}
        whole = []
        for line in self._file.read_text("utf-8", "replace").splitlines():
            thread, _, text = line.partition(" ")
            text = text.strip()
            if text.endswith("<unfinished ...>"):
                begun[thread] = text[: -len("<unfinished ...>")].rstrip()
                continue
            resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", text)
            whole.append(begun.pop(thread, "") + resumed[1] if resumed else text)
        return whole

    def before(self, what: str) -> list[str]:
        """The calls before the first one that holds `what`, which must come."""

        def found() -> list[str]:
            lines = self.lines()
            place = next((n for n, line in enumerate(lines) if what in line), 0)
            return lines[:place]

        return wait_for(found, 20, f"a call with {what!r}")


@pytest.fixture
def server(place: Place) -> ServerProcess:
    return place.server()


@pytest.fixture
def trace(server: ServerProcess, tmp_path: Path) -> Iterator[Trace]:
    trace = Trace(server, tmp_path / "trace")
    yield trace
    trace.stop()


def require_in_order(lines: list[str], *patterns: str) -> None:
    """Each pattern fits a line behind that of the pattern before it."""
    place = 0
    for pattern in patterns:
        found = next((n for n in range(place, len(lines)) if re.search(pattern, lines[n])), None)
        text = "\n".join(lines)
        assert found is not None, f"no {pattern!r} in its place before the answer:\n{text}"
        place = found + 1


def test_a_start_is_on_disk_before_it_is_acknowledged(server: ServerProcess, trace: Trace) -> None:
    server.start_build()
    lines = trace.before("HTTP/1.1 201")
    require_in_order(
        lines,
        r"fsync\(\d+<[^>]*/counter\.tmp>\) += 0",
        r"rename\w*\(.*counter\.tmp",
        r"fsync\(\d+<[^>]*server1-data>\) += 0",
        r"fsync\(\d+<[^>]*/unfinished>\) += 0",
        r"fsync\(\d+<[^>]*/builds/1/build\.json\.tmp>\) += 0",
        r"rename\w*\(.*build\.json\.tmp",
        r"fsync\(\d+<[^>]*/builds/1>\) += 0",
        r"fsync\(\d+<[^>]*/builds>\) += 0",
    )


def test_an_attempt_is_on_disk_before_the_agent_is_called(
    place: Place, server: ServerProcess, trace: Trace
) -> None:
    agent = place.keep(FakeAgent(server))
    server.start_build()
    agent.wait_build()
    lines = trace.before("POST /build HTTP/1.1")
    require_in_order(
        lines,
        r"fsync\(\d+<[^>]*/builds>\) += 0",  # the last of the start
        r"fsync\(\d+<[^>]*/builds/1/build\.json\.tmp>\) += 0",
        r"rename\w*\(.*build\.json\.tmp",
        r"fsync\(\d+<[^>]*/builds/1>\) += 0",
    )


def test_a_result_is_on_disk_before_it_is_acknowledged(
    place: Place, server: ServerProcess, trace: Trace
) -> None:
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    assert agent.output(build, "stdout", 0, b"early\n").status == 200
    assert agent.result(build, 0, "late\n", "err\n", stdout_offset=6).status == 200
    lines = trace.before("POST /notify_build_result 200")  # the log's line, behind the answer
    answer = max(n for n, line in enumerate(lines) if "HTTP/1.1 200" in line)
    begun = next(n for n, line in enumerate(lines) if '"late' in line)
    require_in_order(
        lines[begun:answer],
        r"fsync\(\d+<[^>]*/builds/1/1/stdout>\) += 0",
        r"fsync\(\d+<[^>]*/builds/1/1/stderr>\) += 0",
        r"fsync\(\d+<[^>]*/builds/1/1/timeline>\) += 0",
        r"fsync\(\d+<[^>]*/builds/1/1>\) += 0",
        r"fsync\(\d+<[^>]*/builds/1/build\.json\.tmp>\) += 0",
        r"rename\w*\(.*build\.json\.tmp",
        r"fsync\(\d+<[^>]*/builds/1>\) += 0",
    )
    assert server.output(1, "stdout") == b"early\nlate\n"


def test_a_cancel_is_on_disk_before_it_is_acknowledged(server: ServerProcess, trace: Trace) -> None:
    number = server.start_build()
    assert server.post(f"/build/{number}/cancel").status == 303
    lines = trace.before("HTTP/1.1 303")
    lines = lines[next(n for n, line in enumerate(lines) if "HTTP/1.1 201" in line) :]
    require_in_order(
        lines,
        r"fsync\(\d+<[^>]*/builds/1/build\.json\.tmp>\) += 0",
        r"rename\w*\(.*build\.json\.tmp",
        r"fsync\(\d+<[^>]*/builds/1>\) += 0",
    )
