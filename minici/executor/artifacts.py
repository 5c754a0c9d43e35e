"""The folder in which a command may leave files: `MINICI_ARTIFACTS`, empty for each build."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Optional

from minici.checkout.git import Git, GitError
from minici.checkout.git_dir import chown
from minici.process.account import Account

log = logging.getLogger(__name__)


def make_artifacts(parent: Path, name: str, git: Git) -> Path:
    """Make the empty folder `name` in `parent`, which has no other one then. Raises OSError.

    One that an earlier build has not touched is renamed: to remove it would wait for the disk.
    """
    parent.mkdir(exist_ok=True)
    if git.account:
        parent.chmod(0o711)  # they get through to their own, whatever the umask
    folder = parent / name
    for earlier in parent.iterdir():
        if not folder.exists() and _is_untouched(earlier, git.account):
            earlier.rename(folder)
            continue
        try:
            git.remove(earlier)
        except GitError as error:
            log.warning("can't remove the files of an earlier build, so they stay: %s", error)
    if not folder.exists():
        folder.mkdir(mode=0o700)
        chown([folder], git.account)
    return folder


def _is_untouched(folder: Path, account: Optional[Account]) -> bool:
    """Return whether a folder is as it was made: empty, with its mode and its owner."""
    status = os.lstat(folder)
    owner = account.uid if account else os.geteuid()
    as_made = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700
    return as_made and status.st_uid == owner and not os.listdir(folder)
