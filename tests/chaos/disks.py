"""Disks of agents that fill up."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys

from tests.chaos.trouble import Trouble
from tests.support.crashes import Hook
from tests.support.harness import Place

_SIZE = "64m"


class SmallDisk(Trouble):
    """A small file system for the data folder of an agent; where nothing may be mounted, the
    agent with `env` finds no space for whatever it writes itself."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__()
        self._folder = place.folder / name
        self._folder.mkdir()
        self.data = self._folder / "data"
        self._mounted = self._mount()
        self._hook = Hook(place, self.data, f"{name}-control")
        self.env = {} if self._mounted else self._hook.env
        place.keep(self)

    def _mount(self) -> bool:
        if sys.platform != "linux" or os.geteuid() != 0:
            return False
        words = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(self._folder)]
        return subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 0

    def begin(self, chance: random.Random) -> str:
        if self._mounted:
            with contextlib.suppress(OSError), open(self._folder / "fill", "wb", 0) as file:
                while True:
                    file.write(bytes(4096))
        else:
            self._hook.no_space()
        return "disk full"

    def end(self) -> None:
        if self._mounted:
            (self._folder / "fill").unlink()
        else:
            self._hook.space()

    def close(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
