"""Telling the server that this agent is here, again and again.

Section 5 of the contract: rule 9, an agent may be started first, and its server may come back;
rule 20, it works for the server that it registers with, and for no copy of it.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from typing import Callable, Optional
from urllib.parse import urlsplit

from minici.executor.retry_loop import RetryLoop
from minici.web.client import CallError, Client

_RENEWAL_SECONDS = 5.0  # from one good registration to the next

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
        self._registering = threading.Lock()  # held for a registration; guards what follows
        # The word that the last registration brought: "" of a server that has none.
        self._instance: Optional[str] = None
        self._refused_word = ""  # of the server that was last told that this is not its agent
        self._registered = False
        self._unreachable = False
        self._complaints: set[str] = set()  # since it was registered last
        self._loop = RetryLoop("heartbeat", self._beat, self._fail)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Register no more; does not wait for a call under way."""
        self._loop.stop()

    def heard(self) -> None:
        """The server has called: if it could not be reached before, it can now."""
        if self._unreachable:
            self._loop.hurry()

    def serves(self, word: str) -> bool:
        """Return whether a call with this X-Minici-Instance comes from this agent's own server.

        If it is another word than that of the last registration, registers at once to find out.
        """
        if not word or self._instance in ("", word):
            return True
        with self._registering:
            if self._instance != word:
                try:
                    self._register()
                except (CallError, OSError) as error:
                    log.debug("not registered: %s", error)
            known = self._instance in ("", word)
            if not known and word != self._refused_word:
                self._refused_word = word
                text = "refused the calls of a server that is not the one at %s: a copy of it?"
                log.warning(text, self._client.base)
        return known

    def _beat(self) -> float:
        with self._registering:
            self._register()
        return _RENEWAL_SECONDS

    def _register(self) -> None:
        word = self._client.post("/notify_agent", self._describe()).data.get("instance")
        self._instance = word if isinstance(word, str) else ""
        # Changes go to the log, and not each try.
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
