"""The settings by which git turns content into files, apart from the attributes of a commit.

Files are converted when they are written. If a setting changes later, those that are there
already stay as they are, and a fresh clone differs from them.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Optional

from minici.checkout.git import Git

_RELEVANT = re.compile(rb"core\.(autocrlf|eol|safecrlf|symlinks|attributesfile)\n|filter\.|include")

_Status = tuple[Optional[tuple[int, int, int]], ...]


class ConversionSettings:
    """The user's settings that matter, as one word. For one thread."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {}  # of files of settings, by the user's home
        self._files: _Status = ()
        self._word = ""

    def word(self, git: Git) -> str:
        """A word that differs if a setting does. git is asked only after a file of settings has
        changed. Raises GitError, Interrupted, SupervisorLost."""
        if git.home not in self._paths:
            own = f"{git.home}/.gitconfig", f"{git.config_home}/git/config"
            attributes = f"{git.config_home}/git/attributes"
            self._paths = {git.home: ["/etc/gitconfig", "/etc/gitattributes", *own, attributes]}
        status = tuple(map(_status, self._paths[git.home]))
        if status != self._files:
            self._word = _settings(status[1::3], git)
            self._files = status
        return self._word


def _settings(attributes: _Status, git: Git) -> str:
    listed = git("config", "-z", "--list", folder=Path("/")).split(b"\0")
    found = sorted(each for each in listed if _RELEVANT.match(each))
    return hashlib.sha256(repr((attributes, found)).encode()).hexdigest()


def _status(path: str) -> Optional[tuple[int, int, int]]:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
