"""Repositories to build, and the floor: what a shell needs to check out and run `true`."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ground import Ground

SMALL = 12  # files
LARGE = 5000
_CHANGED = 50  # files at most that differ between the two commits

# One checkout after the other, told by a line each: `echo` is the shell's own.
_LOOP = """\
i=0
while [ $i -lt "$1" ]; do
  git checkout --quiet --force --detach "$2" && git clean -ffdxq && sh -c "$4" && echo || exit
  git checkout --quiet --force --detach "$3" && git clean -ffdxq && sh -c "$4" && echo || exit
  i=$((i + 2))
done
"""


@dataclass(frozen=True)
class Repository:
    """A repository with two commits between which builds alternate."""

    path: Path
    commits: tuple[str, str]

    def commit(self, index: int) -> str:
        return self.commits[index % 2]


def make(ground: Ground, files: int) -> Repository:
    """A repository of so many files of about 1 KB, a hundred to a folder."""
    path = ground.folder / f"repository-{files}"
    ground.run(["git", "init", "--quiet", "--initial-branch=main", path])
    names = [f"folder-{number // 100}/file-{number}.txt" for number in range(files)]
    changed = names[:: max(1, files // _CHANGED)]
    stream = [_commit(1, names), _commit(2, changed)]
    ground.run(["git", "-C", path, "fast-import", "--quiet"], b"".join(stream))
    second, first = ground.run(["git", "-C", path, "rev-list", "main"]).split()
    return Repository(path, (first, second))


def _commit(number: int, names: list[str]) -> bytes:
    parts = [
        b"commit refs/heads/main\n",
        b"committer Bench <bench@example.org> %d +0000\n" % (1700000000 + number),
        b"data 8\nCommit %d\n" % number,
    ]
    for name in names:
        text = f"{name} in commit {number}\n".encode() * 40
        parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(text), text))
    return b"".join(parts)


class Loop:
    """A kept working tree, in which a shell does what each build has to do at the least."""

    def __init__(self, ground: Ground, repository: Repository, command: str = "true") -> None:
        self._ground = ground
        self._repository = repository
        self._command = command
        self.tree = Path(tempfile.mkdtemp(prefix="floor-", dir=ground.folder))
        ground.run(["git", "clone", "--quiet", repository.path, self.tree])
        self.run(2)

    def start(self, times: int) -> subprocess.Popen[bytes]:
        """Begin so many checkouts, an even number; a line comes on stdout after each."""
        words = ["sh", "-c", _LOOP, "loop", str(times), *self._repository.commits]
        return subprocess.Popen(
            [*words, self._command],
            cwd=self.tree,
            env=self._ground.environment(),
            stdout=subprocess.PIPE,
        )

    def run(self, times: int) -> list[float]:
        """The seconds that each of so many checkouts took."""
        before = time.perf_counter()
        found = []
        with self.start(times) as loop:
            assert loop.stdout is not None
            for _ in iter(loop.stdout.readline, b""):
                now = time.perf_counter()
                found.append(now - before)
                before = now
        if loop.returncode or len(found) != times:
            raise RuntimeError(f"the shell loop ended with status {loop.returncode}")
        return found[1:]  # the first has the start of the shell in it
