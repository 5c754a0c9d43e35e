"""One working tree, and its checkouts: rule 23 of section 5 of the contract.

    N               the tree
    N.git           its index and HEAD, for the agent alone
    N.conversion    the attributes and settings by which its files were written

The `.git` in the tree is the command's. It is a copy, made anew for each build, so that no hook, no
setting and no lock of one build meets the next.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Optional

from minici.checkout import index_file
from minici.checkout.conversion import ConversionSettings
from minici.checkout.git import Git, GitError
from minici.checkout.git_dir import chown, create, empty_repository, restore
from minici.checkout.hidden_attributes import find_hidden_attributes, has_hidden_attributes
from minici.checkout.index_file import Entry
from minici.checkout.mirror import Mirror
from minici.checkout.mounts import mounts_in
from minici.checkout.tree_snapshot import TreeSnapshot
from minici.durable import read_whole
from minici.reasons import Reason

_KNOWN_ATTRIBUTES = 1000  # revisions
_CLOCK_TICK_SECONDS = 0.01  # by so much the times of files may lag behind the clock
# Entries of a tree that git passes over: repositories in its folders, and all that is neither file,
# folder nor link. Modes are those of a fresh clone; a folder of another owner can't be mended.
_UNSEEN = (
    "find . -path ./.git -prune -o -name .git -prune -exec rm -rf {{}} +"
    " -o -type d ! -user {user} -exec false {{}} +"
    " -o -type d ! -perm {folder:o} -exec chmod a-st {{}} + -exec chmod {folder:o} {{}} +"
    " -o -type f ! -perm {file:o} ! -perm {program:o} -exec rm -f {{}} +"
    " -o ! -type f ! -type d ! -type l -exec rm -f {{}} +"
)

log = logging.getLogger(__name__)


class WorkingTree:
    """A working tree. For the thread of its slot.

    `git_dir` is its git folder; `discarded` the folder in which it is put aside.
    """

    def __init__(self, path: Path, git_dir: Path, discarded: Path, umask: int) -> None:
        self.path = path
        self.index = b""  # after a checkout
        self.hash_size = 20  # bytes; likewise
        self._git_dir = git_dir
        self._conversion = git_dir.with_suffix(".conversion")
        self._known_conversion: Optional[str] = None  # what stands in that file
        self._discarded = discarded
        self._umask = umask
        self._settings = ConversionSettings()
        self._attributes: dict[str, str] = {}  # by revision
        self._snapshot: Optional[TreeSnapshot] = None  # of a tree that was clean then
        self._unproven: list[Entry] = []  # files that may have changed since, and git not see it

    def check_out(self, mirror: Mirror, revision: str, git: Git) -> None:
        """Have the tree be what a fresh clone of the revision would be. Raises GitError,
        Interrupted, SupervisorLost; OSError where the tree's own files can't be written."""
        try:
            self._check_out(mirror, revision, git)
        except (GitError, OSError) as error:
            log.warning("the working tree %s is made anew: %s", self.path, error)
            self._check_out_anew(mirror, revision, git)

    def discard(self, git: Git) -> None:
        """Put the tree out of the way, and remove it as far as that is possible."""
        self._snapshot = None
        for path in (self.path, self._git_dir):
            if os.path.lexists(path):
                trash = self._discarded / f"{self.path.name}.{time.time_ns()}.trash"
                _move(path, trash, git)
        try:
            git.remove(*self._discarded.glob(f"{self.path.name}.*.trash"))
        except GitError as error:
            log.warning("can't remove what a build has left, so it stays: %s", error)

    def _check_out_anew(self, mirror: Mirror, revision: str, git: Git) -> None:
        self.discard(git)
        try:
            self._check_out(mirror, revision, git)
        except GitError:
            if not mirror.repair(git):
                raise
            self.discard(git)
            mirror.resolve(revision, git)
            self._check_out(mirror, revision, git)

    def _check_out(self, mirror: Mirror, revision: str, git: Git) -> None:
        self.hash_size = len(revision) // 2
        snapshot, self._snapshot = self._snapshot, None
        settings = self._settings.word(git)
        known = self._read_conversion()
        mounted = mounts_in(self.path, self._git_dir)
        if mounted:
            log.warning("%s is made anew: mounted there: %s", self.path, ", ".join(mounted))
        if mounted or known is None or known.partition(" ")[0] != settings:
            self.discard(git)
        fresh = self._update(mirror, revision, snapshot, git)
        conversion = f"{settings} {self._attributes_of(revision)}"
        if not fresh and conversion != known:
            # In a fresh clone, files that both commits have alike would be other ones.
            self.discard(git)
            fresh = self._update(mirror, revision, snapshot, git)
        if fresh:
            self._conversion.write_text(conversion)
        self._known_conversion = conversion
        if git.account:
            git.copy(self._git_dir, self.path / ".git", mirror.folder)
        else:
            self._hand_over(mirror)
            self._snapshot = self._take_snapshot(snapshot)

    def _update(
        self, mirror: Mirror, revision: str, snapshot: Optional[TreeSnapshot], git: Git
    ) -> bool:
        """Check the revision out over whatever is there; True if nothing was."""
        fresh = not _is_folder(self.path) or not _is_folder(self._git_dir)
        options = (f"--git-dir={self._git_dir}", f"--work-tree={self.path}")
        how = ("--force", "--detach", "--quiet", *git.progress_options)
        words = (*options, "checkout", *how, revision, "--")
        if fresh:
            self._create(mirror, git)
            git.check_out(words, folder=self.path)
        elif snapshot is not None and snapshot.is_current():
            self._remove_changed_files()
            git.check_out(words, folder=self.path)
        else:
            self._forget_submodules(options, git)
            clean = (*options, "clean", "-ffdxq")
            git.check_out(words, folder=self.path, first=[self._unseen(git)], clean=clean)
            self._check_hidden_attributes()
        self.index = _read_regular(self._git_dir / "index")
        return fresh

    def _create(self, mirror: Mirror, git: Git) -> None:
        self.discard(git)
        self._known_conversion = None
        self._conversion.unlink(missing_ok=True)
        self._git_dir.parent.mkdir(parents=True, exist_ok=True)
        if git.account:
            self._git_dir.parent.chmod(0o711)  # they get through to their tree, whatever the umask
        self.path.mkdir(exist_ok=True)  # a submodule's is there
        chown([self.path], git.account)
        sha256 = self.hash_size == 32
        files = empty_repository(mirror.repository, mirror.folder, alternate=True, sha256=sha256)
        create(self._git_dir, files, git.account)

    def _unseen(self, git: Git) -> list[str]:
        """The command that removes or mends what git passes over."""
        user = git.account.uid if git.account else os.geteuid()
        folder = 0o777 & ~self._umask | os.lstat(self._git_dir.parent).st_mode & stat.S_ISGID
        file, program = 0o666 & ~self._umask, 0o777 & ~self._umask
        values = {"user": user, "folder": folder, "file": file, "program": program}
        return _UNSEEN.format(**values).split()

    def _forget_submodules(self, options: tuple[str, ...], git: Git) -> None:
        """Take them out of the index: `clean` spares what a build has put into a submodule."""
        index = _read_regular(self._git_dir / "index")
        paths = [each.path for each in index_file.submodules(index, self.hash_size)]
        if paths:
            words = ("--literal-pathspecs", *options, "rm", "--cached", "-f", "-q", "--")
            git(*words, *map(os.fsdecode, paths), folder=self.path)

    def _attributes_of(self, revision: str) -> str:
        if revision not in self._attributes:
            if len(self._attributes) >= _KNOWN_ATTRIBUTES:
                self._attributes.clear()
            self._attributes[revision] = index_file.attributes(self.index, self.hash_size)
        return self._attributes[revision]

    def _read_conversion(self) -> Optional[str]:
        if self._known_conversion is None:
            with suppress(OSError):
                self._known_conversion = self._conversion.read_text()
        return self._known_conversion

    def _hand_over(self, mirror: Mirror) -> None:
        """Give the tree its `.git`: the slot's own, with the refs of the mirror, and where its
        history ends.

        Quicker than `Git.copy`; only where builds are the agent's own user, who could do the same.
        """
        own, target = self._git_dir, self.path / ".git"
        try:
            names = ("config", "HEAD", "objects/info/alternates")
            files = {name: read_whole(own / name) for name in names}
            files["index"] = self.index
            for path in (mirror.folder / "packed-refs", mirror.folder / "shallow"):
                with suppress(FileNotFoundError):
                    files[path.name] = read_whole(path)
            restore(target, files, like=own)
        except OSError as error:
            raise _not_made(target, error.strerror or str(error)) from None
        except RecursionError:
            raise _not_made(target, "folders are nested too deep there") from None

    def _take_snapshot(self, before: Optional[TreeSnapshot]) -> Optional[TreeSnapshot]:
        self._unproven = []
        if index_file.may_have_submodules(self.index):
            return None
        index = self._git_dir / "index"
        second = int(os.lstat(index).st_mtime)
        if time.time() - _CLOCK_TICK_SECONDS < second + 1:
            self._unproven = index_file.changed_at(self.index, second, self.hash_size)
        return TreeSnapshot.of(self.path, index, before)

    def _remove_changed_files(self) -> None:
        """Remove files that a build has changed in the second in which they were written: git
        compares whole seconds, and content. Their folders are those of the snapshot."""
        for path, status, entry in self._find_unproven():
            mode = entry.mode & 0o111 & ~self._umask | 0o666 & ~self._umask
            if stat.S_IMODE(status.st_mode) != mode or entry.is_outdated(status):
                os.unlink(path)

    def _check_hidden_attributes(self) -> None:
        """Raise GitError where an earlier build has left some, which git has not noticed."""
        for path, status, entry in self._find_unproven():
            if entry.is_outdated(status) and has_hidden_attributes(path):
                raise GitError(Reason("attributes_left", path=path))
        found = find_hidden_attributes(str(self.path))
        if found:
            raise GitError(Reason("attributes_left", path=found))

    def _find_unproven(self) -> Iterator[tuple[str, os.stat_result, Entry]]:
        for entry in self._unproven:
            path = f"{self.path}/{os.fsdecode(entry.path)}"
            with suppress(FileNotFoundError, NotADirectoryError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    yield path, status, entry


def _move(path: Path, trash: Path, git: Git) -> None:
    """Move something although a build has mounted something over it, or locked it: it would be in
    the way of every build. Raises GitError, OSError."""
    try:
        os.rename(path, trash)
        return
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EPERM):
            raise
        mounted = error.errno == errno.EBUSY
    if mounted:
        log.warning("unmounting what a build has mounted over %s", path)
        git.detach(path)
    else:
        log.warning("unlocking what a build has locked: chattr -i -a %s", path)
        git.unlock(path.parent, path)
    try:
        os.rename(path, trash)
    except PermissionError as error:
        raise GitError(Reason("not_moved", path=str(path), error=error.strerror or "")) from None


def _not_made(path: Path, error: str) -> GitError:
    return GitError(Reason("not_made", path=str(path), error=error))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _read_regular(path: Path) -> bytes:
    """Read a file where a build may have been at work; empty if there is none. Raises OSError."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return b""
        return read_whole(path, os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
