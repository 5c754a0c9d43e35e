"""Processes of minici: a server and an agent, started, stopped, killed, and asked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from tests.support.http_client import Events, Reply, encode_form, fetch
from tests.support.repositories import Repository
from tests.support.system import FINAL, Setting, environment, render_config, wait_for


class Ground:
    """The folders and the marker that the processes of one test share."""

    folder: Path
    home: Path
    elsewhere: Path
    marker: str
    repository: Repository


class Minici:
    """One process of minici, with its config file, its ready line and its log."""

    module = ""

    def __init__(
        self,
        place: Ground,
        name: str,
        sections: dict[str, dict[str, Setting]],
        env: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.place = place
        self.name = name
        self.sections = sections
        self.config = place.folder / f"{name}.ini"
        self.env = environment(place.marker, place.home, env)
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.out = place.folder / f"{name}.out"
        self.err = place.folder / f"{name}.err"
        self.lives = 0
        self.port = 0
        self.descriptors = 0  # a bound on open files, if it is not 0
        self.prefix: list[str] = []  # words before the program: as whom, and with what

    def launch(self) -> None:
        """Start the process without waiting for its ready line."""
        self.config.write_text(render_config(self.sections), encoding="utf-8")
        self.lives += 1
        self.out = self.place.folder / f"{self.name}.{self.lives}.out"
        with open(self.out, "wb") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    *self._bounds(),
                    sys.executable,
                    "-m",
                    self.module,
                    str(self.config),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.place.elsewhere,
                env=self.env,
                start_new_session=True,
            )

    def _bounds(self) -> list[str]:
        if not self.descriptors:
            return []
        return ["/bin/sh", "-c", f'ulimit -n {self.descriptors}; exec "$@"', "bounded"]

    def start(self, within: float = 30.0) -> Any:
        """Start the process, and wait until it says where it answers."""
        self.launch()
        self.wait_ready(within)
        return self

    def wait_ready(self, within: float = 30.0) -> str:
        def line() -> str:
            text = self.out.read_text(encoding="utf-8")
            if "\n" not in text and self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended at once: {self.log()[-2000:]}")
            return text if "\n" in text else ""

        text = wait_for(line, within, f"the ready line of {self.name}")
        address = text.split("\n")[0].split(": ", 1)[1].split(" -> ")[0]
        self.port = int(address.rstrip("/").rsplit(":", 1)[1])
        return text

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send_signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait_end(self, within: float = 20.0) -> int:
        """Wait until the process has ended, and return its exit status."""
        assert self.process is not None
        return self.process.wait(within)

    def stop(self, within: float = 20.0, number: int = signal.SIGTERM) -> int:
        self.send_signal(number)
        return self.wait_end(within)

    def kill(self) -> None:
        """SIGKILL, if it lives; the process is gone when this returns."""
        if self.alive:
            self.send_signal(signal.SIGKILL)
            self.wait_end()

    def pause(self) -> None:
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.send_signal(signal.SIGCONT)

    def restart(self, within: float = 30.0) -> Any:
        """Start it again (after `stop` or `kill`) where it was, with its data."""
        self.sections[self.module.rsplit(".", 1)[1]]["port"] = self.port
        deadline = time.monotonic() + within
        while True:
            try:
                return self.start(within)
            except AssertionError as error:
                # The system may have lent its port to a connection of somebody else meanwhile.
                if "already in use" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def log(self) -> str:
        return self.err.read_text(encoding="utf-8", errors="replace") if self.err.exists() else ""

    def memory(self) -> int:
        """Resident bytes at their highest (Linux)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def request(
        self,
        method: str,
        path: str,
        body: Optional[bytes] = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: float = 30.0,
    ) -> Reply:
        return fetch(("127.0.0.1", self.port), method, path, body, headers, timeout)

    def get(self, path: str, headers: Optional[Mapping[str, str]] = None) -> Reply:
        return self.request("GET", path, None, headers)

    def post(self, path: str, params: Optional[Mapping[str, Any]] = None, **headers: str) -> Reply:
        """A POST with a form, as minici itself sends it."""
        body, kind = encode_form(params or {})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, body, {"Content-Type": kind, **named})


class ServerProcess(Minici):
    """A server. Its settings are quick ones; `place.server(key=value)` changes them."""

    module = "minici.server"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return Path(str(self.sections["server"]["data"]))

    def api(self, path: str) -> Any:
        """The JSON of `/api` + path, which must answer 200."""
        reply = self.get("/api" + path)
        assert reply.status == 200, (path, reply)
        return reply.json()

    def build(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.api(f"/builds/{number}")
        return found

    def builds(self, wanted: str = "") -> list[dict[str, Any]]:
        """All builds, oldest first; `wanted` is added to the query."""
        found: list[dict[str, Any]] = []
        url: Optional[str] = f"/builds?limit=1000{wanted}"
        while url is not None:
            page = self.api(url)
            found += page["builds"]
            url = page["next"] and page["next"].removeprefix("/api")
        return found[::-1]

    def start_build(self, commit: str = "HEAD", command: str = "true") -> int:
        """Start a build as a program does; return its id."""
        reply = self.post("/api/builds", {"commit": commit, "command": command})
        assert reply.status == 201, reply
        return int(reply.json()["id"])

    def wait_status(self, number: int, *statuses: str, within: float = 30.0) -> dict[str, Any]:
        """Wait until the build has one of the statuses; fail at once if it never can."""

        def seen() -> Optional[dict[str, Any]]:
            build = self.build(number)
            if build["status"] in statuses:
                return build
            assert build["status"] not in FINAL, build
            return None

        found = wait_for(seen, within, f"build {number} {' or '.join(statuses)}")
        assert found is not None
        return found

    def wait_final(self, number: int, within: float = 60.0) -> dict[str, Any]:
        return self.wait_status(number, *FINAL, within=within)

    def output(self, number: int, stream: str = "output", attempt: Optional[int] = None) -> bytes:
        """The bytes of `/build/ID/STREAM`."""
        query = "" if attempt is None else f"?attempt={attempt}"
        reply = self.get(f"/build/{number}/{stream}{query}")
        assert reply.status == 200, reply
        return reply.body

    def live(self, number: int, last: Optional[str] = None) -> Events:
        """The live stream of a build, from the place `last` on."""
        return Events(("127.0.0.1", self.port), f"/build/{number}/live", last)

    def agents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("/agents")["agents"]
        return found

    def wait_agents(self, count: int = 1, within: float = 30.0) -> None:
        wait_for(lambda: len(self.agents()) >= count, within, f"{count} agents registered")


class AgentProcess(Minici):
    """An agent with one slot, unless `place.agent(slots=...)` says otherwise."""

    module = "minici.agent"

    @property
    def data(self) -> Path:
        return Path(str(self.sections["agent"]["data"]))

    def ping(self, secret: Optional[str] = None) -> Any:
        headers = {"Authorization": f"Bearer {secret}"} if secret else None
        reply = self.get("/ping", headers)
        assert reply.status == 200, reply
        return reply.json()
