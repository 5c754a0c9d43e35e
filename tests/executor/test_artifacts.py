"""The folder for the files of a build: it is empty, whatever the build before it has left."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from minici.executor.artifacts import make_artifacts


class Git:
    """The part of Git that removes folders, as a process of its own."""

    account: Optional[Any] = None

    def __init__(self) -> None:
        self.removed: list[str] = []

    def remove(self, path: Path) -> None:
        self.removed.append(path.name)
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            path.chmod(0o700)
            shutil.rmtree(path)


def make(parent: Path, name: str, git: Git) -> Path:
    return make_artifacts(parent, name, git)  # type: ignore[arg-type]


def test_a_folder_that_a_build_has_not_touched_becomes_that_of_the_next(tmp_path: Path) -> None:
    git = Git()
    first = make(tmp_path / "artifacts", "1-1", git)
    inode = first.stat().st_ino
    second = make(tmp_path / "artifacts", "2-1", git)
    assert second.stat().st_ino == inode and os.listdir(second.parent) == ["2-1"]
    assert not git.removed


def left_file(folder: Path) -> None:
    (folder / "report").write_text("x")


def left_link(folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to("/")


def left_plain_file(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("x")


@pytest.mark.parametrize(
    "leave",
    [left_file, left_link, left_plain_file, lambda f: f.chmod(0o755), lambda f: f.chmod(0o1700)],
)
def test_any_other_is_removed(tmp_path: Path, leave: Callable[[Path], None]) -> None:
    git = Git()
    leave(make(tmp_path / "artifacts", "1-1", git))
    folder = make(tmp_path / "artifacts", "2-1", git)
    assert os.listdir(folder.parent) == ["2-1"] and os.listdir(folder) == []
    assert stat.S_IMODE(os.lstat(folder).st_mode) == 0o700 and folder.is_dir()
    assert git.removed == ["1-1"]


def test_one_that_is_gone_is_made(tmp_path: Path) -> None:
    git = Git()
    make(tmp_path / "artifacts", "1-1", git).rmdir()
    assert os.listdir(make(tmp_path / "artifacts", "2-1", git)) == []
