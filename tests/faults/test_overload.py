"""Faults 19 to 21: overload."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.harness import Place, ServerProcess, marked, wait_for

MEGABYTE = 2**20
LIMIT = 16 * MEGABYTE
PARAMS = {"commit": "HEAD", "command": "true"}


def test_fault_19_fifty_starts_for_ten_places(place: Place) -> None:
    server = place.server(max_queue=10)
    with ThreadPoolExecutor(50) as callers:
        replies = list(callers.map(lambda _: server.post("/api/builds", PARAMS), range(50)))
    taken = [reply for reply in replies if reply.status == 201]
    turned = [reply for reply in replies if reply.status == 503]
    assert len(taken) == 10 and len(turned) == 40
    for reply in turned:
        assert int(reply.header("Retry-After")) > 0
        reply.error()
    server.kill()
    server.restart()
    builds = server.api("/builds?limit=100")["builds"]
    assert sorted(b["id"] for b in builds) == sorted(reply.json()["id"] for reply in taken)
    assert {b["status"] for b in builds} == {"queued"}


def memory(place: Place, field: str) -> dict[int, int]:
    """Bytes of every living process of minici's own: VmHWM is the highest so far."""
    found = {}
    for pid, line in marked(place.marker).items():
        if "minici" not in line:
            continue
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        for entry in status.splitlines():
            if entry.startswith(f"{field}:"):
                found[pid] = int(entry.split()[1]) * 1024
    return found


def warmed(place: Place) -> tuple[ServerProcess, dict[int, int]]:
    """A server with its agent after a first build and a first page; their memory."""
    server = place.server(output_limit="16M")
    place.agent(server)
    number = server.start_build(command="seq 10000")
    server.wait_final(number)
    server.get(f"/build/{number}")
    server.output(number)
    return server, memory(place, "VmHWM")


def assert_modest(place: Place, before: dict[int, int]) -> None:
    highest = memory(place, "VmHWM")
    grown = {pid: highest[pid] - before[pid] for pid in before if pid in highest}
    assert len(grown) >= 2 and max(grown.values()) < 50 * MEGABYTE, grown


def line_at(offset: int, size: int) -> bytes:
    """What `seq 100000000 199999999` writes from a place on."""
    first = offset // 10
    text = b"".join(b"%d\n" % (100_000_000 + n) for n in range(first, first + size // 10 + 2))
    return text[offset - first * 10 :][:size]


def test_fault_20_a_gigabyte_of_output(place: Place) -> None:
    server, before = warmed(place)
    number = server.start_build(command="seq 100000000 199999999")
    known = server.wait_final(number, within=180)
    assert known["status"] == "success", known
    assert known["stdout_bytes"] == LIMIT
    assert known["dropped_bytes"] == 10**9 - LIMIT
    kept = server.output(number, "stdout")
    half = LIMIT // 2
    assert kept[:half] == line_at(0, half)
    assert kept[-half:] == line_at(10**9 - half, half)
    between = kept[half:-half]
    assert between.strip(b"\n") == b"[minici: %d bytes dropped]" % (10**9 - LIMIT)
    assert kept.split(b"\n").count(between.strip(b"\n")) == 1, "on a line of its own"
    assert_modest(place, before)


def test_fault_21_a_line_of_200_megabytes(place: Place) -> None:
    server, before = warmed(place)
    number = server.start_build(command="head -c 200000000 /dev/zero | tr '\\0' x")
    slowest = 0.0

    def final() -> bool:
        nonlocal slowest
        begun = time.monotonic()
        assert server.get(f"/build/{number}").status == 200
        slowest = max(slowest, time.monotonic() - begun)
        return bool(server.build(number)["status"] == "success")

    wait_for(final, 120, "the end of the build")
    assert final() and slowest < 1.5  # a second, and a busy machine
    known = server.build(number)
    assert known["stdout_bytes"] == LIMIT and known["dropped_bytes"] == 200_000_000 - LIMIT
    kept = server.output(number, "stdout")
    marker = b"\n[minici: %d bytes dropped]\n" % known["dropped_bytes"]
    assert kept == b"x" * (LIMIT // 2) + marker + b"x" * (LIMIT // 2)
    assert_modest(place, before)


def test_fault_21_three_million_empty_lines(place: Place) -> None:
    """The other way round: all ends of lines, and nothing between them."""
    server, before = warmed(place)
    number = server.start_build(command="head -c 3000000 /dev/zero | tr '\\0' '\\n'")
    assert server.wait_final(number)["stdout_bytes"] == 3_000_000
    begun = time.monotonic()
    assert server.get(f"/build/{number}").status == 200
    assert time.monotonic() - begun < 1.5  # a second, and a busy machine
    assert_modest(place, before)
