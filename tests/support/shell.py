"""A person who uses the command line in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Optional

from tests.support.harness import Place, environment

Done = subprocess.CompletedProcess[str]


class Shell:
    """A person in a folder."""

    def __init__(self, place: Place, server: Any, folder: Optional[Path] = None) -> None:
        self.folder = folder or place.elsewhere
        self.env = environment(place.marker, place.home)
        self.env["MINICI_SERVER"] = str(getattr(server, "address", server))

    def __call__(self, *words: str) -> Done:
        with self.popen(*words) as process:
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "minici", *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def read_until(stream: Optional[IO[str]], words: str) -> None:
    """Read lines up to one in which these words stand."""
    assert stream
    for line in iter(stream.readline, ""):
        if words in line:
            return
    raise AssertionError(f"it ended without: {words}")
