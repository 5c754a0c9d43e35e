"""The git folders that minici makes itself: mirrors, those of slots, and those of commands.

A command has the `.git` of its working tree for itself, and may do anything to it. Creating files
costs more than all the rest of a checkout, so a `.git` that a build has left as it was is kept, and
only what differs is written; one that it has changed is made anew.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Optional

from minici.checkout.hidden_attributes import has_hidden_attributes
from minici.durable import PathLike, read_whole, write_all
from minici.process.account import Account

_FOLDERS = ("", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags")
_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = {bare}
\tlogAllRefUpdates = false
[extensions]
\t{extension}
[remote "origin"]
\turl = {url}
\tfetch = +refs/heads/*:refs/remotes/origin/*
[lfs]
\tstorage = {lfs}
"""

_Kind = tuple[int, int, int, int]


def empty_repository(
    repository: str,
    shared: Path,
    *,
    alternate: bool = False,
    bare: bool = False,
    sha256: bool = False,
) -> dict[str, bytes]:
    """The files of an empty repository of git's oldest format, whatever git's own settings say.

    `shared` is the mirror, whose large files of git-lfs it shares, and with `alternate` whose
    objects too.
    """
    config = _CONFIG.format(
        version=int(sha256),
        bare=str(bare).lower(),
        extension="objectFormat = sha256" if sha256 else "",
        url=_quoted(repository),
        lfs=_quoted(str(shared / "lfs")),
    )
    files = {"config": os.fsencode(config), "HEAD": b"ref: refs/heads/none\n", "packed-refs": b""}
    if alternate:
        files["objects/info/alternates"] = os.fsencode(shared / "objects") + b"\n"
    return files


def create(folder: Path, files: Mapping[str, bytes], account: Optional[Account]) -> None:
    """Make a git folder with these files, owned by `account`. Raises OSError."""
    for name in _FOLDERS:
        os.mkdir(folder / name)
    for name, data in files.items():
        _write(folder / name, data)
    # The innermost first: the account may replace by a link what it owns already.
    chown([folder / name for name in reversed((*_FOLDERS, *files))], account)


def restore(folder: Path, files: Mapping[str, bytes], like: Path) -> None:
    """Make a git folder hold these files and nothing else, whatever a command has done to it.

    Owners and modes are as in the git folder `like`. Nothing that a build has started may live
    now, and builds must be the agent's own user: see `Git.copy`. Raises OSError, and, before Python
    3.13, RecursionError where folders are nested a thousand deep.
    """
    if _holds_only(str(folder), files, str(like)):
        for name, data in files.items():
            path = f"{folder}/{name}"
            if read_whole(path) != data:
                _write(path, data)
        return
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    elif os.path.lexists(folder):
        folder.unlink()
    create(folder, files, None)


def chown(paths: Iterable[Path], account: Optional[Account]) -> None:
    """Make files and folders the account's, if there is one. Raises OSError."""
    if account:
        for path in paths:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _holds_only(folder: str, files: Iterable[str], like: str) -> bool:
    try:
        expected = {
            **dict.fromkeys(_FOLDERS, _kind(os.lstat(like))),
            **dict.fromkeys(files, _kind(os.lstat(f"{like}/config"))),
        }
        count = 0
        for name, kind in _walk(folder, ""):
            if expected.get(name) != kind or has_hidden_attributes(f"{folder}/{name}"):
                return False
            count += 1
        return count == len(expected)
    except OSError:
        return False


def _walk(folder: str, name: str) -> Iterator[tuple[str, _Kind]]:
    """All that is in a folder, by its name there, and first the folder itself, as ""."""
    path = f"{folder}/{name}" if name else folder
    status = os.lstat(path)
    yield name, _kind(status)
    if stat.S_ISDIR(status.st_mode):
        for each in os.listdir(path):
            yield from _walk(folder, f"{name}/{each}" if name else each)


def _kind(status: os.stat_result) -> _Kind:
    """All that must not have changed besides the content. Writing to a file with a second name
    would change that, too."""
    names = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
    return status.st_mode, status.st_uid, status.st_gid, names


def _write(path: PathLike, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o644)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _quoted(value: str) -> str:
    """A value as it stands in a configuration file of git."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
