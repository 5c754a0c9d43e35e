"""The registrar tells the server that its agent is here, and goes on telling it.

Section 5 of the contract, rule 9: an agent may be started first, and its server may come back.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from typing import Callable
from urllib.parse import urlsplit

from minici.web.client import Backoff, CallError, Client

_RENEWAL = 5.0  # seconds from one good registration to the next

log = logging.getLogger(__name__)


class Heartbeat:
    """Registers in a thread of its own. `describe` gives what `POST /notify_agent` takes;
    `welcome` is called when the server is there, at first or again."""

    def __init__(
        self,
        client: Client,
        describe: Callable[[], Mapping[str, object]],
        welcome: Callable[[], None],
    ) -> None:
        self._client = client
        self._describe = describe
        self._welcome = welcome
        self._hurry = threading.Event()
        self._stopping = False
        self._registered = False
        self._unreachable = False
        self._complaints: set[str] = set()  # since it was registered last

    def start(self) -> None:
        threading.Thread(target=self._serve, name="registrar", daemon=True).start()

    def stop(self) -> None:
        """Register no more; does not wait for a call under way."""
        self._stopping = True
        self._hurry.set()

    def heard(self) -> None:
        """The server has called: if it could not be reached before, it can now."""
        if self._unreachable:
            self._hurry.set()

    def _serve(self) -> None:
        backoff = Backoff()
        while not self._stopping:
            try:
                self._client.post("/notify_agent", self._describe())
                self._succeed()
                backoff.reset()
                wait = _RENEWAL
            except (CallError, OSError) as error:
                self._fail(error)
                wait = backoff.next()
            except Exception:
                log.exception("registering failed")
                wait = backoff.next()
            self._hurry.wait(wait)
            self._hurry.clear()

    # Changes go to the log, and not each try.

    def _succeed(self) -> None:
        if not self._registered:
            log.info("registered with %s", self._client.base)
            self._welcome()
        self._registered, self._unreachable = True, False
        self._complaints.clear()

    def _fail(self, error: Exception) -> None:
        if str(error) not in self._complaints:
            text = "not registered with the server, trying again at least every 30 s: %s"
            log.warning(text, error)
        self._complaints.add(str(error))
        self._registered = False
        self._unreachable = getattr(error, "status", None) is None


def route_to(url: str) -> str:
    """The address of this host from which a server is reached. Raises OSError."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for family, kind, _, _, address in socket.getaddrinfo(
        parts.hostname, port, type=socket.SOCK_DGRAM
    ):
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # of a datagram socket: nothing is sent
            return str(probe.getsockname()[0])
    raise OSError(f"{parts.hostname} has no address")
