"""What urllib does unless told otherwise, and the calls between server and agents must not do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Callable

import pytest

from minici.web.client import Answer, CallError, Client, Failed, Refused

WORD = "pst-between-us"
Script = Callable[[socket.socket], None]


class Scripted:
    """A port that takes a request, notes it, and goes on as a script says."""

    def __init__(self, script: Script) -> None:
        self.heard: list[bytes] = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.heard.append(connection.recv(65536))
            self._script(connection)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Scripted]]:
    started: list[Scripted] = []

    def start(script: Script) -> Scripted:
        started.append(Scripted(script))
        return started[-1]

    yield start
    for each in started:
        each.close()


def says(text: bytes) -> Script:
    return lambda connection: connection.sendall(text)


OK = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
Serve = Callable[[Script], Scripted]


@pytest.mark.parametrize("kept", [0.0, 10.0])
def test_no_proxy_is_asked(serve: Serve, kept: float, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(OK), serve(OK)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert Client(server.url, WORD, kept=kept).get("/ping") == Answer(200, {})
    assert len(server.heard) == 1 and not proxy.heard


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kept", [0.0, 10.0])
def test_no_redirect_is_followed_and_the_secret_goes_nowhere_else(
    serve: Serve, kept: float, status: int
) -> None:
    elsewhere = serve(OK)
    head = f"HTTP/1.1 {status} X\r\nLocation: {elsewhere.url}/x\r\nContent-Length: 0\r\n\r\n"
    server = serve(says(head.encode()))
    for call in (lambda c: c.get("/ping"), lambda c: c.post("/build", {"id": 1})):
        with pytest.raises(Refused) as caught:
            call(Client(server.url, WORD, kept=kept))
        assert caught.value.status == status
    assert f"Bearer {WORD}".encode() in server.heard[0] and not elsewhere.heard


@pytest.mark.parametrize("base", ["file:///etc", "ftp://127.0.0.1", "data:text/plain,x", "x://y"])
def test_nothing_but_http_is_opened(base: str) -> None:
    with pytest.raises(CallError):
        Client(base, WORD).get("/hostname")


def drip(head: bytes, piece: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(300):
            connection.sendall(piece)
            time.sleep(0.1)

    return script


DRIPS = {
    "nothing": drip(b"", b""),
    "status line": drip(b"HTTP/1.1 200 ", b"O"),
    "headers": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "one header": drip(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "to go on": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"x"),
    "chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "body without end": drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("what", DRIPS)
@pytest.mark.parametrize("kept", [0.0, 10.0])
def test_an_answer_that_drips_has_its_time_and_no_more(
    serve: Serve, kept: float, what: str
) -> None:
    server = serve(DRIPS[what])
    begun = time.monotonic()
    with pytest.raises(Failed, match="in time"):
        Client(server.url, WORD, timeout=1, kept=kept).get("/ping")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("length", ["Content-Length: 99999999999\r\n", ""])
def test_an_answer_without_end_is_read_up_to_a_limit(serve: Serve, length: str) -> None:
    sent: list[int] = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
        for _ in range(2000):
            sent.append(connection.send(b"x" * 65536))

    assert Client(serve(flood).url, WORD).get("/ping") == Answer(200, {})
    assert sum(sent) < 20 * 2**20, "one MiB, and what is on the way"


ODD = [
    b"",
    b"\r\n\r\n",
    b"hello\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50_000,
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"\xff" * 70_000,
]


@pytest.mark.parametrize("answer", ODD)
@pytest.mark.parametrize("kept", [0.0, 10.0])
def test_an_answer_that_is_none_is_a_failure_to_try_again(
    serve: Serve, kept: float, answer: bytes
) -> None:
    """Or a 200 that says nothing: never another exception, nor lists that nobody gave."""
    client = Client(serve(says(answer)).url, WORD, timeout=5, kept=kept)
    try:
        assert client.get("/ping") == Answer(200, {})
    except Failed as error:
        assert WORD not in str(error) and "\n" not in str(error)


def test_two_answers_to_one_call_are_not_the_next_ones(serve: Serve) -> None:
    """On a connection that is kept: what was not asked for is no answer."""
    right = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + b'{"a": 1}'
    planted = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + b'{"a": 2}'

    def script(connection: socket.socket) -> None:
        connection.sendall(right + planted)
        while connection.recv(65536):
            connection.sendall(right + planted)

    client = Client(serve(script).url, WORD, kept=10)
    for _ in range(3):
        assert client.get("/ping").data == {"a": 1}
