"""A real repository, made quickly and apart from the settings of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

AUTHOR = "Ада Лавлейс <ada@example.org>"


def git(folder: Path, *words: str, data: Optional[bytes] = None) -> str:
    """Run git in a folder and return what it printed."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    command = ["git", *words]
    done = subprocess.run(command, cwd=folder, env=env, input=data, capture_output=True)
    if done.returncode:
        raise AssertionError(f"{command}: {done.stderr.decode('utf-8', 'replace')}")
    return done.stdout.decode("utf-8", "surrogateescape").strip()


class Repository:
    """A repository with the branch `main`, its commits, and helpers to add to it.

    `first`, `second` and `third` are the full hashes on `main`; `topic` is a branch off
    `first`, `v1` an annotated tag on `second`, `light` a plain tag on `first`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main")
        self.clock = 1700000000
        self.first = self.commit({"file.txt": "one\n", ".gitignore": "*.ignored\n"}, "First")
        self.topic = self.commit({"topic.txt": "topic\n"}, "On a branch", "topic", self.first)
        self.second = self.commit({"file.txt": "two\n"}, "Second")
        script = "#!/bin/sh\necho from the script\n"
        self.third = self.commit({"file.txt": "three\n", "script.sh": script}, "Third: ünï")
        git(
            path,
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@t",
            "tag",
            "-a",
            "-m",
            "v1",
            "v1",
            self.second,
        )
        git(path, "tag", "light", self.first)

    @property
    def url(self) -> str:
        return str(self.path)

    def commit(
        self,
        files: Mapping[str, str],
        subject: str,
        branch: str = "main",
        parent: Optional[str] = None,
    ) -> str:
        """Add a commit to a branch (from `parent` on, if it is given); return its hash."""
        self.clock += 60
        message = f"{subject}\n\nThe body of the message.\n".encode()
        parts = [
            f"commit refs/heads/{branch}\n".encode(),
            f"author {AUTHOR} {self.clock} +0000\n".encode(),
            f"committer {AUTHOR} {self.clock} +0000\n".encode(),
            b"data %d\n%s\n" % (len(message), message),
        ]
        parent = parent or self.tip(branch)
        if parent:
            parts.append(f"from {parent}\n".encode())
        for name, content in files.items():
            mode = "100755" if name.endswith(".sh") else "100644"
            data = content.encode("utf-8", "surrogateescape")
            parts.append(f"M {mode} inline {name}\n".encode())
            parts.append(b"data %d\n%s\n" % (len(data), data))
        git(self.path, "fast-import", "--quiet", "--force", data=b"".join(parts))
        return self.tip(branch) or ""

    def tip(self, branch: str) -> Optional[str]:
        """The hash a branch stands on, or None if there is no such branch."""
        found = git(self.path, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        return found or None
