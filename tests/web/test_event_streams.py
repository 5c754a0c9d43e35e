"""Many people who watch: what they cost, that nobody waits for them, and how each of them ends."""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Optional

import pytest

from minici.web import event_streams as viewers_module
from minici.web.event_streams import EventSender
from tests.support.fakes import FakeAgent
from tests.support.harness import ROOT, Place, ServerProcess, wait_for
from tests.support.http_client import Events, fetch, receive_all

MANY = 300


class Crowd:
    """EventSender of one build who read whatever comes, all in one thread of the test."""

    def __init__(self, server: ServerProcess, number: int, count: int) -> None:
        self.received: dict[socket.socket, bytearray] = {}
        self.ended = 0
        self._selector = selectors.DefaultSelector()
        self._leaving = threading.Event()
        ask = f"GET /build/{number}/live?changes=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for _ in range(count):
            viewer = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            viewer.sendall(ask)
            viewer.setblocking(False)
            self.received[viewer] = bytearray()
            self._selector.register(viewer, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._leaving.is_set():
            for key, _ in self._selector.select(0.1):
                viewer: Any = key.fileobj
                with contextlib.suppress(BlockingIOError):
                    data = viewer.recv(1 << 16)
                    self.received[viewer] += data
                    if not data:
                        self._selector.unregister(viewer)
                        self.ended += 1

    def all_have(self, text: bytes) -> bool:
        return all(text in received for received in list(self.received.values()))

    def close(self) -> None:
        self._leaving.set()
        self._thread.join()
        self._selector.close()
        for viewer in self.received:
            viewer.close()


def waited(build: dict[str, Any]) -> float:
    """Seconds from being queued to being handed over."""
    queued, started = (
        datetime.fromisoformat(build[name].replace("Z", "+00:00"))
        for name in ("queued_at", "started_at")
    )
    return (started - queued).total_seconds()


def threads(server: ServerProcess) -> int:
    return len(list(Path(f"/proc/{server.pid}/task").iterdir()))


def shown(received: bytes) -> str:
    """The text that a viewer has been sent, in whatever pieces."""
    events = re.findall(rb"event: output\ndata: (.*)\n", received)
    return "".join(json.loads(event)["text"] for event in events)


def test_three_hundred_viewers_do_not_delay_a_dispatch(place: Place) -> None:
    """They watch a build that writes fifty times a second, and get all of it."""
    server = place.server()
    place.agent(server, slots=2)
    gate = place.folder / "gate"
    watched = server.start_build(
        command=f"while [ ! -e {gate} ]; do date; sleep 0.02; done; echo the very end"
    )
    server.wait_status(watched, "running")
    others = [server.wait_final(server.start_build()) for _ in range(5)]
    before, alone = server.memory(), threads(server)
    crowd = place.keep(Crowd(server, watched, MANY))
    wait_for(lambda: crowd.all_have(b'"stream"'), 30, "each of them sees something")
    beside = [server.wait_final(server.start_build()) for _ in range(15)]
    assert all(build["status"] == "success" for build in [*others, *beside])
    usual, watched_by_many = (median(map(waited, builds)) for builds in (others, beside))
    assert watched_by_many < 0.03 + 5 * usual, (usual, watched_by_many)
    wait_for(lambda: threads(server) < alone + 30, what="they have no threads")
    assert server.memory() - before < 20 * 1024 * 1024
    gate.touch()
    server.wait_final(watched)
    wait_for(lambda: crowd.ended == MANY, 30, "each connection ends with the build")
    assert crowd.all_have(b"the very end") and crowd.all_have(b"event: status")
    assert len({shown(bytes(each)) for each in crowd.received.values()}) == 1, "all see the same"


def test_more_than_may_watch_are_turned_away_until_some_have_left(
    place: Place,
) -> None:
    server = place.server()
    number = server.start_build()
    crowd = place.keep(Crowd(server, number, 400))
    wait_for(lambda: crowd.all_have(b"retry"), 30)
    refused = server.get(f"/build/{number}/live")
    assert refused.status == 503 and refused.header("Retry-After") == "10"
    assert server.request("HEAD", f"/build/{number}/live").status == 503
    crowd.close()

    def let_in() -> bool:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as viewer:
            viewer.sendall(
                f"HEAD /build/{number}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            return b" 200 " in viewer.recv(1000)

    wait_for(let_in, 10, "somebody is let in again")
    for _ in range(450):
        assert let_in(), "who asks for the head alone takes no place"


def test_new_states_come_to_those_who_asked_for_them(place: Place) -> None:
    server = place.server()
    number = server.start_build()
    plain, told = (
        Events(("127.0.0.1", server.port), f"/build/{number}/live{query}")
        for query in ("", "?changes=1")
    )
    events = iter(told)
    first = next(events)
    assert (first.kind, first.data["status"]) == ("build", "queued")
    agent = place.keep(FakeAgent(server))
    build = agent.wait_build()
    second = next(events)
    assert (second.kind, second.data["status"]) == ("build", "running")
    agent.output(build, "stdout", 0, b"text")
    assert next(events).kind == "output"
    server.post(f"/build/{number}/cancel")
    third = next(events)
    assert third.kind == "build" and third.data["cancel_requested"]
    agent.result(build, -15, "", stdout_offset=4)
    rest = list(events)
    assert [(each.kind, each.data["status"]) for each in rest] == [("status", "cancelled")]
    assert [each.kind for each in plain.all()] == ["output", "status"]
    told.close()


def test_viewers_over_tls_get_all_of_a_flood(place: Place) -> None:
    """Encrypted, a piece can be taken by half, and the rest must be offered again as it was."""
    tls = ROOT / "tests" / "support" / "tls"
    server = place.configure_server(
        certificate=tls / "certificate.pem", private_key=tls / "private_key.pem", output_limit="16M"
    )
    server.start()
    agent = place.configure_agent(f"https://{server.address}", authority=tls / "certificate.pem")
    agent.start()
    context = ssl.create_default_context(cafile=str(tls / "certificate.pem"))
    body = b'{"commit": "HEAD", "command": "sleep 1; seq 1 400000"}'
    kind = {"Content-Type": "application/json"}
    address = ("127.0.0.1", server.port)
    assert fetch(address, "POST", "/api/builds", body, kind, context=context).status == 201
    with contextlib.ExitStack() as stack:
        watching = [stack.enter_context(_encrypted(address, context)) for _ in range(3)]
        for viewer in watching:
            viewer.sendall(b"GET /build/1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(2)  # so long they take nothing, and what fits into the connection is full
        for viewer in watching:
            received = receive_all(viewer).decode()
            texts = re.findall('"stream":"stdout",[^}]*"text":"([^"]*)"', received)
            assert "".join(texts).replace("\\n", "\n") == "".join(
                f"{n}\n" for n in range(1, 400_001)
            )
            assert received.count("event: status") == 1


@contextlib.contextmanager
def _encrypted(address: tuple[str, int], context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    plain.settimeout(30)
    plain.connect(address)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
        yield encrypted


# One thread for all: with real sockets, and something of the test's own to be sent.


class Lines:
    """What a viewer is sent, piece by piece; None is the end."""

    sign_of_life = b"~"

    def __init__(self, *pieces: Optional[bytes], subject: int = 1) -> None:
        self.subject = subject
        self.pieces = list(pieces)
        self.asked_in_vain = threading.Event()
        self.closed = threading.Event()

    def more(self) -> Optional[bytes]:
        if self.pieces:
            return self.pieces.pop(0)
        self.asked_in_vain.set()
        return b""

    def close(self) -> None:
        self.closed.set()


class Room:
    """EventSender, and the other ends of their connections."""

    def __init__(self) -> None:
        self.viewers = EventSender()
        self.gone: list[Lines] = []

    def seat(self, lines: Lines) -> socket.socket:
        here, there = socket.socketpair()
        there.settimeout(10)
        self.viewers.add(here, lines, lambda: self.gone.append(lines))
        return there


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.viewers.stop()
    assert not [each for each in threading.enumerate() if each.name == "viewers"]


def test_news_goes_to_those_whom_it_concerns(room: Room) -> None:
    one, two = Lines(b"a"), Lines(b"b", subject=2)
    first, second = room.seat(one), room.seat(two)
    assert (first.recv(9), second.recv(9)) == (b"a", b"b")
    assert one.asked_in_vain.wait(5) and two.asked_in_vain.wait(5)
    one.pieces, two.pieces = [b"news"], [b"unheard"]
    room.viewers.wake(1)
    assert first.recv(9) == b"news"
    second.settimeout(0.3)
    with pytest.raises(socket.timeout):
        second.recv(9)


def test_the_end_of_what_is_sent_ends_the_connection(room: Room) -> None:
    lines = Lines(b"last words", None)
    viewer = room.seat(lines)
    assert receive_all(viewer) == b"last words"
    assert lines.closed.wait(5)
    wait_for(lambda: room.gone == [lines], 5)


def test_a_viewer_who_leaves_is_missed_at_once(room: Room) -> None:
    lines = Lines(b"x")
    viewer = room.seat(lines)
    assert viewer.recv(1) == b"x"
    viewer.close()
    assert lines.closed.wait(5)


def test_a_viewer_who_takes_nothing_holds_up_nobody(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewers_module, "TAKE_SECONDS", 1.0)
    deaf, lines = Lines(b"x" * 5_000_000), Lines(b"at once")
    seats = [room.seat(deaf), room.seat(lines)]
    assert seats[1].recv(9) == b"at once"
    assert deaf.closed.wait(10), "and is let go in the end"
    assert not lines.closed.is_set()


def test_silence_is_broken_by_a_sign_of_life(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers_module, "SILENCE", 0.5)
    assert room.seat(Lines()).recv(9) == b"~"


def test_what_can_not_be_made_ends_one_connection_alone(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Lines):
        def more(self) -> Optional[bytes]:
            raise ValueError("nonsense")

    assert receive_all(room.seat(Broken())) == b""
    assert "nonsense" in caplog.text
    assert room.seat(Lines(b"others")).recv(9) == b"others"


def test_an_end_that_fails_is_in_the_log_and_others_are_served(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Lines):
        def close(self) -> None:
            super().close()
            raise ValueError("nonsense")

    broken = Broken(None)
    assert receive_all(room.seat(broken)) == b""
    assert broken.closed.wait(5)
    assert room.seat(Lines(b"others")).recv(9) == b"others"
    wait_for(lambda: "internal error while events were sent" in caplog.text)


def test_who_comes_after_the_end_is_let_go() -> None:
    room = Room()
    early, late = Lines(), Lines()
    viewer = room.seat(early)
    room.viewers.stop()
    assert receive_all(viewer) == b"" and early.closed.is_set()
    assert receive_all(room.seat(late)) == b"" and late.closed.is_set()
    assert room.gone == [early, late]


def test_news_after_the_end_is_for_nobody(room: Room) -> None:
    """A server that stops still takes results, and whoever brings one is not to be bothered."""
    viewer = room.seat(Lines(b"x"))
    assert viewer.recv(1) == b"x"
    room.viewers.stop()
    room.viewers.wake(1)
