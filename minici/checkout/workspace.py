"""Working trees: a clean checkout for each build.

    workspaces/NAME-HASH/N       the working tree of slot N, in which commands run
    workspaces/NAME-HASH/N.git   its index and HEAD, for the agent alone

A command has the `.git` of its working tree for itself: it is a copy, made anew for each build,
so that no hook, no setting and no lock of one build meets the next. Whatever else can be wrong
with a working tree or a mirror shows in git's exit status, and is answered by a new one.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Optional

from minici.checkout.git import Git, GitError
from minici.checkout.git_dir import empty, give, lay_out, restore
from minici.checkout.mirror import Commit, Mirror, Mirrors, folder_name
from minici.checkout.tree_snapshot import Seal
from minici.durable import read_whole

_SUBMODULE = b"\x00\x00\xe0\x00"  # its mode, as it stands in an index

log = logging.getLogger(__name__)


class Workspace:
    """The working trees of one slot, one for each repository. For the slot's thread."""

    def __init__(self, folder: Path, slot: int, mirrors: Mirrors) -> None:
        self._folder = folder
        self._slot = slot
        self._mirrors = mirrors
        self._seals: dict[Path, Seal] = {}  # of the trees that are known to be clean

    def checkout(
        self,
        repository: str,
        commit: str,
        git: Git,
        submodules: bool = False,
        progress: Optional[Callable[[bytes], None]] = None,
    ) -> tuple[Path, Commit]:
        """Check a commit out. Returns the working tree, in which nothing else is.

        Raises GitError, Interrupted, SupervisorLost.
        """
        mirror = self._mirrors.of(repository)
        found = mirror.resolve(commit, git)
        tree = self._folder / folder_name(repository) / str(self._slot)
        try:
            self._check_out(mirror, tree, found.revision, git)
        except GitError as error:
            log.warning("the working tree %s is made anew: %s", tree, error)
            found = self._check_out_anew(mirror, tree, found, git)
        return tree, found

    def _check_out_anew(self, mirror: Mirror, tree: Path, found: Commit, git: Git) -> Commit:
        self._discard(tree, git)
        try:
            self._check_out(mirror, tree, found.revision, git)
        except GitError:
            if not mirror.repair(git):
                raise
            self._discard(tree, git)
            found = mirror.resolve(found.revision, git)
            self._check_out(mirror, tree, found.revision, git)
        return found

    def _check_out(self, mirror: Mirror, tree: Path, revision: str, git: Git) -> None:
        own, seal = tree.with_suffix(".git"), self._seals.pop(tree, None)
        clean = seal is not None and seal.unbroken()
        if not _is_folder(tree) or not _is_folder(own):
            self._lay_out(mirror, tree, own, git, sha256=len(revision) == 64)
            clean = True
        options = (f"--git-dir={own}", f"--work-tree={tree}")
        checkout = (*options, "checkout", "--force", "--detach", "--quiet", revision, "--")
        if clean:
            git.check_out(checkout, folder=tree)
        else:
            if _has_submodules(own / "index"):
                self._forget_submodules(options, tree, git)
            git.check_out(checkout, folder=tree, clean=(*options, "clean", "-ffdxq"))
        if git.account:
            git.copy(own, tree / ".git", mirror.folder)
            return
        index = _hand_out(own, tree / ".git", mirror)
        seal = Seal.of(tree, own / "index", seal)
        if seal and _SUBMODULE not in index:
            self._seals[tree] = seal  # this build may leave nothing for the next one's `clean`

    def _lay_out(self, mirror: Mirror, tree: Path, own: Path, git: Git, sha256: bool) -> None:
        self._discard(tree, git)
        self._make_parent(tree, git)
        tree.mkdir()
        give([tree], git.account)
        files = empty(mirror.repository, mirror.folder, alternate=True, sha256=sha256)
        lay_out(own, files, git.account)

    @staticmethod
    def _make_parent(tree: Path, git: Git) -> None:
        tree.parent.mkdir(parents=True, exist_ok=True)
        if git.account:
            tree.parent.chmod(0o711)  # they get through to their tree, whatever the umask

    def _forget_submodules(self, options: tuple[str, ...], tree: Path, git: Git) -> None:
        """Take them out of the index: `clean` spares what a build has put into a submodule."""
        listed = git(*options, "ls-files", "--stage", "-z", folder=tree).split(b"\0")
        paths = [entry.partition(b"\t")[2] for entry in listed if entry.startswith(b"160000 ")]
        if paths:
            words = ("--literal-pathspecs", *options, "rm", "--cached", "-f", "-q", "--")
            git(*words, *map(os.fsdecode, paths), folder=tree)

    def _discard(self, tree: Path, git: Git) -> None:
        """Put a working tree out of the way, and remove it as far as it lets itself be removed."""
        for path in (tree, tree.with_suffix(".git")):
            if os.path.lexists(path):
                os.rename(path, path.with_name(f"{path.name}.{time.time_ns()}.trash"))
        trash = list(tree.parent.glob(f"{tree.name}.*.trash"))
        try:
            git.remove(*trash)
        except GitError as error:
            log.warning("can't remove what a build has left, so it stays: %s", error)


def _hand_out(own: Path, target: Path, mirror: Mirror) -> bytes:
    """Give a working tree its `.git`: the slot's own, with the refs of the mirror, and where its
    history ends. Returns the index. Raises GitError.

    Quicker than `Git.copy`; only where builds are the agent's own user, who could do the same.
    """
    try:
        files = {
            name: read_whole(own / name) for name in ("config", "HEAD", "objects/info/alternates")
        }
        for path in (own / "index", mirror.folder / "packed-refs", mirror.folder / "shallow"):
            with suppress(FileNotFoundError):
                files[path.name] = read_whole(path)
        restore(target, files, like=own)
        return files.get("index", b"")
    except OSError as error:
        raise GitError(f"{target} can't be made: {error.strerror or error}") from None
    except RecursionError:
        raise GitError(f"{target} can't be made: folders are nested too deep there") from None


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _has_submodules(index: Path) -> bool:
    """Whether the mode of a submodule stands anywhere in an index: maybe, or certainly not."""
    try:
        if not stat.S_ISREG(os.lstat(index).st_mode):
            return False
        return _SUBMODULE in read_whole(index, os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
