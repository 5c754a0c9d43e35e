"""Connections that are kept between calls: `minici/web/keepalive.py`, by way of its one user."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Callable

import pytest

from minici.web.client import Client, Failed
from tests.support.harness import wait_for

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=100\r\n\r\n{}"

Serve = Callable[[socket.socket], bool]


class Peer:
    """A server that is a script: `serve` answers one request, and says whether it goes on."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.connections: list[socket.socket] = []
        self.heads: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65536)
                    if not data:
                        return
                    head += data
                self.heads.append(head)
                if not self.serve(connection):
                    return


@pytest.fixture
def made() -> Iterator[Callable[[Serve], Peer]]:
    peers: list[Peer] = []

    def make(serve: Serve) -> Peer:
        peers.append(Peer(serve))
        return peers[-1]

    yield make
    for peer in peers:
        peer.listener.close()


def answers(connection: socket.socket) -> bool:
    connection.sendall(ANSWER)
    return True


def answers_once(connection: socket.socket) -> bool:
    connection.sendall(ANSWER)
    return False


def test_the_next_call_takes_the_same_connection(made: Callable[[Serve], Peer]) -> None:
    peer = made(answers)
    client = Client(peer.base, kept=60)
    for _ in range(5):
        assert client.get("/ping").status == 200
    assert client.post("/build", {"id": 1}).status == 200
    assert len(peer.connections) == 2, "the first call could not know that they are kept"


@pytest.mark.parametrize("said", [b"", b"Keep-Alive: timeout=5\r\n", b"Keep-Alive: max=100\r\n"])
def test_who_does_not_say_that_it_keeps_connections_gets_new_ones(
    made: Callable[[Serve], Peer], said: bytes
) -> None:
    def answers_so(connection: socket.socket) -> bool:
        connection.sendall(ANSWER.replace(b"Keep-Alive: timeout=100\r\n", said))
        return True

    peer = made(answers_so)
    client = Client(peer.base, kept=60)
    for count in range(1, 4):
        client.get("/ping")
        assert len(peer.connections) == count
    assert all(b"connection: close" in head.lower() for head in peer.heads)


def test_without_keeping_each_call_has_its_own(made: Callable[[Serve], Peer]) -> None:
    peer = made(answers)
    client = Client(peer.base)
    for _ in range(3):
        client.get("/ping")
    assert len(peer.connections) == 3
    assert all(b"connection: close" in head.lower() for head in peer.heads)


def test_a_connection_that_the_other_side_has_ended_is_not_used(
    made: Callable[[Serve], Peer],
) -> None:
    peer = made(answers_once)
    client = Client(peer.base, kept=60)
    for count in range(1, 5):
        assert client.post("/build", {"id": count}).status == 200
        assert len(peer.connections) == count
        wait_for(lambda: peer.connections[-1].fileno() == -1, what="its end")


def test_a_call_that_gets_no_answer_is_not_made_again(made: Callable[[Serve], Peer]) -> None:
    """Whether the other side has taken it, nobody knows: rule 4 of section 5."""

    def answers_only_two(connection: socket.socket) -> bool:
        return len(peer.heads) < 3 and answers(connection)

    peer = made(answers_only_two)
    client = Client(peer.base, kept=60)
    client.get("/ping")
    client.get("/ping")
    with pytest.raises(Failed) as failed:
        client.post("/build", {"id": 1})
    assert failed.value.sent and len(peer.heads) == 3 and len(peer.connections) == 2


def test_an_idle_connection_is_not_trusted(made: Callable[[Serve], Peer]) -> None:
    peer = made(answers)
    client = Client(peer.base, kept=0.001)
    client.get("/ping")
    client.get("/ping")
    wait_for(lambda: client.get("/ping") and len(peer.connections) > 2)


def test_what_was_not_read_to_its_end_is_not_used_again(made: Callable[[Serve], Peer]) -> None:
    def slow(connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        return True

    peer = made(answers)
    client = Client(peer.base, timeout=0.3, kept=60)
    client.get("/ping")
    peer.serve = slow
    with pytest.raises(Failed):
        client.get("/ping")
    peer.serve = answers
    assert client.get("/ping").status == 200
    assert len(peer.connections) == 3


def test_calls_at_the_same_time_have_a_connection_each(made: Callable[[Serve], Peer]) -> None:
    gate = threading.Barrier(3)

    def together(connection: socket.socket) -> bool:
        gate.wait(30)
        return answers(connection)

    peer = made(answers)
    client = Client(peer.base, kept=60)
    client.get("/ping")
    peer.serve = together
    threads = [threading.Thread(target=client.get, args=("/ping",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(peer.connections) == 4
    gate.reset()
    peer.serve = answers
    client.get("/ping")
    assert len(peer.connections) == 4


def test_a_connection_that_no_call_takes_is_ended(made: Callable[[Serve], Peer]) -> None:
    """Calls take the one that was used last, so one that only a busy moment needed waits behind."""
    gate = threading.Barrier(2)

    def together(connection: socket.socket) -> bool:
        gate.wait(30)
        return answers(connection)

    peer = made(answers)
    client = Client(peer.base, kept=1.0)
    client.get("/ping")
    peer.serve = together
    threads = [threading.Thread(target=client.get, args=("/ping",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    peer.serve = answers
    first, *two = peer.connections
    assert len(two) == 2

    def one_has_ended() -> bool:
        client.get("/ping")
        return any(each.fileno() == -1 for each in two)

    wait_for(one_has_ended, what="the end of the connection that no call takes")
