"""Stand-ins for agents: many in one thread, as light as the protocol lets them be.

They answer `/build`, `/ping` and `/cancel` by the contract, and register and renew themselves as
minici's own agent does. What they do with a build is up to who makes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Callable, Optional
from urllib.parse import parse_qsl, urlencode

from benchmarks.ground import Server

_KEPT_SECONDS = 2.0  # that a connection is kept without a call, as of minici's agent
RENEWAL = 5.0  # seconds from one registration to the next, as of minici's agent

# Given the order, called in the stand-ins' thread once the agent has said yes to it.
Taken = Callable[["StandIn", dict[str, str]], None]


class StandIn:
    """One agent of one slot. For the thread of its `StandIns`."""

    def __init__(self, server: Server, taken: Taken) -> None:
        self._server = server
        self._taken = taken
        self._listener: Optional[asyncio.AbstractServer] = None
        self._renewing: Optional[asyncio.Task[None]] = None
        self._connections: set[_Connection] = set()
        self.running: dict[int, int] = {}  # attempt by id
        self.port = 0
        self.lives = True
        self._hangs = False
        self._errands: set[asyncio.Task[None]] = set()
        # The connection for results: an agent of one slot brings one after the other.
        self._kept: Optional[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = None
        self._kept_since = 0.0

    async def begin(self, delay: float) -> None:
        """Listen, and register after so many seconds."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._renewing = loop.create_task(self._renew(delay))

    def die(self) -> None:
        """Refuse connections from now on, and say nothing more."""
        self.lives = False
        if self._kept is not None:
            self._kept[1].close()
        if self._renewing is not None:
            self._renewing.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.drop()

    def hang(self) -> None:
        """Take connections, and say nothing more."""
        self.lives, self._hangs = False, True
        if self._renewing is not None:
            self._renewing.cancel()

    def spawn(self, errand: Coroutine[Any, Any, None]) -> None:
        """See to something beside what the agent answers."""
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def finish(self, number: int) -> None:
        """Report the success of a build, which is no longer here then."""
        attempt = self.running.pop(number)
        params = {"id": number, "attempt": attempt, "status": 0, "stdout": "", "stderr": ""}
        await self._post("/notify_build_result", params, keep=True)

    async def _renew(self, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            running = ",".join(map(str, self.running))
            params = {"host": "127.0.0.1", "port": self.port, "slots": 1, "running": running}
            with contextlib.suppress(OSError, EOFError, RuntimeError):  # tried again, as agents do
                await self._post("/notify_agent", params)
            await asyncio.sleep(RENEWAL)

    async def _post(self, path: str, params: dict[str, object], keep: bool = False) -> None:
        kept = None
        if keep:
            kept, self._kept = self._kept, None  # nobody else uses it meanwhile
        if kept is not None and time.monotonic() - self._kept_since > _KEPT_SECONDS:
            kept[1].close()
            kept = None
        reader, writer = kept or await asyncio.open_connection("127.0.0.1", self._server.port)
        body = urlencode(params).encode("ascii")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._server.address}\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode("ascii") + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        answer += await reader.readexactly(int(answer.split(b"Content-Length: ")[1].split()[0]))
        if keep and self._kept is None:
            self._kept, self._kept_since = (reader, writer), time.monotonic()
        else:
            writer.close()
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{path}: {answer[:300]!r}")

    def connected(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def disconnected(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def answer(self, method: str, path: str, body: bytes) -> Optional[tuple[int, object]]:
        """The status and the data that answer a request; None says nothing at all."""
        if self._hangs:
            return None
        if (method, path) == ("GET", "/ping"):
            running = [{"id": number, "attempt": n} for number, n in self.running.items()]
            return 200, {"name": "", "slots": 1, "running": running, "undelivered": []}
        if (method, path) == ("POST", "/build"):
            order = dict(parse_qsl(body.decode("ascii")))
            number = int(order["id"])
            self.running[number] = int(order.get("attempt", "1"))
            asyncio.get_running_loop().call_soon(self._taken, self, order)
            return 202, {}
        return 404, {"error": "nothing here"}


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as a server of minici speaks it to agents."""

    def __init__(self, agent: StandIn) -> None:
        self._agent = agent
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._agent.connected(self)

    def connection_lost(self, error: Optional[Exception]) -> None:
        self._agent.disconnected(self)

    def drop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines[1:])}
        length = int(fields.get("content-length", "0"))
        if len(rest) < length:
            return
        self._received = rest[length:]
        method, path, _ = lines[0].split(" ")
        answered = self._agent.answer(method, path.partition("?")[0], rest[:length])
        if answered is None:
            return
        closes = fields.get("connection", "").lower() == "close"
        status, said = answered
        body = json.dumps(said).encode()
        self._transport.write(
            b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Keep-Alive: timeout=15\r\n%s\r\n"
            % (status, len(body), b"Connection: close\r\n" if closes else b"")
            + body
        )
        if closes:
            self._transport.close()


class StandIns:
    """So many stand-ins, in a thread of their own."""

    def __init__(self, server: Server, count: int, taken: Taken) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-ins")
        self._server = server
        self._taken = taken
        self.agents: list[StandIn] = [StandIn(server, taken) for _ in range(count)]

    def __enter__(self) -> StandIns:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _begin(self) -> None:
        for index, agent in enumerate(self.agents):
            await agent.begin(RENEWAL * index / len(self.agents))

    async def _end(self) -> None:
        for agent in self.agents:
            agent.die()
        current = asyncio.current_task()
        left = [each for each in asyncio.all_tasks() if each is not current]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def each(self, agents: Iterable[StandIn], act: Callable[[StandIn], None]) -> None:
        """Do something to some of them, in their thread, at once."""

        async def all_of_them() -> None:
            for agent in agents:
                act(agent)

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result()
