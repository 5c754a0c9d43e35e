"""The working trees of a slot: a clean checkout for each build.

    workspaces/NAME-HASH/N              the working tree of slot N, in which commands run
    workspaces/NAME-HASH/N.modules/     git folders of its submodules

See `working_tree.py` for the other files there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from minici.checkout.git import Git, GitError, Progress
from minici.checkout.mirror import Commit, Mirror
from minici.checkout.mirrors import Mirrors, folder_name
from minici.checkout.submodules import Submodule, submodules_of
from minici.checkout.working_tree import WorkingTree
from minici.reasons import Reason


class Workspace:
    """The working trees of one slot, one for each repository. For the slot's thread."""

    def __init__(self, folder: Path, slot: int, mirrors: Mirrors) -> None:
        self._folder = folder
        self._slot = slot
        self._mirrors = mirrors
        self._trees: dict[Path, WorkingTree] = {}
        self._umask = os.umask(0o022)
        os.umask(self._umask)

    def checkout(
        self,
        repository: str,
        commit: str,
        git: Git,
        *,
        submodules: bool = False,
        progress: Optional[Progress] = None,
    ) -> tuple[Path, Commit]:
        """Check a commit out. Returns the working tree, in which nothing else is.

        What git prints meanwhile is given to `progress`. The tree and the mirror stay as long as
        `release` has not been called. Raises GitError, Interrupted, SupervisorLost, OSError.
        """
        git = git.showing(progress)
        mirror = self._mirrors.of(repository, self._slot)
        found = mirror.resolve(commit, git)
        folder = self._folder / folder_name(repository)
        tree = self._tree(folder)
        tree.check_out(mirror, found.revision, git)
        if submodules:
            self._check_out_submodules(tree, mirror, found.revision, git)
        return tree.path, found

    def release(self) -> None:
        """Say that the build is over, and its command has ended."""
        self._mirrors.release(self._slot)

    def _tree(self, folder: Path) -> WorkingTree:
        path = folder / str(self._slot)
        if path not in self._trees:
            self._trees[path] = WorkingTree(path, path.with_suffix(".git"), folder, self._umask)
        return self._trees[path]

    def _check_out_submodules(
        self, tree: WorkingTree, mirror: Mirror, revision: str, git: Git
    ) -> None:
        """Fill the empty folders of a tree's submodules, and those of theirs."""
        git_dirs = tree.path.with_suffix(".modules")
        git.remove(git_dirs)
        waiting = [(tree, mirror, revision, "")]
        count = 0
        while waiting:
            outer, mirror, revision, prefix = waiting.pop()
            for submodule in submodules_of(outer, mirror, revision, git):
                count += 1
                inner = WorkingTree(
                    outer.path / submodule.path,
                    git_dirs / f"{count}.git",
                    tree.path.parent,
                    self._umask,
                )
                name = f"{prefix}{submodule.path}"
                within = self._check_out_submodule(inner, submodule, name, git)
                waiting.append((inner, within, submodule.revision, f"{name}/"))

    def _check_out_submodule(
        self, tree: WorkingTree, submodule: Submodule, name: str, git: Git
    ) -> Mirror:
        mirror = self._mirrors.of(submodule.repository, self._slot)
        try:
            mirror.resolve(submodule.revision, git)
            tree.check_out(mirror, submodule.revision, git)
        except GitError as error:
            reason = Reason("submodule_failed", submodule=name, reason=str(error))
            raise GitError(reason, error.messages) from None
        return mirror
