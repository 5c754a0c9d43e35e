"""Copies of the server's data folder, started beside it: rule 20."""

from __future__ import annotations

import contextlib
import http.client
import random
import shutil
from typing import Optional

from tests.chaos.trouble import Trouble
from tests.support.harness import Place, ServerProcess


class Copy(Trouble):
    """A server on a copy of the folder, which is asked for builds of its own, and told to cancel
    those of the other. Nothing of it may come true."""

    def __init__(self, place: Place, server: ServerProcess) -> None:
        super().__init__()
        self._place = place
        self._original = server
        self._drill: Optional[ServerProcess] = None
        self._data = place.folder / "copy"
        self._ran = place.folder / "ran-for-a-copy"

    def begin(self, chance: random.Random) -> str:
        with contextlib.suppress(shutil.Error):  # of files that have gone meanwhile
            shutil.copytree(self._original.data, self._data)
        if self._drill is None:
            settings = self._original.sections["server"]
            changed = {**settings, "port": 0, "data": self._data, "max_attempts": 1}
            del changed["hook"]  # it is told of the original's builds
            self._drill = self._place.configure_server(**changed)
        self._drill.start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._disturb(self._drill)
        return "copy started"

    def _disturb(self, drill: ServerProcess) -> None:
        drill.start_build("HEAD", f"touch {self._ran}")
        for build in drill.api("/builds?status=running")["builds"]:
            drill.post(f"/build/{build['id']}/cancel")

    def end(self) -> None:
        assert self._drill is not None
        self._drill.kill()
        shutil.rmtree(self._data)

    def problems(self) -> list[str]:
        return ["an agent has run a build of a copy"] if self._ran.exists() else []
