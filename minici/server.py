"""The server: `python -m minici.server config.ini`. What it is made of, and how it starts."""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from minici import html
from minici.build import Build
from minici.config import ServerConfig
from minici.config_file import read_server
from minici.daemon import (
    CanNotStart,
    Stop,
    announce,
    run,
    shown_url,
    warn_if_readable,
)
from minici.hooks.queue import HookQueue
from minici.hooks.telling import Telling
from minici.routes.agent_api import AgentEndpoints
from minici.routes.changes import Changes
from minici.routes.common import Records, page_url
from minici.routes.feeds import Monitors
from minici.routes.files import FileEndpoints
from minici.routes.json_api import Api
from minici.routes.metrics import Metrics
from minici.routes.output import OutputEndpoints
from minici.routes.pages import Pages
from minici.routes.webhooks import Webhooks
from minici.scheduler.agent_client import INSTANCE_HEADER, AgentClient
from minici.scheduler.agent_updates import AgentUpdates
from minici.scheduler.build_counters import BuildCounters
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.retention import Retention
from minici.scheduler.state import State
from minici.scheduler.watchdog import Watchdog
from minici.store import NoSuchBuild, Store, StoreDamaged, StoreUnavailable
from minici.thread_pool import ThreadPool
from minici.triggers.poller import Poller
from minici.triggers.pushes import Pushes
from minici.web import tls
from minici.web.admission import descriptors, kept_agents
from minici.web.client import Client
from minici.web.guard import AllowedHosts, ServerGuard
from minici.web.listener import Listener
from minici.web.passwords import NoScrypt, Users
from minici.web.routing import Application, Request

log = logging.getLogger("minici.server")

_HEADERS = {
    "Content-Security-Policy": html.CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: browsers then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
}
_AGENT_CALL_SECONDS = 10.0
# From one ping to the next, and less than the 5 s of a server in Node.
_KEEP_ALIVE_SECONDS = 4.0
# A result carries both streams, and a form may take three bytes for one. An agent that knows no
# limit sends more, of which the middle is dropped here.
_RESULT_SLACK = 64 * 1024 * 1024

_SUMMARY = (
    "The server owns the queue, the builds and the pages. The section [server] of config.ini\n"
    "sets it up; `python -m minici init` writes one."
)


class Server:
    """Everything a server is made of. `start` and `stop` are for the thread that made it.

    Raises CanNotStart, FolderLocked or ConfigError; nothing is then left running.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        context = tls.listening_as(config)
        self.store = Store(config.data, config.output_limit, config.default_project.name)
        self.state = State(
            self.store, config, watched=self._wake_viewers, changed=self._build_changed
        )
        self._counters = BuildCounters()
        telling = Telling(self.state, self._page_url)
        self.hooks = HookQueue(config.data / "hooks", config.projects, self._load, telling)
        self._instance = secrets.token_hex(16)  # another one with each start: rule 20
        self._agents_trust = functools.lru_cache(maxsize=1)(tls.client_context)
        client = AgentClient(self._agent_client, kept_clients=kept_agents(descriptors()))
        page_url = self._page_url if config.url else None
        self._in_background = in_background = ThreadPool()
        self.dispatcher = Dispatcher(self.state, client, in_background, page_url)
        self.watchdog = Watchdog(self.state, self.dispatcher, client, in_background)
        self.retention = Retention(self.store, self.state, config.keep_builds, config.keep_days)
        self.poller = Poller(config.projects, Pushes(self.store, self.state, self.dispatcher))
        self._records = Records(self.state, self._base)
        self._pages = Pages(
            self.state,
            self.dispatcher,
            self.store,
            config,
            self._records,
            self.poller,
            self.hooks.failure,
            self._base,
        )
        try:
            unfinished = self.store.open()
        except StoreDamaged as error:
            raise CanNotStart(str(error)) from None
        self._listener = self._listen(context)
        self.url = shown_url(config.host, self._listener.server_port, context is not None)
        self.state.restore(unfinished)
        self.hooks.restore(unfinished)

    def _listen(self, context: Optional[tls.Context]) -> Listener:
        host, port = self._config.host, self._config.port
        try:
            return Listener(host, port, self._application(), context)
        except NoScrypt as error:
            self.store.close()
            raise CanNotStart(f"[users]: {error}") from None
        except OSError as error:
            self.store.close()
            raise CanNotStart(
                f"can't listen on {host} port {port}: {error.strerror or error}; "
                "is something else running there?"
            ) from None

    def start(self) -> None:
        self._listener.start()
        self.dispatcher.start()
        self.watchdog.start()
        self.retention.start()
        self.poller.start()
        self.hooks.start()
        if len(self._config.projects) > 1 or self.poller.statuses():
            history, stopping = self.state.branch_history, lambda: self.state.stopping
            self._in_background("branches", lambda: history.fill(self.store, stopping))

    def stop(self) -> None:
        """Let the answers under way be finished, and leave the folder to the next server."""
        self.poller.stop()
        self.state.stop()
        self.dispatcher.join()
        self.hooks.stop()
        self._listener.stop()
        with contextlib.suppress(StoreUnavailable):
            self.state.registry.save_histories()
        self.store.close()

    def _build_changed(self, build: Build) -> None:
        self._counters.build_changed(build)
        self.hooks.build_changed(build)

    def _load(self, number: int) -> Optional[Build]:
        """A build as it is now; None if it is gone or damaged."""
        with contextlib.suppress(NoSuchBuild):
            record = self.state.load(number)
            return record if isinstance(record, Build) else None
        return None

    def _wake_viewers(self, number: int) -> None:
        self._listener.viewers.wake(number)

    def _application(self) -> Application:
        updates = AgentUpdates(self.state, self.dispatcher, self._instance)
        limit = 8 * self._config.output_limit + _RESULT_SLACK
        routes = [
            *self._pages.routes(),
            *Monitors(self.state, self._config, self._records, self._base).routes(),
            *OutputEndpoints(self.state, self.store, self._records).routes(),
            *FileEndpoints(self.state).routes(),
            *Changes(self.state).routes(),
            *Api(self.state, self._records).routes(),
            *Metrics(self.state, self._counters).routes(),
            *Webhooks(self._config, self.poller).routes(),
            *AgentEndpoints(updates, limit).routes(),
        ]
        address = urlsplit(self._config.url) if self._config.url else None
        guard = ServerGuard(
            AllowedHosts(self._config.host, address.hostname if address else None),
            self._config.secret,
            Users(self._config.users),
            self._config.url,
            self._config.public,
        )
        return Application(routes, guard, self._pages.error, _HEADERS)

    def _agent_client(self, base: str) -> Client:
        """A client for the agent at this URL."""
        context = None
        if base.startswith("https:"):
            context = self._agents_trust(also=self._config.certificate)
        seconds = min(_AGENT_CALL_SECONDS, self._config.agent_timeout)
        return Client(
            base,
            self._config.secret,
            context,
            seconds,
            kept=_KEEP_ALIVE_SECONDS,
            headers={INSTANCE_HEADER: self._instance},
        )

    def _page_url(self, number: int) -> str:
        return page_url(self._config.url or self.url, number)

    def _base(self, request: Request) -> str:
        """The server's address as this caller reaches it."""
        if self._config.url:
            return self._config.url
        host = request.header("Host")
        scheme = "https" if request.secure else "http"
        return f"{scheme}://{host}" if host else self.url


def _warn_of_path(url: Optional[str]) -> None:
    """The pages' own links begin at the root of the address, so that no page knows its prefix."""
    path = urlsplit(url).path.strip("/") if url else ""
    if path:
        log.warning(
            "url has the path /%s: links to builds carry it, the pages' own do not. "
            "Give minici a name or a port of its own instead",
            path,
        )


def _main(path: Path, stop: Stop) -> None:
    config = read_server(path)
    warn_if_readable(config.secret_in)
    _warn_of_path(config.url)
    server = Server(config)
    server.start()
    announce(f"minici server: {server.url}/")
    stop.wait()
    log.info("stopping")
    server.stop()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a server until it is told to stop; returns the exit status."""
    return run(_main, arguments, "python -m minici.server config.ini", _SUMMARY)


if __name__ == "__main__":
    sys.exit(main())
