"""A git repository of this host, for `python -m minici`: where it is, and its project."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.config_file import project_name_of
from minici.standalone.detect import usual_command

_MOST_NAME = 64  # characters of a project's name


class Unusable(Exception):
    """This can't be done here. The text is one line that says what to do."""


@dataclass(frozen=True)
class LocalRepository:
    """A repository, the name of its project, and the command that it is tested with."""

    path: Path
    name: str
    command: str


def find_repositories(
    folders: Sequence[str], command: Optional[str] = None
) -> list[LocalRepository]:
    """Return the repositories around some folders, each once. Raises Unusable.

    `command` tests them; without it, what stands at the top of each says how.
    """
    paths = list(dict.fromkeys(find_repository(folder) for folder in folders))
    names: list[str] = []
    for path in paths:
        folder = path.parent if path.name == ".git" else path
        names.append(_free_name(project_name_of(str(folder)), names))
    return [
        LocalRepository(path, name, command or detect_command(path))
        for path, name in zip(paths, names)
    ]


def find_repository(folder: str) -> Path:
    """Return the top of the git repository around a folder. Raises Unusable."""
    for question in ("--show-toplevel", "--absolute-git-dir"):
        try:
            answer = subprocess.run(
                ["git", "-C", folder, "rev-parse", question],
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise Unusable("git is missing: install it, then start again") from None
        path = answer.stdout.rstrip(b"\n")
        if answer.returncode == 0 and path:
            return _path_for_config(path)
    raise Unusable(f"{folder} is in no git repository: go into one, then start again")


def _path_for_config(path: bytes) -> Path:
    try:
        lines = path.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1:
        raise Unusable(f"{path!r} is no path of one line in UTF-8: give the folder another name")
    return Path(lines[0])


def _free_name(name: str, taken: Sequence[str]) -> str:
    """The name, with a number behind it where another project has it already."""
    free, number = name, 2
    while free in taken:
        suffix = f"-{number}"
        free, number = name[: _MOST_NAME - len(suffix)] + suffix, number + 1
    return free


def detect_command(repository: Path) -> str:
    """Return the command that probably tests a repository, by what its HEAD has at the top."""
    listed = _git(repository, "ls-tree", "-z", "--name-only", "HEAD")
    names = listed.decode("utf-8", "replace").split("\0")

    def read(name: str) -> str:
        return _git(repository, "show", f"HEAD:{name}").decode("utf-8", "replace")

    return usual_command(filter(None, names), read)


def _git(repository: Path, *words: str) -> bytes:
    """Return what git prints; nothing where it fails."""
    command = ["git", "-C", str(repository), *words]
    return subprocess.run(command, capture_output=True, check=False).stdout


def data_folder(repository: Path) -> Path:
    """Return the folder for a repository's builds: outside it, in the user's own data."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(Path.home(), ".local", "share")
    path = str(repository.resolve())
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", repository.name).strip(".") or "repository"
    return Path(home) / "minici" / f"{name}-{digest}"
