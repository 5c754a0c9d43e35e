"""A repository to build from, and as much of an agent as checks commits out."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from minici.checkout.git import Git
from minici.checkout.mirror import Commit
from minici.checkout.mirrors import Mirrors
from minici.checkout.workspace import Workspace
from minici.process.command import Account, StopOrder, Supervisor


class Upstream:
    """A repository to build from, and what to do to it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", "-b", "main", *options, str(folder)], check=True)

    def git(self, *words: str, env: Optional[dict[str, str]] = None) -> str:
        identity = {
            f"GIT_{who}_{what}": text
            for who in ("AUTHOR", "COMMITTER")
            for what, text in (("NAME", "Ада"), ("EMAIL", "ada@example.com"))
        }
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *words],
            cwd=self.folder,
            env={**os.environ, **identity, **settings, **(env or {})},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, subject: str, **files: str) -> str:
        """Write files (`a__b` is a/b), commit them, and return the revision."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")


class Agent:
    """As much of an agent as checks commits out."""

    def __init__(self, data: Path) -> None:
        self.data = data
        (data / "mirrors").mkdir(parents=True)
        self.mirrors = Mirrors(data / "mirrors")
        self.supervisors: list[Supervisor] = []
        self.slots = [self.slot(0), self.slot(1)]
        self.account: Optional[Account] = None

    def close(self) -> None:
        for supervisor in self.supervisors:
            supervisor.close()

    def slot(self, number: int) -> tuple[Supervisor, Workspace]:
        supervisor = Supervisor(self.data / f"record{number}")
        self.supervisors.append(supervisor)
        return supervisor, Workspace(self.data / "workspaces", number, self.mirrors)

    def git(self, slot: int = 0, seconds: float = 60.0, stop: Optional[StopOrder] = None) -> Git:
        environ = {name: v for name, v in os.environ.items() if not name.startswith("GIT_")}
        supervisor, _ = self.slots[slot]
        deadline = time.monotonic() + seconds
        return Git(supervisor, environ, stop or StopOrder(), deadline, self.account)

    def checkout(self, repository: object, commit: str, slot: int = 0, **more: Any) -> Commit:
        _, workspace = self.slots[slot]
        how = {name: more.pop(name) for name in ("submodules", "progress") if name in more}
        git = self.git(slot, **more)
        try:
            self.tree, found = workspace.checkout(str(repository), commit, git, **how)
        finally:
            workspace.release()
        return found

    def sh(self, command: str) -> str:
        """What a command of a build would print."""
        environ = {name: v for name, v in os.environ.items() if not name.startswith("GIT_")}
        words = ["/bin/sh", "-ec", command]
        done = subprocess.run(
            words, cwd=self.tree, env=environ, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()

    @property
    def mirror(self) -> Path:
        (found,) = (self.data / "mirrors").glob("*.git")
        return found
