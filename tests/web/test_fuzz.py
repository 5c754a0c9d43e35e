"""20,000 wrong requests to both servers, after which both work and hold no more than before."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.fuzz import AGENT_PATHS, SERVER_PATHS, Requests
from tests.support.harness import Minici, Place, wait_for

SEED = 20_261_125
REQUESTS = 20_000  # to each of the two
AT_ONCE = 4
SECRET = "a-word"
MEMORY = 16 * 2**20  # bytes that the allocator may keep for itself


def ask(port: int, request: bytes) -> bytes:
    """Send a request, and as much of its answer as says what it is."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(OSError):  # it answered and closed before it had read all
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while b"text/event-stream" not in answer:
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
    return answer


def status(answer: bytes) -> int:
    """The status of the first answer, 0 if there was none: the request never came to its end."""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12] or b"0")


def fuzz(process: Minici, paths: list[str], first: int, count: int) -> Counter[int]:
    """Send `count` requests, some at once; how often each status was the answer."""
    seen: Counter[int] = Counter()

    def some(share: int) -> None:
        for request in itertools.islice(Requests(SEED + share, paths, SECRET), count // AT_ONCE):
            answer = ask(process.port, request)
            assert b"Traceback" not in answer, request
            assert status(answer) < 500 or status(answer) == 503, (request, answer[:2000])
            seen[status(answer)] += 1

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(some, range(first, first + AT_ONCE)))
    return seen


def threads(process: Minici) -> int:
    return len(os.listdir(f"/proc/{process.pid}/task"))


def descriptors(process: Minici) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def resident(process: Minici) -> int:
    """Bytes that the process has in memory now."""
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_both_servers_outlive_twenty_thousand_wrong_requests(place: Place) -> None:
    server = place.server(secret=SECRET, max_queue=1)
    agent = place.agent(server, secret=SECRET, shell="/bin/echo")  # whatever gets so far
    assert server.wait_final(server.start_build())["status"] == "success"
    both = ((server, SERVER_PATHS, 100), (agent, AGENT_PATHS, 200))
    for process, paths, seed in both:
        fuzz(process, paths, seed + 50, REQUESTS // 10)  # what is held for good is held by now
    before = {}
    if sys.platform == "linux":
        wait_for(lambda: agent.ping(SECRET)["running"] == [], what="idle")
        before = {p: (threads(p), descriptors(p), resident(p)) for p, _, _ in both}
    for process, paths, seed in both:
        seen = fuzz(process, paths, seed, REQUESTS)
        assert sum(seen.values()) == REQUESTS and seen[400] > REQUESTS / 10, seen
        checks = {400, 401, 403, 404, 405, 411, 413, 414, 415, 421, 431}
        assert checks <= set(seen), "it met every check"
    for process, (many, open_files, memory) in before.items():
        wait_for(lambda: threads(process) <= many, 30, f"no more threads of {process.name}")
        wait_for(lambda: descriptors(process) <= open_files, 30, f"nor files of {process.name}")
        assert resident(process) < memory + MEMORY
    assert f"127.0.0.1:{agent.port}" in [k["address"] for k in server.agents() if not k["gone"]]
    number = server.start_build(command="still here")
    assert server.wait_final(number)["status"] == "success"
    assert server.output(number) == b"still here\n"
