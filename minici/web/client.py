"""Calling: one HTTP call between server and agent, and what its failure means.

Each call knows no proxy, follows no redirect, opens nothing but http and https, and has a time
limit. Section 3 of the contract; which failures are tried again is rule 10 of its section 5.
"""

from __future__ import annotations

import errno
import http.client
import json
import random
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Callable, Optional, Union

from minici.reasons import Reason, from_json
from minici.web import tls
from minici.web.keepalive import KeepAliveHandler, TimedResponse

Bytes = Union[bytes, "memoryview[int]"]
Body = Union[Bytes, BinaryIO]

_ANSWER_LIMIT = 1024 * 1024  # bytes: an agent's ping with thousands of builds is far below it
_AGAIN = frozenset((401, 408, 429))
_NEVER_SENT = frozenset(
    (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EMFILE)
)
_MOST_KEPT = 2  # connections: one for a call while another is under way
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    """An answer of the 2xx kind. `data` is its JSON object, empty if it had none."""

    status: int
    data: Mapping[str, Any] = field(default_factory=dict)


class CallError(Exception):
    """A call that brought no answer of the 2xx kind; its text says why, in words.

    `status` is the HTTP status, or None if there was none. `data` is the answer's JSON object.
    """

    def __init__(
        self, sentence: str, status: Optional[int] = None, data: Optional[Mapping[str, Any]] = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.data: Mapping[str, Any] = data or {}


class Refused(CallError):
    """The other side answered, and the same call would be answered so again."""


class Failed(CallError):
    """Worth trying again. `sent` is False if it is certain that the call was never received,
    `refused` is True if the port refused the connection."""

    def __init__(
        self,
        sentence: str,
        status: Optional[int] = None,
        data: Optional[Mapping[str, Any]] = None,
        *,
        sent: bool = True,
        refused: bool = False,
    ) -> None:
        super().__init__(sentence, status, data)
        self.sent = sent
        self.refused = refused


class Client:
    """Calls to one address. Any thread may use it.

    `base` is a URL without a slash at its end; `secret` goes along with every call; `context`
    is what HTTPS is checked by; `timeout` is in seconds, for each step and for the whole answer.
    For `kept` seconds a connection waits for the next call, `most_kept` at most. `headers` go
    along with every call.
    """

    def __init__(
        self,
        base: str,
        secret: Optional[str] = None,
        context: Optional[tls.Context] = None,
        timeout: float = 10.0,
        kept: float = 0.0,
        headers: Optional[Mapping[str, str]] = None,
        most_kept: int = _MOST_KEPT,
    ) -> None:
        self.base = base
        self._headers = headers or {}
        self._secret = secret
        self._timeout = timeout
        self._opener = urllib.request.OpenerDirector()
        self._keeper = KeepAliveHandler(kept, most_kept if kept else 0, context)
        self._opener.add_handler(self._keeper)
        self._opener.add_handler(urllib.request.UnknownHandler())

    def get(self, path: str, timeout: Optional[float] = None) -> Answer:
        """GET a path. Raises Refused or Failed, as all calls do."""
        return self._call("GET", path, None, {}, timeout)

    def post(
        self, path: str, params: Mapping[str, object], timeout: Optional[float] = None
    ) -> Answer:
        """POST parameters as a form. A value is text, bytes or a number."""
        body = urllib.parse.urlencode(params).encode("ascii")
        return self._call("POST", path, body, {"Content-Type": _FORM}, timeout)

    def post_form(
        self, path: str, body: BinaryIO, length: int, timeout: Optional[float] = None
    ) -> Answer:
        """POST a form of `length` bytes that stands in a file, encoded."""
        headers = {"Content-Type": _FORM, "Content-Length": str(length)}
        return self._call("POST", path, body, headers, timeout)

    def send(
        self,
        path: str,
        query: Mapping[str, object],
        body: Bytes,
        timeout: Optional[float] = None,
    ) -> Answer:
        """POST raw bytes, with the parameters in the query string."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._call("POST", f"{path}?{urllib.parse.urlencode(query)}", body, headers, timeout)

    def _call(
        self,
        method: str,
        path: str,
        body: Optional[Body],
        headers: Mapping[str, str],
        timeout: Optional[float],
    ) -> Answer:
        timeout = timeout or self._timeout
        request = urllib.request.Request(
            self.base + path, data=body, headers={**self._headers, **headers}, method=method
        )
        if self._secret is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self._secret}")
        try:
            response: TimedResponse = self._opener.open(request, timeout=timeout)
            try:
                said = _read(response)
            finally:
                self._keeper.keep(response)
            return _sort(response.status, said)
        except urllib.error.URLError as error:
            raise _failure(error.reason, self.base) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failure(error, self.base) from None


def _read(response: TimedResponse) -> bytes:
    pieces, length = [], 0
    while length <= _ANSWER_LIMIT:
        piece = response.read1(65536)
        if not piece:
            break
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)


def _sort(status: int, body: bytes) -> Answer:
    """The one place that says which answers are final and which are worth another try."""
    data = _json_object(body)
    if 200 <= status < 300:
        return Answer(status, data)
    said = data.get("error")
    sentence = said if isinstance(said, str) and said else _plain(body)
    sentence = from_json(sentence, data.get("error_key"), data.get("error_values")) or ""
    if sentence:
        text = Reason("http_reason", status=status, reason=sentence)
    else:
        text = Reason("http_status", status=status)
    if status >= 500 or status in _AGAIN:
        raise Failed(text, status, data)
    raise Refused(text, status, data)


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _plain(body: bytes) -> str:
    text = body[:300].decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else " ".join(text.split())


def _failure(reason: object, base: str) -> Failed:
    untrusted = tls.explain(reason)
    if untrusted:
        return Failed(Reason("untrusted", url=base, error=untrusted), sent=False)
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return Failed(Reason("timeout", url=base))
    if isinstance(reason, socket.gaierror):
        error = str(reason.strerror)
        return Failed(Reason("unresolved", url=base, error=error), sent=False)
    if isinstance(reason, http.client.RemoteDisconnected):
        return Failed(Reason("disconnected", url=base))
    if isinstance(reason, OSError):
        sentence = Reason("no_connection", url=base, error=str(reason.strerror or reason))
        refused = reason.errno == errno.ECONNREFUSED
        return Failed(sentence, sent=reason.errno not in _NEVER_SENT, refused=refused)
    return Failed(Reason("not_http", url=base, error=repr(reason)))


class Backoff:
    """The pause before the next try: longer each time, never in step with others.

    Seconds; from `first` up to `most`, each shortened by up to half at random.
    """

    def __init__(
        self,
        first: float = 0.2,
        most: float = 30.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._most = most
        self._chance = chance
        self._next = first

    def next(self) -> float:
        """The wait before the next try, in seconds."""
        wait, self._next = self._next, min(self._most, self._next * 2)
        return wait * (1 - self._chance() / 2)

    def reset(self) -> None:
        """The last try went well."""
        self._next = self._first
