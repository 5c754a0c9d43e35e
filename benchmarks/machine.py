"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.ground import ROOT


def describe(folder: Path) -> dict[str, Any]:
    """The machine and the versions; `folder` is where files are written."""
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "processor": _processor(),
        "memory_mib": _memory() // 2**20,
        "load": round(os.getloadavg()[0], 2),
        "fsync_ms": round(_fsync(folder), 3),
        "python": sys.version.split()[0],
        "git": _said("git", "--version").replace("git version ", ""),
        "minici": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _fsync(folder: Path) -> float:
    """The milliseconds that an fsync of a short new file takes."""
    path, found = folder / "fsync", []
    for _ in range(50):
        with open(path, "wb") as file:
            file.write(b"x" * 1024)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            found.append(1000 * (time.perf_counter() - begun))
        path.unlink()
    return statistics.median(found)


def _said(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
