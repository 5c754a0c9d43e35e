"""A client of a minici server's API: section 3 of the contract, "for people and their programs".

One connection per call, no proxy, no redirect. Whoever writes a client in another language finds
here all that it takes: JSON in, JSON out, HTTP Basic, and Server-Sent Events that go on from
`Last-Event-ID`.
"""

from __future__ import annotations

import base64
import http.client
import json
import netrc
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

Build = Mapping[str, Any]

CALL_SECONDS = 30.0  # for each step of a call
SILENCE_SECONDS = 90.0  # a stream that is silent for longer is opened again
AWAY_SECONDS = 600.0  # a server that is away for longer does not come back
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_BLOCK = 64 * 1024  # bytes
_PAGE = 200  # builds in one answer
_UNAVAILABLE = frozenset((408, 429))  # and all above 499: worth another try


class ServerError(Exception):
    """An answer that is not of the 2xx or 3xx kind. `status` is the HTTP status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class NoAnswer(Exception):
    """The server could not be reached, broke off, or can't answer now.

    `sent` is False where the request certainly did not arrive.
    """

    def __init__(self, sentence: str, sent: bool = True) -> None:
        super().__init__(sentence)
        self.sent = sent


class BadAddress(Exception):
    """The address of the server can't be used."""


@dataclass(frozen=True)
class Event:
    """A Server-Sent Event; `data` is its JSON object."""

    id: str
    kind: str
    data: Mapping[str, Any]


class Client:
    """Calls to one server. `url` may hold a name and a password; else ~/.netrc is asked.

    Every call raises ServerError for a refusal and NoAnswer where there was no answer.
    Raises BadAddress for a URL that is none.
    """

    def __init__(self, url: str) -> None:
        parts = _split(url)
        self._https = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        path = parts.path.rstrip("/")
        self._prefix = path
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = f":{self._port}" if self._port else ""
        self.base = f"{parts.scheme}://{host}{port}{path}"
        self._headers = {"Accept": "application/json", "User-Agent": "minici"}
        person = _person(parts)
        if person:
            word = base64.b64encode(":".join(person).encode()).decode("ascii")
            self._headers["Authorization"] = f"Basic {word}"

    # Builds.

    def start(self, params: Mapping[str, str]) -> Build:
        """Start a build; return it, with its id."""
        return self._json("POST", "/api/builds", "id", params)

    def build(self, number: int) -> Build:
        return self._json("GET", f"/api/builds/{number}", "id")

    def page(self, **query: object) -> Mapping[str, Any]:
        """One page of builds, newest first: `builds`, and `next`, the path of the one behind it."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._json("GET", f"/api/builds?{urllib.parse.urlencode(given)}", "builds")

    def builds(self, **query: object) -> Iterator[Build]:
        """All builds, newest first, read page by page."""
        page = self.page(limit=_PAGE, **query)
        while True:
            yield from page["builds"]
            following = page.get("next")
            if not following:
                return
            parts = urllib.parse.urlsplit(following)
            path = parts.path
            if self._prefix and path.startswith(self._prefix + "/"):
                path = path[len(self._prefix) :]
            page = self._json("GET", f"{path}?{parts.query}", "builds")

    def cancel(self, number: int) -> None:
        self._open("POST", f"/build/{number}/cancel", {}).close()

    def rebuild(self, number: int) -> int:
        """Start a build again; return the id of the new one."""
        with self._open("POST", f"/build/{number}/rebuild", {}) as answer:
            place = answer.location.rpartition("/")[2]
        if not (place.isascii() and place.isdigit()):
            raise ServerError(f"{self.base} does not say which build it has started", 200)
        return int(place)

    def output(self, number: int, view: str = "output") -> Iterator[bytes]:
        """The output of a build, exactly as written: `output`, `stdout`, `stderr`, `checkout`."""
        return self._blocks(f"/build/{number}/{view}")

    def file(self, number: int, path: str) -> Iterator[bytes]:
        """The bytes of one of a build's files."""
        return self._blocks(f"/build/{number}/files/{urllib.parse.quote(path)}")

    # Agents.

    def agents(self) -> list[Mapping[str, Any]]:
        return list(self._json("GET", "/api/agents", "agents")["agents"])

    def set_paused(self, address: str, paused: bool) -> None:
        """Give an agent no more builds, or give it builds again."""
        verb = "pause" if paused else "resume"
        self._open("POST", f"/agents/{verb}", {"agent": address}).close()

    # Following.

    def follow(
        self, number: int, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Event]:
        """The events of a build from its beginning, up to `status`, each exactly once.

        Where the stream breaks off, it goes on behind the last event that was read whole, for as
        long as the server is away for no more than AWAY_SECONDS; `say` is told of it.
        """
        last, away_since, pause = "", None, _FIRST_PAUSE_SECONDS
        while True:
            try:
                for event in self.events(number, last):
                    if away_since is not None:
                        say("the server is back")
                        away_since, pause = None, _FIRST_PAUSE_SECONDS
                    yield event
                    last = event.id or last
                    if event.kind == "status":
                        return
                why = "the stream ended early"
            except NoAnswer as error:
                why = str(error)
            now = time.monotonic()
            if away_since is None:
                away_since = now
                say(f"{why}; waiting for {self.base}")
            elif now - away_since > AWAY_SECONDS:
                raise NoAnswer(f"{self.base} was away for {AWAY_SECONDS / 60:.0f} minutes: {why}")
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def events(self, number: int, last: str = "") -> Iterator[Event]:
        """The events of one stream, behind the one whose id is `last`."""
        headers = {"Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = last
        path = f"/build/{number}/live"
        with self._open("GET", path, headers=headers, timeout=SILENCE_SECONDS) as answer:
            yield from read_events(answer)

    # One call.

    def _json(
        self, method: str, path: str, key: str, params: Optional[Mapping[str, str]] = None
    ) -> Mapping[str, Any]:
        """The JSON object of an answer, which must have a `key`."""
        with self._open(method, path, params) as answer:
            body = b"".join(answer.blocks())
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict) or key not in data:
            raise ServerError(f"{self.base} is no minici server: {path} has no {key} there", 200)
        return data

    def _blocks(self, path: str) -> Iterator[bytes]:
        with self._open("GET", path, headers={"Accept": "*/*"}) as answer:
            yield from answer.blocks()

    def _open(
        self,
        method: str,
        path: str,
        params: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: float = CALL_SECONDS,
    ) -> _Answer:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout)
        try:
            connection.connect()
        except (OSError, ValueError) as error:
            connection.close()
            raise NoAnswer(f"no answer from {self.base}: {_said(error)}", sent=False) from None
        body = None if params is None else urllib.parse.urlencode(params).encode("ascii")
        every = {**self._headers, **(headers or {})}
        if body is not None:
            every["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, self._prefix + path, body, every)
            response = connection.getresponse()
            if response.status >= 400:
                raise self._refusal(response, path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise NoAnswer(f"no answer from {self.base}: {_said(error)}") from None
        except (ServerError, NoAnswer):
            connection.close()
            raise
        return _Answer(self.base, connection, response)

    def _refusal(self, response: http.client.HTTPResponse, path: str) -> Exception:
        body = response.read(_BLOCK)
        try:
            sentence = str(json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            sentence = f"HTTP {response.status} {response.reason} for {path}"
        if response.status == 401:
            sentence = (
                f"{self.base} asks for another name and password: put them into the URL, "
                "http://NAME:PASSWORD@HOST, or into ~/.netrc"
            )
        if response.status >= 500 or response.status in _UNAVAILABLE:
            return NoAnswer(f"{self.base} can't do it now: {sentence}", sent=False)
        return ServerError(sentence, response.status)


class _Answer:
    """An answer that is being read; closing it closes the connection."""

    def __init__(
        self,
        base: str,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
    ) -> None:
        self._base = base
        self._connection = connection
        self._response = response
        self.location = response.getheader("Location") or ""

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes. Raises NoAnswer where it is cut short."""
        while True:
            try:
                block = self._response.read1(_BLOCK)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise NoAnswer(f"{self._base} broke off: {_said(error)}") from None
            if not block:
                if self._response.length:  # bytes that a Content-Length has promised
                    raise NoAnswer(f"{self._base} broke off in the middle of an answer")
                return
            yield block


def read_events(answer: Any) -> Iterator[Event]:
    """Parse Server-Sent Events; an event counts once the blank line behind it was read."""
    rest, fields = b"", {}
    for block in answer.blocks():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").decode("utf-8", "replace").partition(":")
            if name:
                fields[name] = value[1:] if value.startswith(" ") else value
            elif not value and not line.startswith(b":"):
                if "data" in fields:
                    kind = fields.get("event", "message")
                    yield Event(fields.get("id", ""), kind, _event_data(fields["data"]))
                fields = {}


def _event_data(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {}


def _split(url: str) -> urllib.parse.SplitResult:
    text = url if "://" in url else f"http://{url}"
    shown = text.rpartition("@")[2]  # without a password
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise BadAddress(f"--server {shown}: {error}; write http://HOST:PORT") from None
    wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query
    if wrong or any(c.isspace() for c in text) or not parts.path.isascii():
        raise BadAddress(f"--server {shown}: not the URL of a server; write http://HOST:PORT")
    return parts


def _person(parts: urllib.parse.SplitResult) -> Optional[tuple[str, str]]:
    """The name and password for a server: those in its URL, else those in ~/.netrc."""
    if parts.username is not None:
        unquote = urllib.parse.unquote
        return unquote(parts.username), unquote(parts.password or "")
    try:
        found = netrc.netrc().authenticators(parts.hostname or "")
    except (OSError, UnicodeDecodeError):
        return None  # there is none, or none that can be read
    except netrc.NetrcParseError as error:
        raise BadAddress(f"~/.netrc: {error}") from None
    return (found[0], found[2] or "") if found else None


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
