"""The runners that an agent has started, and what they or an earlier life of it have left.

Section 5 of the contract, rule 12. A process is known by its id and its start, never by its name.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Optional

from minici.process import supervisor as runner

# The soft limit with which the agent was started: it raises its own, and commands that use
# select(2) would break with more.
_FILE_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class _Family:
    """The runners of this process, and the orphans of those that something has killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows, and no runner starts meanwhile
        self._runners: set[int] = set()
        self._strangers: set[int] = set()
        self._adopts = False

    def adopt(self) -> None:
        """Become the one to whom the orphans of a lost runner fall, and end them.

        From then on each new child of this process that is no runner counts as such an orphan.
        """
        if runner.HAS_PROC:
            self._strangers = runner.children()
        runner.become_subreaper()
        self._adopts = runner.HAS_PROC

    def start(self, control: socket.socket) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parents[2]  # a folder, or the archive of a zipapp
        kept = ("PYTHON", "LD_", "DYLD_", "LANG", "LC_")
        env = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        with self._lock:
            process = subprocess.Popen(
                [sys.executable, "-S", "-m", "minici.process.supervisor", str(_FILE_LIMIT)],
                cwd="/",
                env={**env, "PYTHONPATH": str(root)},
                stdin=control.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._runners.add(process.pid)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a runner whose control is closed, but not long; end what it leaves."""
        try:
            process.wait(runner.GIVE_UP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with self._lock:
            self._runners.discard(process.pid)
            if self._adopts and process.returncode != 0:
                self._end_orphans()

    def _end_orphans(self) -> None:
        """End them from the top: what is below one comes up when it dies."""
        give_up = time.monotonic() + runner.GIVE_UP
        while time.monotonic() < give_up:
            orphans = runner.children() - self._runners - self._strangers
            if not orphans:  # those that are dead by now may have left others: look again
                return
            for pid in orphans:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    runner.kill(pid, signal.SIGKILL)
            time.sleep(0.001)


family = _Family()


# What an earlier life of the agent has left.


def end_leftovers(records: Iterable[Path]) -> int:
    """End what the records of an earlier life name, if it lives; return how many that were."""
    ended = 0
    for record in records:
        try:
            entries = json.loads(record.read_text())
        except (OSError, ValueError):
            entries = []
        # The runner stands last: as long as it lives, nothing escapes from below it.
        ended += sum(_end_tree(pid, since) for pid, since in entries if since)
        with suppress(OSError):
            record.unlink()
    return ended


def _end_tree(pid: int, since: str) -> bool:
    """End a process with all that is below it, and what it has left in its session."""
    give_up = time.monotonic() + runner.GIVE_UP
    found = False
    while time.monotonic() < give_up:
        living = _below(pid, since)
        if not living:
            break
        found = True
        for each, start in living.items():
            if identity(each) == start:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(each, signal.SIGKILL)
        time.sleep(0.01)
    return found


def _below(root: int, since: str) -> dict[int, str]:
    """The identities of what is below a process; of itself when nothing is; once it is gone, of
    what it has left in its session."""
    if not runner.HAS_PROC:
        return {root: since} if identity(root) == since else {}
    boot, _, start = since.rpartition(" ")
    if boot != _boot():
        return {}
    known = {pid: fields for pid, fields in runner.processes() if fields[0] not in runner.DEAD}
    if root in known and known[root][19] == start:
        found = _descendants(root, known) or {root}
    else:
        later = (pid for pid, fields in known.items() if int(fields[19]) >= int(start))
        found = {pid for pid in later if known[pid][3] == str(root)}
    return {pid: f"{boot} {known[pid][19]}" for pid in found}


def _descendants(root: int, known: Mapping[int, list[str]]) -> set[int]:
    found: set[int] = set()
    parents = {root}
    while parents:
        parents = {pid for pid, fields in known.items() if int(fields[1]) in parents} - found
        found |= parents
    return found


def identity(pid: int) -> Optional[str]:
    """What tells a process from all others that ever have its id; None if it is gone."""
    if runner.HAS_PROC:
        fields = runner.stat_fields(pid)
        return f"{_boot()} {fields[19]}" if fields and fields[0] not in runner.DEAD else None
    words = ["ps", "-o", "lstart=", "-p", str(pid)]
    found = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() or None


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
