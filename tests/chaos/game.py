"""Builds while everything dies: `python -m tests.chaos --minutes N --seed S`.

A server and agents on a real repository, clients that start builds, and a monkey that kills,
stops and terminates processes, cuts, delays and swallows what goes between them, fills disks,
takes the repository away, and starts copies of the server. In the end the monkey rests, the queue
drains, and every acknowledged build must be there: final, exactly once, with exactly its output;
its hook told of it, ids rising and unique, no stray process, no traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from tests.chaos.copies import Copy
from tests.chaos.disks import SmallDisk
from tests.chaos.hooks import Hooks
from tests.chaos.pushes import PROJECT, Pushes
from tests.chaos.remotes import Remote
from tests.chaos.trouble import Trouble
from tests.support.harness import (
    FINAL,
    AgentProcess,
    Minici,
    Place,
    ServerProcess,
    marked,
    wait_for,
)
from tests.support.proxy import CUT, DEAF, HANG, PASS, Proxy
from tests.support.repositories import Repository

AGENTS = (1, 2, 1)  # slots of each
DRAIN_SECONDS = 180.0
UNREACHABLE = (OSError, http.client.HTTPException, AssertionError)


@dataclass(frozen=True)
class Order:
    """What one build is to do, so that its record can be checked to the byte."""

    token: str
    lines: int
    pause: float
    exit_status: int
    stray: bool

    @property
    def command(self) -> str:
        stray = "setsid sleep 1000 & (sleep 1000 &) ; " if self.stray else ""
        return (
            f"{stray}i=0; while [ $i -lt {self.lines} ]; do "
            f"echo {self.token} out $i; echo {self.token} err $i >&2; "
            f"i=$((i+1)); sleep {self.pause}; done; exit {self.exit_status}"
        )

    def stream(self, name: str) -> bytes:
        return b"".join(
            b"%s %s %d\n" % (self.token.encode(), name.encode(), i) for i in range(self.lines)
        )


@dataclass
class Ledger:
    """What was acknowledged, and what went wrong. Its lock guards everything in it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    orders: dict[int, Order] = field(default_factory=dict)
    finals: dict[int, dict[str, Any]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    longest_wait: float = 0.0
    last_progress: float = field(default_factory=time.monotonic)

    def acknowledge(self, number: int, order: Order) -> None:
        with self.lock:
            if number in self.orders:
                self.faults.append(f"id {number} was given out twice")
            self.orders[number] = order
            self.counts["builds"] += 1

    def open_builds(self) -> list[int]:
        with self.lock:
            return sorted(set(self.orders) - set(self.finals))

    def finish(self, number: int, record: dict[str, Any]) -> None:
        with self.lock:
            now = time.monotonic()
            self.longest_wait = max(self.longest_wait, now - self.last_progress)
            self.last_progress = now
            self.finals[number] = record

    def fault(self, text: str) -> None:
        with self.lock:
            self.faults.append(text)
        print(f"FAULT: {text}", flush=True)

    def count(self, name: str) -> None:
        with self.lock:
            self.counts[name] += 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Member:
    """A process that may be dead for a while: whoever restarts it holds its lock."""

    def __init__(self, process: Minici) -> None:
        self.process = process
        self.lock = threading.Lock()


class World:
    """Everything that runs. Agents and server meet only through proxies."""

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        remote = Remote(place)
        self.pushes = Pushes(place, seed)
        self.hooks = Hooks(place)
        self.server: ServerProcess = place.configure_server(
            port=free_port(),
            repository=remote.url,
            ping_interval="0.3s",
            agent_timeout="2s",
            build_timeout="1m",
            max_attempts=100000,
            max_queue=300,
            hook=self.hooks.path,
        )
        base = remote.url.rpartition("/")[0]
        self.server.sections[f"project {PROJECT}"] = self.pushes.keys(base)
        self.server.start()
        self.pushes.start(self.server)
        self.to_server = [Proxy(self.server.port) for _ in AGENTS]
        self.to_agent: list[Proxy] = []
        self.members = [Member(self.server)]
        self.troubles: list[Trouble] = [remote, Copy(place, self.server)]
        for number, (slots, way) in enumerate(zip(AGENTS, self.to_server)):
            port = free_port()
            back = Proxy(port)
            self.to_agent.append(back)
            disk = SmallDisk(place, f"disk{number}")
            self.troubles.append(disk)
            about = {"port": port, "slots": slots, "advertise": back.address, "data": disk.data}
            agent: AgentProcess = place.agent(way.address, disk.env, **about)
            self.members.append(Member(agent))
        place.closed_at_end.extend(self.proxies)

    @property
    def proxies(self) -> list[Proxy]:
        return self.to_server + self.to_agent

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.mode, proxy.delay, proxy.cut_after = PASS, 0.0, None
            proxy.listen()
        for member in self.members:
            with member.lock:
                if member.process.alive:
                    member.process.resume()
                else:
                    member.process.restart()


class Clients:
    """Threads that start builds, and one that watches what becomes of them."""

    def __init__(self, world: World, ledger: Ledger, seed: int) -> None:
        self._world, self._ledger = world, ledger
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._start_builds, args=(random.Random(seed * 100 + n),))
            for n in range(2)
        ]
        self._threads.append(threading.Thread(target=self._watch))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _start_builds(self, chance: random.Random) -> None:
        highest = 0
        while not self._stop.wait(chance.uniform(0.05, 0.9)):
            if len(self._ledger.open_builds()) > 40:
                continue
            order = Order(
                token=f"t{chance.getrandbits(64):x}",
                lines=chance.choice((0, 1, 3, 20, 200)),
                pause=chance.choice((0, 0, 0.01, 0.05)),
                exit_status=chance.choice((0, 0, 0, 1, 42)),
                stray=chance.random() < 0.2,
            )
            try:
                number = self._world.server.start_build("HEAD", order.command)
            except UNREACHABLE:
                self._ledger.count("starts not acknowledged")
                continue
            if number <= highest:
                self._ledger.fault(f"id {number} came after {highest}")
            highest = number
            self._ledger.acknowledge(number, order)

    def _watch(self) -> None:
        while not self._stop.wait(0.3):
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.look()

    def look(self) -> None:
        """Take in the builds that have become final, and look at one final one again."""
        for number in self._ledger.open_builds()[:50]:
            reply = self._world.server.get(f"/api/builds/{number}")
            if reply.status == 404:
                self._ledger.fault(f"build {number} was acknowledged and is gone")
            if reply.status != 200:
                return
            record = reply.json()
            if record["status"] in FINAL:
                self._ledger.finish(number, record)
        if self._ledger.finals:
            self._look_again(random.choice(list(self._ledger.finals)))

    def _look_again(self, number: int) -> None:
        reply = self._world.server.get(f"/api/builds/{number}")
        if reply.status != 200:
            return
        known, seen = self._ledger.finals[number], reply.json()
        # The address in it is that by which it was asked for.
        if {**known, "url": ""} != {**seen, "url": ""}:
            self._ledger.fault(f"build {number} changed: {known} -> {seen}")


class Monkey:
    """Does one bad thing after the other; what it broke for a while mends beside it."""

    def __init__(self, world: World, ledger: Ledger, seed: int) -> None:
        self._world, self._ledger = world, ledger
        self._chance = random.Random(seed)
        self._mending: list[threading.Thread] = []

    def play(self, until: float) -> None:
        deeds: list[Callable[[], None]] = (
            [self._end_process] * 6 + [self._pause] * 2 + [self._wire] * 5 + [self._trouble] * 5
        )
        while time.monotonic() < until:
            self._chance.choice(deeds)()
            time.sleep(self._chance.uniform(0.2, 3.0))
        for thread in self._mending:
            thread.join()

    def _later(self, seconds: float, mend: Callable[[], None]) -> None:
        def wait_and_mend() -> None:
            time.sleep(seconds)
            mend()

        thread = threading.Thread(target=wait_and_mend)
        thread.start()
        self._mending = [each for each in self._mending if each.is_alive()] + [thread]

    def _member(self) -> Optional[Member]:
        member = self._chance.choice(self._world.members)
        return member if member.lock.acquire(blocking=False) else None

    def _end_process(self) -> None:
        """SIGKILL or SIGTERM to the server or an agent, which starts again after a while."""
        member = self._member()
        if member is None:
            return
        name = "server" if member.process is self._world.server else "agent"
        kind = self._chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        self._ledger.count(f"{kind.name} {name}")
        member.process.send_signal(kind)

        def restart() -> None:
            try:
                member.process.wait_end(30)
                if kind == signal.SIGTERM and member.process.process.returncode != 0:  # type: ignore[union-attr]
                    self._ledger.fault(f"{member.process.name} ended badly on SIGTERM")
                member.process.restart()
            except Exception as error:
                self._ledger.fault(f"{member.process.name} did not come back: {error}")
            finally:
                member.lock.release()

        self._later(self._chance.choice((0, 0, 0.5, 2, 4)), restart)

    def _pause(self) -> None:
        """SIGSTOP, and SIGCONT some time after the others have given it up, or before."""
        member = self._member()
        if member is None:
            return
        self._ledger.count("SIGSTOP")
        member.process.pause()

        def resume() -> None:
            member.process.resume()
            member.lock.release()

        self._later(self._chance.choice((0.1, 1, 3, 5)), resume)

    def _trouble(self) -> None:
        trouble = self._chance.choice(self._world.troubles)
        if not trouble.lock.acquire(blocking=False):
            return
        self._ledger.count(trouble.begin(self._chance))

        def end() -> None:
            try:
                trouble.end()
            except Exception as error:
                self._ledger.fault(f"{type(trouble).__name__} did not end: {error}")
            finally:
                trouble.lock.release()

        self._later(self._chance.uniform(0.5, 6), end)

    def _wire(self) -> None:
        """Something bad between the server and one agent, in one direction of calling."""
        proxy = self._chance.choice(self._world.proxies)
        kind = self._chance.choice(("cut now", "refuse", HANG, DEAF, CUT, "delay", "cut answers"))
        self._ledger.count(f"wire: {kind}")
        if kind == "cut now":
            proxy.cut()
            return
        if kind == "refuse":
            proxy.refuse()
            self._later(self._chance.uniform(0.1, 4), proxy.listen)
            return
        if kind == "delay":
            proxy.delay = self._chance.uniform(0.01, 0.5)
        elif kind == "cut answers":
            proxy.cut_after = self._chance.randrange(400)
        else:
            proxy.mode = kind

        def mend() -> None:
            proxy.mode, proxy.delay, proxy.cut_after = PASS, 0.0, None

        self._later(self._chance.uniform(0.1, 4), mend)


def check(world: World, ledger: Ledger, folder: Path) -> None:
    """Everything that must hold once the queue has drained."""
    for number, order in sorted(ledger.orders.items()):
        record = ledger.finals.get(number)
        if record is None:
            ledger.fault(f"build {number} never became final")
            continue
        check_record(world, ledger, number, order, record)
    for trouble in world.troubles:
        for problem in trouble.problems():
            ledger.fault(problem)
    for problem in world.pushes.problems(world.server) + world.hooks.problems(world.server):
        ledger.fault(problem)
    ledger.counts["pushes"] = world.pushes.moves
    # A look of a server that was killed ends with its remote; no build is in it.
    known = ("minici", " ls-remote ")
    others = {
        pid: line
        for pid, line in marked(world.place.marker).items()
        if not any(word in line for word in known)
    }
    if others:
        ledger.fault(f"stray processes: {others}")
    for log in folder.glob("*.err"):
        text = log.read_text(encoding="utf-8", errors="replace")
        if "Traceback" in text:
            ledger.fault(f"{log.name} has a traceback: {text[text.index('Traceback') :][:1500]}")
        ledger.counts["results received"] += len(re.findall(r"POST /notify_build_result 200", text))
    repeats = ledger.counts["results received"] - len(ledger.finals)
    ledger.counts["repeats of a result"] = max(0, repeats)


def check_record(
    world: World, ledger: Ledger, number: int, order: Order, record: dict[str, Any]
) -> None:
    wanted = "success" if order.exit_status == 0 else "failure"
    if (record["status"], record["exit_status"]) != (wanted, order.exit_status):
        ledger.fault(f"build {number} should be {wanted} {order.exit_status}: {record}")
        return
    endings = [each["ending"] for each in record["attempts"]]
    if endings.count("finished") != 1 or None in endings:
        ledger.fault(f"build {number} has the endings {endings}")
    for stream, name in (("stdout", "out"), ("stderr", "err")):
        if world.server.output(number, stream) != order.stream(name):
            ledger.fault(f"build {number}: its {stream} is not what its command wrote")
    ledger.counts["requeues"] += len(endings) - 1


def play(minutes: float, seed: int, folder: Path) -> Ledger:
    """One whole game; what went wrong is in the ledger's `faults`."""
    place = Place(folder, Repository(folder / "repository"))
    ledger = Ledger()
    try:
        world = World(place, seed)
        clients = Clients(world, ledger, seed)
        clients.start()
        Monkey(world, ledger, seed).play(time.monotonic() + minutes * 60)
        world.pushes.stop()
        world.heal()
        clients.stop()
        drain(world, ledger, clients)
        check(world, ledger, folder)
    finally:
        place.close()
    return ledger


def drain(world: World, ledger: Ledger, clients: Clients) -> None:
    def drained() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            clients.look()
        return not ledger.open_builds()

    try:
        wait_for(drained, DRAIN_SECONDS, "the queue drained")
    except AssertionError as error:
        ledger.fault(f"{error}; open: {ledger.open_builds()}; {world.server.api('/agents')}")


def report(ledger: Ledger, minutes: float, seed: int) -> dict[str, Any]:
    kills = sum(count for name, count in ledger.counts.items() if name.startswith("SIG"))
    return {
        "minutes": minutes,
        "seed": seed,
        "kills, terminations and stops": kills,
        **dict(sorted(ledger.counts.items())),
        "longest seconds without progress": round(ledger.longest_wait, 1),
        "faults": ledger.faults,
    }


def main(arguments: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", action="store_true", help="keep the folder, faults or not")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="minici-chaos-"))
    ledger = play(options.minutes, options.seed, folder)
    print(json.dumps(report(ledger, options.minutes, options.seed), indent=1))
    if ledger.faults or options.keep:
        print(f"the logs and the data are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if ledger.faults else 0
