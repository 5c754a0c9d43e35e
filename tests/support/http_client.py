"""The HTTP that the tests speak, with no more help than exact bytes need."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlencode

Address = tuple[str, int]


@dataclass
class Reply:
    """An answer, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """A header's value, which must be there."""
        value = self.headers.get(name)
        assert value is not None, f"no {name} in {self}"
        return value

    def error(self) -> str:
        """The sentence of an error answered as JSON."""
        assert "json" in self.header("Content-Type"), self
        sentence = self.json()["error"]
        assert isinstance(sentence, str) and sentence and "\n" not in sentence, self
        return sentence

    def __repr__(self) -> str:
        return f"<{self.status} {dict(self.headers)} {self.body[:600]!r}>"


def encode_form(params: Mapping[str, Any]) -> tuple[bytes, str]:
    """A form's body and its content type; surrogate escapes become the bytes they stand for."""
    body = urlencode({k: str(v) for k, v in params.items()}, errors="surrogateescape")
    return body.encode("ascii"), "application/x-www-form-urlencoded"


def fetch(
    address: Address,
    method: str,
    path: str,
    body: Optional[bytes] = None,
    headers: Optional[Mapping[str, str]] = None,
    timeout: float = 30.0,
    context: Optional[ssl.SSLContext] = None,
) -> Reply:
    """One request on a connection of its own. Redirects are not followed."""
    if context is None:
        connection = http.client.HTTPConnection(*address, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection(*address, timeout=timeout, context=context)
    try:
        given = {name.lower(): value for name, value in (headers or {}).items()}
        connection.putrequest(method, path, skip_host="host" in given, skip_accept_encoding=True)
        for name, value in given.items():
            connection.putheader(name, value)
        if body is not None or method == "POST":
            connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders(body or b"")
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def raw(port: int, data: bytes, timeout: float = 30.0, half_close: bool = False) -> bytes:
    """Send exactly these bytes and return all that comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.settimeout(timeout)
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it answered and closed before it had read all: the answer counts
        return receive_all(connection)


def receive_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes, or resets."""
    received = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def status_of(answer: bytes) -> int:
    """The status of a raw answer."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


@dataclass
class Event:
    """One event of a live stream."""

    kind: str
    data: Any
    id: str


class Events:
    """The live stream of a build, event by event as they arrive."""

    def __init__(self, address: Address, path: str, last: Optional[str] = None) -> None:
        self.connection = http.client.HTTPConnection(*address, timeout=60)
        headers = {"Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = last
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()
        self.opened = time.monotonic()

    def __iter__(self) -> Iterator[Event]:
        kind, place = "message", ""
        data: list[str] = []
        while True:
            line = self.response.readline().decode("utf-8").rstrip("\r\n")
            if line == "":
                if data:
                    yield Event(kind, json.loads("\n".join(data)), place)
                elif self.response.isclosed() or self.response.closed:
                    return
                kind, data = "message", []
                if self.response.isclosed():
                    return
                continue
            field, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if field == "event":
                kind = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                place = value

    def all(self) -> list[Event]:
        """Every event until the end of the stream."""
        events = list(self)
        self.close()
        return events

    def next_output(self) -> Event:
        """The next `output` event."""
        for event in self:
            if event.kind == "output":
                return event
        raise AssertionError("the live stream has ended")

    def close(self) -> None:
        self.connection.close()


def text_of(events: list[Event], stream: Optional[str] = None) -> str:
    """What the `output` events say, put together."""
    return "".join(
        event.data["text"]
        for event in events
        if event.kind == "output" and stream in (None, event.data["stream"])
    )
