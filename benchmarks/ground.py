"""The ground on which one measure stands: a folder, and the processes that were started in it.

Leaving the `with` block ends the processes and removes the folder, however the block ends.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Callable, Optional, TypeVar, Union

from benchmarks.interrupts import interrupts

ROOT = Path(__file__).resolve().parent.parent
Setting = Union[str, int, float, Path]
T = TypeVar("T")

_PATIENCE = 60.0  # seconds that anything may take to be there
_GRACE = 20.0  # seconds for a process to end by itself


class Ground:
    """`parent` is where its folder is made; `quick` asks for few repetitions."""

    def __init__(self, parent: Optional[Path] = None, quick: bool = False) -> None:
        self.quick = quick
        self.folder = Path(tempfile.mkdtemp(prefix="minici-benchmarks-", dir=parent))
        self._processes: list[Process] = []

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def times(self, full: int, quick: int) -> int:
        """How often to do something."""
        return quick if self.quick else full

    def have_memory(self, megabytes: int) -> None:
        """Have a virtual machine get so much memory in hand, by a file that comes and goes.

        Memory that its host must find first makes a write five times slower. What stays, as output
        and files do, would pay for that each time, and a floor that takes what was free a moment
        ago would not.
        """
        path = self.folder / "memory"
        with open(path, "wb") as file:
            for _ in range(megabytes):
                file.write(bytes(1_000_000))
        path.unlink()

    def server(self, repository: Union[str, Path], **settings: Setting) -> Server:
        """A server that answers, on a data folder of its own."""
        name = self._name("server")
        given = {"repository": repository, "data": self.folder / f"{name}-data", **settings}
        return self._start(Server(self, name, given))

    def agent(self, server: Server, **settings: Setting) -> Agent:
        """An agent that is registered."""
        name = self._name("agent")
        given = {"server": server.address, "data": self.folder / f"{name}-data", **settings}
        agent = self._start(Agent(self, name, given))
        wait_for(lambda: "registered with" in agent.log(), f"the registration of {name}")
        return agent

    def python(self, name: str, data: Path, *words: str) -> Process:
        """`python WORDS`, a process that first prints its port; `data` is the folder it keeps."""
        return self._start(Process(self, self._name(name), data, words))

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self._processes) + 1}"

    def _start(self, process: AnyProcess) -> AnyProcess:
        self._processes.append(process)
        process.start()
        return process

    def environment(self) -> dict[str, str]:
        """What everything here is started with: nothing of the person's own settings."""
        names = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
        env = {name: os.environ[name] for name in names if name in os.environ}
        env.update(
            HOME=str(self.folder),
            LANG="C.UTF-8",
            PYTHONPATH=str(ROOT),
            PYTHONPYCACHEPREFIX=str(self.folder / "pycache"),
            GIT_CONFIG_GLOBAL=os.devnull,
            GIT_CONFIG_NOSYSTEM="1",
        )
        return env

    def run(self, words: Sequence[Union[str, Path]], data: Optional[bytes] = None) -> str:
        """Run a program in the folder and return what it printed; it must succeed."""
        done = subprocess.run(
            words,
            check=False,
            cwd=self.folder,
            env=self.environment(),
            input=data,
            capture_output=True,
        )
        if done.returncode:
            raise RuntimeError(f"{words}: {done.stderr.decode('utf-8', 'replace')[-1000:]}")
        return done.stdout.decode("utf-8", "replace").strip()


class Process:
    """A process of Python: the folder that it keeps, its port and its log."""

    def __init__(self, ground: Ground, name: str, data: Path, words: Sequence[str]) -> None:
        self._ground = ground
        self._words = words
        self.data = data
        self.log_path = ground.folder / f"{name}.log"
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.port = 0

    def start(self) -> None:
        """Start the process, and wait until it says where it answers."""
        with interrupts.put_off():  # what is started is known, and will be ended
            self._process = process = self._launch()
        assert process.stdout is not None
        said = re.search(r"(\d+)[/\n]", process.stdout.readline().decode())  # alone or in a URL
        if not said:
            raise RuntimeError(f"{self.log_path.stem} has ended at once: {self.log()[-1000:]}")
        self.port = int(said.group(1))

    def _launch(self) -> subprocess.Popen[bytes]:
        with open(self.log_path, "ab") as log:
            return subprocess.Popen(
                [sys.executable, *self._words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._ground.folder,
                env=self._ground.environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        """SIGTERM, and SIGKILL for what does not end by it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None


class Minici(Process):
    """A process of minici, and its configuration."""

    section = ""

    def __init__(self, ground: Ground, name: str, settings: Mapping[str, Setting]) -> None:
        self._settings = {"port": 0, **settings}
        self._config = ground.folder / f"{name}.ini"
        words = ("-m", f"minici.{self.section}", str(self._config))
        super().__init__(ground, name, Path(str(settings["data"])), words)

    def start(self) -> None:
        lines = [f"{key} = {value}" for key, value in self._settings.items()]
        self._config.write_text("\n".join([f"[{self.section}]", *lines, ""]), encoding="utf-8")
        super().start()


class Server(Minici):
    section = "server"


class Agent(Minici):
    section = "agent"


AnyProcess = TypeVar("AnyProcess", bound=Process)


def wait_for(condition: Callable[[], T], what: str, pause: float = 0.02) -> T:
    """The first true value of `condition`; it is asked again after `pause` seconds."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {_PATIENCE:g} s")
        time.sleep(pause)
