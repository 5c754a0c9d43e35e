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

_SYSTEM = (Path("/etc/gitconfig"), Path("/etc/gitattributes"))
_RELEVANT = re.compile(rb"core\.(autocrlf|eol|safecrlf|symlinks|attributesfile)\n|filter\.|include")

_Status = tuple[Optional[tuple[int, int, int]], ...]


class ConversionSettings:
    """The user's settings that matter, as one word. For one thread."""

    def __init__(self) -> None:
        self._files: _Status = ()
        self._word = ""

    def word(self, git: Git) -> str:
        """A word that differs if a setting does. git is asked only after a file of settings has
        changed. Raises GitError, Interrupted, SupervisorLost."""
        folder = git.config_home / "git"
        files = (git.home / ".gitconfig", folder / "config", folder / "attributes", *_SYSTEM)
        status = tuple(map(_status, files))
        if status != self._files:
            self._word = _settings(status[2::2], git)
            self._files = status
        return self._word


def _settings(attributes: _Status, git: Git) -> str:
    listed = git("config", "-z", "--list", folder=Path("/")).split(b"\0")
    found = sorted(each for each in listed if _RELEVANT.match(each))
    return hashlib.sha256(repr((attributes, found)).encode()).hexdigest()


def _status(path: Path) -> Optional[tuple[int, int, int]]:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
