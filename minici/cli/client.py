"""A client of a minici server's API: section 3 of the contract, "for people and their programs".

Whoever writes a client in another language finds here all that it takes: JSON in, JSON out, HTTP
Basic, and Server-Sent Events that go on from `Last-Event-ID`.
"""

from __future__ import annotations

import itertools
import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from minici.cli.connection import Answer, Connection, NoAnswer, ServerError

Build = Mapping[str, Any]

SILENCE_SECONDS = 90.0  # a stream that is silent for longer is opened again
AWAY_SECONDS = 600.0  # a server that is away for longer does not come back
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_PAGE = 200  # builds in one answer


@dataclass(frozen=True)
class Event:
    """A Server-Sent Event; `data` is its JSON object."""

    id: str
    kind: str
    data: Mapping[str, Any]


class Patience:
    """Waits for a server that is away, longer and longer, for AWAY_SECONDS; `say` is told of it."""

    def __init__(
        self, base: str, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._base = base
        self._say = say
        self._sleep = sleep
        self._away_since: Optional[float] = None
        self._pause = _FIRST_PAUSE_SECONDS

    def wait(self, why: str) -> None:
        """Pause before the next try. Raises NoAnswer when the server was away for too long."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._say(f"{why}; waiting for {self._base}")
        elif now - self._away_since > AWAY_SECONDS:
            raise NoAnswer(f"{self._base} was away for {AWAY_SECONDS / 60:.0f} minutes: {why}")
        self._sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def answered(self) -> None:
        """Begin anew: the server has answered."""
        if self._away_since is not None:
            self._say("the server is back")
            self._away_since, self._pause = None, _FIRST_PAUSE_SECONDS


class Client:
    """Calls to one server. `url` may hold a name and a password; else ~/.netrc is asked.

    Every call raises ServerError for a refusal and NoAnswer where there was no answer.
    Raises BadAddress for a URL that is none.
    """

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self.base = self._connection.base

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

    def builds(self, most: Optional[int] = None, **query: object) -> Iterator[Build]:
        """The newest `most` builds, or all, newest first, read page by page."""
        return itertools.islice(self._builds(min(most or _PAGE, _PAGE), query), most)

    def _builds(self, limit: int, query: Mapping[str, object]) -> Iterator[Build]:
        page = self.page(limit=limit, **query)
        while True:
            yield from page["builds"]
            following = page.get("next")
            if not following:
                return
            parts = urllib.parse.urlsplit(following)
            path = self._connection.without_prefix(parts.path)
            page = self._json("GET", f"{path}?{parts.query}", "builds")

    def cancel(self, number: int) -> None:
        self._connection.open("POST", f"/build/{number}/cancel", {}).close()

    def rebuild(self, number: int) -> int:
        """Start a build again; return the id of the new one."""
        with self._connection.open("POST", f"/build/{number}/rebuild", {}) as answer:
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
        self._connection.open("POST", f"/agents/{verb}", {"agent": address}).close()

    # Following.

    def follow(
        self, number: int, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Event]:
        """The events of a build from its beginning, up to `status`, each exactly once.

        Where the stream breaks off, it goes on behind the last event that was read whole, for as
        long as the server is away for no more than AWAY_SECONDS; `say` is told of it.
        """
        last, patience = "", Patience(self.base, say, sleep)
        while True:
            try:
                for event in self.events(number, last):
                    patience.answered()
                    yield event
                    last = event.id or last
                    if event.kind == "status":
                        return
                patience.wait("the stream ended early")
            except NoAnswer as error:
                patience.wait(str(error))

    def events(self, number: int, last: str = "") -> Iterator[Event]:
        """The events of one stream, behind the one whose id is `last`."""
        headers = {"Accept": "text/event-stream, application/json"}  # JSON is for refusals
        if last:
            headers["Last-Event-ID"] = last
        path = f"/build/{number}/live"
        with self._connection.open("GET", path, headers=headers, timeout=SILENCE_SECONDS) as answer:
            yield from read_events(answer)

    def _json(
        self, method: str, path: str, key: str, params: Optional[Mapping[str, str]] = None
    ) -> Mapping[str, Any]:
        """The JSON object of an answer, which must have a `key`."""
        with self._connection.open(method, path, params) as answer:
            body = b"".join(answer.blocks())
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict) or key not in data:
            raise ServerError(f"{self.base} is no minici server: {path} has no {key} there", 200)
        return data

    def _blocks(self, path: str) -> Iterator[bytes]:
        headers = {"Accept": "*/*, application/json"}  # JSON is for refusals
        with self._connection.open("GET", path, headers=headers) as answer:
            yield from answer.blocks()


class PatientClient(Client):
    """A client whose calls for JSON wait for a server that has answered before and is away now.

    A request to start a build that may have arrived is not repeated.
    """

    def __init__(self, client: Client, say: Callable[[str], None]) -> None:
        self._connection = client._connection
        self.base = client.base
        self._say = say
        self._known = False

    def _json(
        self, method: str, path: str, key: str, params: Optional[Mapping[str, str]] = None
    ) -> Mapping[str, Any]:
        patience = Patience(self.base, self._say)
        while True:
            try:
                data = super()._json(method, path, key, params)
                patience.answered()
                self._known = True
                return data
            except NoAnswer as error:
                if not self._known or (error.sent and method != "GET"):
                    raise
                patience.wait(str(error))


def read_events(answer: Answer) -> Iterator[Event]:
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
