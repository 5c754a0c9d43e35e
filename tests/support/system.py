"""Waiting for conditions, the environment of processes, and finding those that are left."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Callable, Optional, TypeVar, Union

ROOT = Path(__file__).resolve().parent.parent.parent
CRASH_HOOK = Path(__file__).resolve().parent / "crash"
MARKER = "TEST_MARKER"  # not MINICI_...: commands are given it
FINAL = ("success", "failure", "lost", "cancelled")

# Compiled once for all processes of the tests, and no trace of it in the checkout.
_PYCACHE = tempfile.mkdtemp(prefix="minici-pycache-")
atexit.register(shutil.rmtree, _PYCACHE, ignore_errors=True)

T = TypeVar("T")
Setting = Union[str, int, float, Path]


def wait_for(
    condition: Callable[[], T], within: float = 30.0, what: str = "what was waited for"
) -> T:
    """Return the first true value of `condition`; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within} s (last seen: {value!r})")
        time.sleep(0.02)


def holds_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """For what must not happen: fail at the first moment at which `condition` is not true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what
        time.sleep(0.02)


def environment(
    marker: str, home: Path, more: Optional[Mapping[str, str]] = None
) -> dict[str, str]:
    """What a process of a test is started with: nothing of the person's own settings."""
    names = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT", "COVERAGE_PROCESS_START")
    env = {name: os.environ[name] for name in names if name in os.environ}
    env.update(
        HOME=str(home),
        LANG="C.UTF-8",
        PYTHONPATH=str(ROOT),
        PYTHONPYCACHEPREFIX=_PYCACHE,
        GIT_CONFIG_GLOBAL=os.devnull,
        GIT_CONFIG_NOSYSTEM="1",
    )
    env[MARKER] = marker
    env.update(more or {})
    return env


def marked(marker: str) -> dict[int, str]:
    """The living processes with this marker in their environment: id and command line."""
    wanted = f"{MARKER}={marker}".encode() + b"\0"
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes() + b"\0":
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = line.decode("utf-8", "replace").strip()
        except OSError:
            continue  # it has ended, or is another user's
    found.pop(os.getpid(), None)
    return found


def commands_left(marker: str) -> dict[int, str]:
    """The living processes of a test that are no process of minici's own.

    An agent measures its folders with `du` once it has nothing else to do.
    """
    own = ("minici", "du -skx")
    found = marked(marker).items()
    return {pid: line for pid, line in found if not any(each in line for each in own)}


def render_config(sections: Mapping[str, Mapping[str, Setting]]) -> str:
    lines = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        lines.extend(f"{key} = {value}" for key, value in settings.items())
        lines.append("")
    return "\n".join(lines)
