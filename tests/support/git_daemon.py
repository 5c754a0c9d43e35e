"""A `git daemon` that comes and goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Optional

from tests.support.harness import wait_for


class GitDaemon:
    """Serves the repositories of a folder, on a port of its own, from `start` to `stop`."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._folder = folder
        self._process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> None:
        words = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={self.port}"]
        words += ["--export-all", f"--base-path={self._folder}"]
        self._process = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for(self.answers, 20, "git daemon listens")

    @property
    def running(self) -> bool:
        return self._process is not None

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it, and cut what it sends."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    close = stop
