"""What the system says of processes: their memory and their processor time."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

MB = 1_000_000
_TICKS = os.sysconf("SC_CLK_TCK")
HAS_PROC = sys.platform == "linux"


def resident(pid: int) -> int:
    """The bytes of memory that a process has now."""
    if HAS_PROC:
        return _status(pid, "VmRSS")
    words = ["ps", "-o", "rss=", "-p", str(pid)]
    return 1024 * int(subprocess.run(words, capture_output=True, check=True).stdout)


def peak(pid: int) -> int:
    """The most bytes of memory that a process has had. For Linux."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {name} of process {pid}")


def processor_seconds(pid: int) -> float:
    """What a process, all that live below it, and all that died there have used. For Linux."""
    parents = dict(_processes())
    found = 0
    for each, fields in parents.items():
        if each == pid or _is_below(each, pid, parents):
            found += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc(5)
    return found / _TICKS


def own_seconds(pid: int) -> float:
    """The processor time that a process itself has used, without its children. For Linux."""
    fields = dict(_processes())[pid]
    return (int(fields[11]) + int(fields[12])) / _TICKS  # utime, stime: proc(5)


def _is_below(pid: int, root: int, processes: dict[int, list[str]]) -> bool:
    while pid in processes:
        pid = int(processes[pid][1])
        if pid == root:
            return True
    return False


def _processes() -> Iterator[tuple[int, list[str]]]:
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        fields = _fields(pid)
        if fields:
            yield pid, fields


def _fields(pid: int) -> Optional[list[str]]:
    """/proc/PID/stat from its third field on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def children_seconds() -> float:
    """The processor time of all that this process has started and that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live. For Linux."""
    return [each for each, fields in _processes() if int(fields[1]) == pid]
