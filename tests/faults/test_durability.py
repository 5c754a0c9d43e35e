"""Faults 1 to 6: ids and durability (3 stands in test_fault_03_14.py)."""

from __future__ import annotations

import http.client
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for


def everything(server: ServerProcess) -> dict[int, str]:
    """Every build there is: its id and command, page by page."""
    found: dict[int, str] = {}
    before = ""
    while True:
        builds = server.api(f"/builds?limit=100{before}")["builds"]
        if not builds:
            return found
        for build in builds:
            assert build["id"] not in found, "an id stands twice in the list"
            found[build["id"]] = build["command"]
        before = f"&before={builds[-1]['id']}"


def test_fault_01_a_thousand_starts_from_fifty_threads(place: Place) -> None:
    server = place.server(max_queue=2000)
    with ThreadPoolExecutor(50) as callers:
        commands = [f"echo {count}" for count in range(1000)]
        numbers = list(callers.map(lambda command: server.start_build(command=command), commands))
    assert sorted(numbers) == list(range(1, 1001))
    assert everything(server) == dict(zip(numbers, commands))
    for number, command in list(zip(numbers, commands))[::50]:
        assert server.build(number)["command"] == command


def test_fault_02_the_same_with_twenty_kills(place: Place) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = place.server(max_queue=5000)
    acknowledged: dict[int, str] = {}
    lock = threading.Lock()
    done = threading.Event()

    def start(caller: int) -> None:
        count = 0
        while not done.is_set():
            count += 1
            command = f"echo {caller}.{count}"
            try:
                number = server.start_build(command=command)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            with lock:
                assert number not in acknowledged, "an id was given out twice"
                acknowledged[number] = command
                if len(acknowledged) >= 1000 and kills[0] >= 20:
                    done.set()

    kills = [0]
    with ThreadPoolExecutor(8) as callers:
        running = [callers.submit(start, caller) for caller in range(8)]
        try:
            while kills[0] < 20:
                time.sleep(chance.uniform(0.05, 0.35))
                server.kill()
                kills[0] += 1
                server.restart()
            wait_for(lambda: len(acknowledged) >= 1000, 90, "1000 acknowledged builds")
        finally:
            done.set()
    for each in running:
        each.result()
    there = everything(server)
    missing = {n: c for n, c in acknowledged.items() if there.get(n) != c}
    assert not missing, f"acknowledged and not there, or another's: {missing}"
    assert len(set(there.values())) == len(there), "one start made two builds"


def _remove(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _text(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    return write


COUNTERS = {
    "missing": _remove,
    "empty": _text(""),
    "garbage": _text("\0\x01garbage\n"),
    "zero": _text("0\n"),
    "too low": _text("2\n"),
    "negative": _text("-5\n"),
    "other digits": _text("١٢\n"),
    "a folder": _folder,
}


@pytest.mark.parametrize("damage", COUNTERS)
def test_fault_04_a_damaged_counter(place: Place, damage: str) -> None:
    server = place.server()
    for _ in range(4):
        server.start_build()
    server.post("/build/4/cancel")
    server.stop()
    COUNTERS[damage](server.data / "counter")
    server.launch()
    wait_for(lambda: "\n" in server.out.read_text() or not server.alive, what="ready, or the end")
    if not server.alive:
        lines = server.log().splitlines()
        assert server.wait_end() != 0 and "counter" in lines[-1], server.log()
        return
    server.wait_ready()
    assert server.start_build() == 5
    assert sorted(everything(server)) == [1, 2, 3, 4, 5]
    assert (server.data / "counter").read_text().strip() == "5"


@pytest.mark.parametrize("cut", ["nothing", "half", "garbage"])
def test_fault_05_a_record_cut_short(place: Place, cut: str) -> None:
    """One of a final build, and one of a queued build."""
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    agent.result(agent.wait_build(), 0, "text")
    agent.close()
    server.start_build()
    server.start_build(command="echo healthy")
    server.stop()
    for number in (1, 2):
        path = server.data / "builds" / str(number) / "build.json"
        content = path.read_bytes()
        damaged = {"nothing": b"", "half": content[: len(content) // 2], "garbage": b"\0\xff{"}
        path.write_bytes(damaged[cut])
    server.restart()
    page = server.get("/", {"Accept-Language": "en"})
    assert page.status == 200 and "build/3" in page.text and "echo healthy" in page.text
    assert "damaged" in page.text.lower()
    for number in (1, 2):
        reply = server.get(f"/build/{number}", {"Accept-Language": "en"})
        assert "damaged" in reply.text.lower(), reply
    api = server.get("/api/builds")
    assert api.status == 200 and 3 in [build["id"] for build in api.json()["builds"]]
    agent = place.keep(FakeAgent(server))
    build = agent.wait_build()
    assert build["id"] == "3" and agent.result(build).status == 200
    assert server.start_build() == 4
    assert agent.result(agent.wait_build(2)).status == 200


def test_fault_06_a_second_server_on_the_same_folder(place: Place) -> None:
    server = place.server()
    server.start_build()
    second = place.configure_server(data=server.data)
    begun = time.monotonic()
    second.launch()
    assert second.wait_end() not in (0, None)
    assert time.monotonic() - begun < 4  # 2 s, and a busy machine
    lines = second.log().splitlines()
    assert len(lines) == 1 and str(server.data) in lines[0], lines
    assert server.start_build() == 2
    server.kill()
    second.start()
    assert sorted(everything(second)) == [1, 2]


def test_fault_06_a_second_agent_on_the_same_folder(place: Place) -> None:
    server = place.server()
    agent = place.agent(server)
    second = place.configure_agent(server, data=agent.data)
    second.launch()
    assert second.wait_end() not in (0, None)
    assert len(second.log().splitlines()) == 1 and str(agent.data) in second.log()
    assert server.wait_final(server.start_build())["status"] == "success"


def test_fault_06_a_data_folder_that_is_copied_is_a_whole_one(place: Place) -> None:
    server = place.server()
    server.start_build()
    server.stop()
    shutil.copytree(server.data, place.folder / "copy")
    copy = place.server(data=place.folder / "copy")
    assert sorted(everything(copy)) == [1]
