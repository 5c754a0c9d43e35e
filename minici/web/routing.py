"""Serving: a hardened HTTP server on `http.server`, with Request in and Response out.

It knows nothing of builds. A Application is a table of routes, who may call them, and how an error
looks; section 3 of the contract. What `http.server` does unless told otherwise, and the limits
here that keep it alive, stand in section 4 of the design in docs/.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional, Protocol, Union

from minici.reasons import Reason
from minici.web.params import (
    FORM,
    JSON,
    BadParameter,
    Parameters,
    read_form,
    read_json,
    read_query,
)

SMALL_BODY_BYTES = 1024 * 1024
# Paths at which programs get JSON, or only a status, if all is well.
_FOR_PROGRAMS = re.compile(r"/api/|/webhook/|/badge\.json$|/build/[0-9]+/find$")
PEOPLE = ("people", "anybody")  # audiences that may be many


class HttpError(Exception):
    """An answer that is not the one asked for; raised anywhere, rendered in one place.

    `sentence` is for whoever called. `data` is added to the JSON of the error.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        headers: Optional[Mapping[str, str]] = None,
        data: Optional[Mapping[str, object]] = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})
        self.data = dict(data or {})


class BodyReader(Protocol):
    """The body of a request: at most `length` bytes, read under the request's time limit."""

    length: int

    def read(self, size: int = -1) -> bytes: ...

    def read_buffer(self, size: int = -1) -> bytearray: ...


@dataclass
class Request:
    """One request, with its head read and its body still to be read."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: BodyReader
    client: str
    secure: bool = False
    user: Optional[str] = None
    route: Optional[Route] = None
    groups: tuple[str, ...] = ()  # of the route's pattern
    query: Parameters = field(default_factory=Parameters)  # read when the request is admitted
    _params: Optional[Parameters] = None

    def header(self, name: str) -> str:
        return self.headers.get(name) or ""

    def params(self) -> Parameters:
        """The parameters from the query string and the body. Raises BadParameter, or HttpError
        415. The first call reads the body; not for a route that reads raw bytes."""
        if self._params is None:
            self._params = (
                self.query.joined(self._body_params()) if self.body.length else self.query
            )
        return self._params

    def _body_params(self) -> Parameters:
        kind = self._content_type()
        if kind == JSON:
            return read_json(self.body)
        if kind in (FORM, ""):
            return read_form(self.body, self.route.large if self.route else ())
        raise HttpError(415, Reason("content_type", kinds=f"{FORM} or {JSON}"))

    def _content_type(self) -> str:
        return self.header("Content-Type").partition(";")[0].strip().lower()

    def wants_json(self) -> bool:
        accept = self.header("Accept")
        return JSON in accept or (self._content_type() == JSON and "text/html" not in accept)


Content = Union[bytes, Iterable[bytes]]


class EventStream(Protocol):
    """A stream of events for one viewer, sent as they come. For one thread."""

    subject: int  # whose news it is
    sign_of_life: bytes  # what may be sent between two pieces, and means nothing

    def more(self) -> Optional[bytes]:
        """Return the next data: empty until there is news of the subject, None at the end."""

    def close(self) -> None:
        """It has ended, or nobody watches any more."""


@dataclass
class Response:
    """The answer to a request.

    `length` is that of a body that is made while it is sent; without it, the connection ends
    with the body. `event_stream` goes on when the head has been sent, and needs
    no thread."""

    status: int = 200
    body: Content = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    length: Optional[int] = None
    event_stream: Optional[EventStream] = None


def json_response(
    data: Mapping[str, object], status: int = 200, headers: Optional[Mapping[str, str]] = None
) -> Response:
    text = json.dumps(data, ensure_ascii=False, separators=(", ", ": ")) + "\n"
    body = text.encode("utf-8", "replace")
    return Response(status, body, "application/json; charset=utf-8", dict(headers or {}))


def html_response(page: str, status: int = 200) -> Response:
    return Response(status, page.encode("utf-8", "replace"), "text/html; charset=utf-8")


def revalidated(request: Request, response: Response) -> Response:
    """The response with a tag of its content: whoever has that already is answered 304.

    It may be kept, and is asked for again each time. For bodies that are bytes.
    """
    assert isinstance(response.body, bytes)
    tag = f'"{hashlib.sha256(response.body).hexdigest()[:20]}"'
    response.headers.update({"ETag": tag, "Cache-Control": "no-cache"})
    known = {each.strip().removeprefix("W/") for each in request.header("If-None-Match").split(",")}
    if tag in known or "*" in known:
        response.status, response.body = 304, b""
    return response


def redirect(path: str) -> Response:
    return Response(303, b"", headers={"Location": path})


Handler = Callable[..., Response]


@dataclass(frozen=True)
class Route:
    """One path with one method. `pattern` matches the whole path; its groups go to `handler`.

    `audience` is who calls it: `agents`, `people`, `anybody`, or `server`; it decides what a
    caller has to show. `params` are the names of its parameters: any other is answered 400;
    None ignores what is unknown, as between server and agent. `body_limit` is in bytes, `large`
    the parameters that may fill it. `public` is the word by which `[server] public` names it.
    `quiet` ones are logged only when they fail.
    """

    method: str
    pattern: str
    handler: Handler
    audience: str
    params: Optional[tuple[str, ...]] = None
    body_limit: int = SMALL_BODY_BYTES
    large: tuple[str, ...] = ()
    public: str = ""
    quiet: bool = False

    def check_names(self, params: Parameters) -> None:
        """Raise BadParameter for names that the route does not know."""
        if self.params is None:
            return
        unknown = ", ".join(name or '""' for name in params.names if name not in self.params)
        if unknown and self.params:
            known = ", ".join(self.params)
            raise BadParameter(Reason("param_unknown", names=unknown, known=known))
        if unknown:
            raise BadParameter(Reason("param_unknown_none_known", names=unknown))


class Application:
    """Routes, the guard before them, and how errors look. Any thread may call it.

    `guard` is called with each request before anything is done, its route set if there is one;
    it raises HttpError to turn the request away. `render` makes the page of an error for people.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        guard: Callable[[Request], None],
        render: Callable[[Request, HttpError], Response],
        headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        self._routes = [(re.compile(route.pattern), route) for route in routes]
        self._guard = guard
        self._render = render
        self.headers = dict(headers or {})

    def admit(self, request: Request) -> None:
        """Find the route, and check all that can be checked before the body is read. Raises
        HttpError or BadParameter."""
        method = "GET" if request.method == "HEAD" else request.method
        matches = [
            (found, route)
            for pattern, route in self._routes
            if (found := pattern.fullmatch(request.path))
        ]
        found, route = next((each for each in matches if each[1].method == method), (None, None))
        request.route = route or (matches[0][1] if matches else None)
        self._guard(request)
        if route is None or found is None:
            raise _no_route([each.method for _, each in matches])
        if request.body.length > route.body_limit:
            raise HttpError(413, Reason("body_large", bytes=route.body_limit))
        request.groups = found.groups()
        request.query = read_query(request.query_string)
        route.check_names(request.query)

    def respond(self, request: Request) -> Response:
        """The answer to a request that was admitted."""
        route = request.route
        assert route is not None
        if route.params is not None and request.method == "POST":
            route.check_names(request.params())
        return route.handler(request, *request.groups)

    def error(self, request: Optional[Request], error: HttpError) -> Response:
        """An error as an answer: JSON for agents and programs, a page for people."""
        audience = request.route.audience if request and request.route else ""
        for_people = audience != "agents" and request is not None
        if request is None or not for_people or request.wants_json() or _is_api(request):
            data = {"error": error.sentence, **error.data}
            return json_response(data, error.status, error.headers)
        response = self._render(request, error)
        response.headers.update(error.headers)
        return response


def _no_route(methods: Sequence[str]) -> HttpError:
    """The error for a path that has these methods, and not the one that was asked for."""
    if not methods:
        return HttpError(404, Reason("no_page"))
    allowed = [each for method in methods for each in (method, "HEAD")[: 1 + (method == "GET")]]
    names = ", ".join(dict.fromkeys(allowed))
    return HttpError(405, Reason("method", methods=names), {"Allow": names})


def _is_api(request: Request) -> bool:
    return _FOR_PROGRAMS.match(request.path) is not None


def serve_range(
    request: Request, size: int, read: Callable[[int, int], Iterable[bytes]]
) -> Response:
    """Answer with bytes of something `size` bytes long, or with the one range that was asked for.

    `read(start, end)` gives the bytes. More than one range, or a range in another unit, is
    answered with everything, as RFC 9110 allows.
    """
    headers = {"Accept-Ranges": "bytes"}
    asked = request.header("Range").replace(" ", "")
    found = re.fullmatch(r"bytes=([0-9]{0,99})-([0-9]{0,99})", asked, re.IGNORECASE)
    if not found or not (found[1] or found[2]) or request.header("If-Range"):
        return Response(200, read(0, size), headers=headers, length=size)
    if found[1]:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < int(found[1]):
            return Response(200, read(0, size), headers=headers, length=size)
    else:
        start, end = max(0, size - int(found[2])), size
    if start >= end:
        raise HttpError(416, Reason("no_bytes"), {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Response(206, read(start, end), headers=headers, length=end - start)
