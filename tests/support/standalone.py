"""`python -m minici`: a server and agents in one go, started in a folder of a repository."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from tests.support.harness import FINAL, Minici, Place, wait_for


class Standalone(Minici):
    """`python -m minici` in a folder, or another way to start the same."""

    module = "minici"

    def __init__(self, place: Place, folder: Path, words: Sequence[object] = ()) -> None:
        super().__init__(place, "minici", {})
        self.config = folder
        self.words = [str(word) for word in words] or [sys.executable, "-m", "minici"]
        place.processes.append(self)

    def launch(self) -> None:
        self.lives += 1
        self.out = self.place.folder / f"{self.name}.{self.lives}.out"
        with open(self.out, "wb") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen(
                [*self.prefix, *self.words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.config,
                env=self.env,
                start_new_session=True,
            )

    def ready(self) -> None:
        def found() -> Optional[re.Match[str]]:
            assert self.alive, self.log()
            return re.search(r"http://127\.0\.0\.1:(\d+)\b", self.out.read_text("utf-8", "replace"))

        match = wait_for(found, what="an address on stdout")
        assert match is not None
        self.port = int(match[1])

    def build(self, command: str, commit: str = "HEAD") -> dict[str, Any]:
        """Start a build and wait for its end."""
        reply = self.post("/api/builds", {"commit": commit, "command": command})
        assert reply.status == 201, reply
        path = f"/api/builds/{reply.json()['id']}"

        def final() -> Optional[dict[str, Any]]:
            build: dict[str, Any] = self.get(path).json()
            return build if build["status"] in FINAL else None

        build = wait_for(final, 60, "the build")
        assert build is not None
        return build
