"""The checks of a caller: Host, Origin, secret, name and password.

A guard is asked before anything else is done with a request; what it turns away changes
nothing. Section 3 of the contract.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Collection
from typing import Optional

from minici.hosts import is_loopback, plain_host
from minici.reasons import Reason, sentence_of
from minici.web.passwords import TooManyTries, Users, sign_in
from minici.web.routing import HttpError, Request, Route

_SAFE = ("GET", "HEAD")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::([0-9]{0,5}))?")
_PORTS = {"http": 80, "https": 443}

Place = tuple[str, int]  # host and port


class AllowedHosts:
    """The names under which a server may be addressed: others are somebody's DNS trick."""

    def __init__(self, listened: str, *configured: Optional[str]) -> None:
        self._everywhere = listened in ("0.0.0.0", "::")
        own = {listened, *filter(None, configured)}
        if self._everywhere:
            own |= {socket.gethostname(), socket.gethostname().partition(".")[0]}
        self._names = {plain_host(name) for name in own}

    def allow(self, header: str) -> bool:
        """Return whether a Host header, with or without a port, names this server."""
        found = _HOST.fullmatch(header.strip())
        if not found:
            return False
        name = plain_host(found[1])
        return is_loopback(name) or name in self._names or (self._everywhere and _is_address(name))


class ServerGuard:
    """The guard before the server. `url` is the configured one, by which people reach it, and
    `public` names the routes that ask for no password."""

    def __init__(
        self,
        hosts: AllowedHosts,
        secret: Optional[str],
        users: Users,
        url: Optional[str] = None,
        public: Collection[str] = (),
    ) -> None:
        self._hosts = hosts
        self._secret = secret
        self._users = users
        self._public = public
        self._scheme, _, rest = (url or "").partition("://")
        self._outside = _place(self._scheme, rest.partition("/")[0])

    def __call__(self, request: Request) -> None:
        check_host(request, self._hosts)
        if request.method not in _SAFE:
            self._check_origin(request)
        if request.route is not None and request.route.audience == "agents":
            check_secret(request, self._secret)
        elif self._users and not self._asks_for_nothing(request.route):
            request.user = self._check_user(request)

    def _asks_for_nothing(self, route: Optional[Route]) -> bool:
        return route is not None and (route.audience == "anybody" or route.public in self._public)

    def _check_origin(self, request: Request) -> None:
        origin = request.headers.get("Origin")
        foreign = origin is not None and not self._is_own(origin, request)
        if foreign or is_cross_site(request):
            raise HttpError(403, Reason("cross_site"))

    def _is_own(self, origin: str, request: Request) -> bool:
        """Return whether an Origin is the address that the request was sent to, or the url
        of the configuration.

        A Host without a port is the port of its scheme, so that a page by http, which anybody
        on the way can write, or another service of the host, can't start what is served by https.
        """
        scheme, _, netloc = origin.partition("://")
        place = _place(scheme.lower(), netloc)
        host = request.header("Host")
        to = _place("https" if request.secure else "http", host)
        if to and self._outside and to[0] == self._outside[0]:
            to = _place(self._scheme, host)  # a proxy stands in between: its scheme is the url's
        return place is not None and place in (to, self._outside)

    def _check_user(self, request: Request) -> str:
        try:
            address = self._address_of(request)
            name = sign_in(request.header("Authorization"), self._users, address)
        except TooManyTries as error:
            retry = {"Retry-After": str(int(error.wait) + 1)}
            raise HttpError(429, sentence_of(error), retry) from None
        if name is None:
            challenge = {"WWW-Authenticate": 'Basic realm="minici", charset="UTF-8"'}
            raise HttpError(401, Reason("sign_in"), challenge)
        return name

    def _address_of(self, request: Request) -> str:
        """From where somebody tries to sign in: where `url` is set, a proxy on this host says so.

        What it adds stands last; what stands before it, anybody may have written.
        """
        if self._outside and is_loopback(request.client):
            said = request.header("X-Forwarded-For").rpartition(",")[2].strip()
            return said if _is_address(said) else request.client
        return request.client


class AgentGuard:
    """The guard before an agent, which no browser has any business with."""

    def __init__(self, hosts: AllowedHosts, secret: Optional[str]) -> None:
        self._hosts = hosts
        self._secret = secret

    def __call__(self, request: Request) -> None:
        check_host(request, self._hosts)
        sent = request.method not in _SAFE and is_cross_site(request)
        if sent or request.headers.get("Origin") is not None:
            raise HttpError(403, Reason("no_browser"))
        check_secret(request, self._secret)


def check_host(request: Request, hosts: AllowedHosts) -> None:
    """Raise HttpError 421 for a request that was meant for another host."""
    header = request.headers.get("Host")
    if header is not None and not hosts.allow(header):
        raise HttpError(421, Reason("unknown_host", advice="to the name it has"))


def is_cross_site(request: Request) -> bool:
    """Return whether the browser says that a page of another site sent this."""
    return request.header("Sec-Fetch-Site").strip().lower() == "cross-site"


def check_secret(request: Request, secret: Optional[str]) -> None:
    """Raise HttpError 401 unless the request carries the secret, if there is one."""
    if secret is None:
        return
    scheme, _, given = request.header("Authorization").partition(" ")
    right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), secret.encode("utf-8"))
    if scheme.lower() != "bearer" or not right:
        sentence = "the secret is missing or wrong; set the same `secret` on server and agents"
        raise HttpError(401, sentence, {"WWW-Authenticate": "Bearer"})


def _place(scheme: str, netloc: str) -> Optional[Place]:
    """Host and port of an origin or of a Host header; None if it is neither."""
    found = _HOST.fullmatch(netloc)
    if not found or scheme not in _PORTS:
        return None
    return plain_host(found[1]), int(found[2] or _PORTS[scheme])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
