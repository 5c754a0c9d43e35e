"""Processes that an earlier life of the agent has left: rule 12 of section 5 of the contract.

A process is identified by its id and its start time, never by its name.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Optional

from minici.process import supervisor


def end_leftovers(records: Iterable[Path]) -> int:
    """End the processes named by the records of an earlier life, and delete the records.

    Returns the number of records' processes that still lived.
    """
    ended = 0
    for record in records:
        try:
            entries = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            entries = []
        # The supervisor stands last: as long as it lives, nothing escapes from below it.
        ended += sum(_end_tree(pid, start) for pid, start in entries if start)
        with suppress(OSError):
            record.unlink()
    return ended


def _end_tree(pid: int, start: str) -> bool:
    """End a process with its descendants and the rest of its session; return False if there were
    none."""
    give_up = time.monotonic() + supervisor.KILL_SECONDS
    found = False
    while time.monotonic() < give_up:
        living = _remaining(pid, start)
        if not living:
            break
        found = True
        for each, its_start in living.items():
            if identity(each) == its_start:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(each, signal.SIGKILL)
        time.sleep(0.01)
    return found


def _remaining(root: int, identity_of_root: str) -> dict[int, str]:
    """Return the identities of a process's descendants; of the process itself if it has none; of
    the rest of its session if it is gone."""
    if not supervisor.HAS_PROC:
        return {root: identity_of_root} if identity(root) == identity_of_root else {}
    boot, _, start = identity_of_root.rpartition(" ")
    if boot != _boot():
        return {}
    known = {
        pid: fields for pid, fields in supervisor.processes() if fields[0] not in supervisor.DEAD
    }
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
    """Return the start of a process, which tells it from all others with its id; None if it is
    gone."""
    if supervisor.HAS_PROC:
        fields = supervisor.stat_fields(pid)
        return f"{_boot()} {fields[19]}" if fields and fields[0] not in supervisor.DEAD else None
    words = ["ps", "-o", "lstart=", "-p", str(pid)]
    environ = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}  # the next life may have others
    found = subprocess.run(words, stdout=subprocess.PIPE, env=environ, check=False)
    return found.stdout.decode("ascii", "replace").strip() or None


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
