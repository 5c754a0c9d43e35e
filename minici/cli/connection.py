"""One call to a server: HTTP or HTTPS, with the name and password of a person.

A call has a connection of its own; it goes through no proxy and follows no redirect.
"""

from __future__ import annotations

import base64
import http.client
import json
import netrc
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Optional

CALL_SECONDS = 30.0  # for each step of a call
_BLOCK = 64 * 1024  # bytes
_OF_PROXIES = frozenset((502, 504))  # the request may have arrived behind them
_MOVED = frozenset((301, 302, 307, 308))
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


class Connection:
    """The way to one server. `url` may hold a name and a password; else ~/.netrc is asked.

    Raises BadAddress for a URL that is none.
    """

    def __init__(self, url: str) -> None:
        parts = _split(url)
        self._https = parts.scheme == "https"
        if self._https and not hasattr(http.client, "HTTPSConnection"):
            raise BadAddress("https:// needs a Python with the module ssl, and this one has none")
        self._host = parts.hostname or ""
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = f":{self._port}" if self._port else ""
        self.base = f"{parts.scheme}://{host}{port}{self._prefix}"
        self._headers = {"Accept": "application/json", "User-Agent": "minici"}
        person = _person(parts)
        if person:
            word = base64.b64encode(":".join(person).encode()).decode("ascii")
            self._headers["Authorization"] = f"Basic {word}"

    def without_prefix(self, path: str) -> str:
        """A path that the server has named, as `open` takes it: below the path of `base`."""
        below = self._prefix and path.startswith(self._prefix + "/")
        return path[len(self._prefix) :] if below else path

    def open(
        self,
        method: str,
        path: str,
        params: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: float = CALL_SECONDS,
    ) -> Answer:
        """Send a request, and return the answer once its head is there.

        Raises ServerError for a refusal and NoAnswer where there was no answer.
        """
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout)
        body = None if params is None else urllib.parse.urlencode(params).encode("ascii")
        every = {**self._headers, **(headers or {})}
        if body is not None:
            every["Content-Type"] = "application/x-www-form-urlencoded"
        sent = False
        try:
            connection.connect()
            sent = True
            connection.request(method, self._prefix + path, body, every)
            response = connection.getresponse()
            if response.status >= 400 or response.status in _MOVED:
                raise self._refusal(response, path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise NoAnswer(f"no answer from {self.base}: {self._said(error)}", sent) from None
        except (ServerError, NoAnswer):
            connection.close()
            raise
        return Answer(self.base, connection, response)

    def _said(self, error: BaseException) -> str:
        """A failure of a connection, with what may help where the scheme is the wrong one."""
        reason = getattr(error, "reason", None)
        if reason == "CERTIFICATE_VERIFY_FAILED":
            return "its certificate is not trusted: name its authority's file in SSL_CERT_FILE"
        if self._https and reason:
            return f"no HTTPS is spoken there ({reason}); try http://"
        unclear = isinstance(error, (http.client.HTTPException, ConnectionResetError))
        if not self._https and unclear:
            return f"{_said(error)}; if it serves HTTPS, write https://"
        return _said(error)

    def _refusal(self, response: http.client.HTTPResponse, path: str) -> Exception:
        """The exception that an answer without success means."""
        status = response.status
        try:
            sentence = str(json.loads(response.read(_BLOCK))["error"])
        except (ValueError, KeyError, TypeError):
            sentence = f"HTTP {status} {response.reason} for {path}"
        if status >= 500 or status in _UNAVAILABLE:
            unsure = status in _OF_PROXIES
            return NoAnswer(f"{self.base} can't do it now: {sentence}", sent=unsure)
        if status == 401:
            which = "another" if "Authorization" in self._headers else "a"
            sentence = (
                f"{self.base} asks for {which} name and password: put them into the URL, "
                "http://NAME:PASSWORD@HOST, or into ~/.netrc"
            )
        elif status == 404:
            sentence = f"{sentence} at {self.base}"
        elif status in _MOVED:
            place = response.getheader("Location") or "another place"
            sentence = f"{self.base} has moved: use {place}"
        return ServerError(sentence, status)


class Answer:
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

    def __enter__(self) -> Answer:
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


def _split(url: str) -> urllib.parse.SplitResult:
    text = url if "://" in url else f"http://{url}"
    shown = text.rpartition("@")[2]  # without a password
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query
    except ValueError:
        wrong = True
    if wrong or any(c.isspace() for c in text) or not parts.path.isascii():
        raise BadAddress(f"{shown} is not the URL of a server: write http://HOST:PORT")
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
