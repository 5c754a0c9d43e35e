"""Running a hook: one program, with a build as JSON on its standard input.

Contract, section 5, rule 18.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

log = logging.getLogger("minici.hooks")

HOOK_SECONDS = 60.0
_OUTPUT_LIMIT = 16 * 1024  # bytes that are kept of what a hook writes
_STOP_CHECK_SECONDS = 0.1
_TIMED_OUT = 124  # as of timeout(1)
_NOT_STARTED = 127  # as of a shell


@dataclass(frozen=True)
class HookResult:
    """The exit status of a hook, and the end of what it wrote. `again`: it will be run again."""

    exit_status: int
    output: str
    again: bool = False


def run_hook(
    words: Sequence[str],
    build: Mapping[str, Any],
    variables: Mapping[str, str],
    stopping: threading.Event,
    inherited: Sequence[int] = (),
    seconds: float = HOOK_SECONDS,
) -> Optional[HookResult]:
    """Run a hook to its end, or for `seconds`, and end all that is left of its process group.

    It has the descriptors `inherited`. Returns None where `stopping` was set before it ended.
    """
    # A file and no pipe: what the hook leaves behind can hold it open and delay nobody.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
        given.write(json.dumps(build, ensure_ascii=False).encode("utf-8", "replace"))
        given.seek(0)
        try:
            process = subprocess.Popen(
                list(words),
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
                cwd="/",
                start_new_session=True,
                pass_fds=inherited,
            )
        except OSError as error:
            return HookResult(_NOT_STARTED, f"{words[0]}: {error.strerror or error}")
        try:
            status = _wait(process, stopping, seconds)
        finally:
            _end_group(process)
        return None if status is None else HookResult(status, _end_of(output))


def _wait(
    process: subprocess.Popen[bytes], stopping: threading.Event, seconds: float
) -> Optional[int]:
    """Return the exit status, that of timeout(1) after `seconds`, or None on `stopping`."""
    deadline = time.monotonic() + seconds
    while not stopping.is_set():
        try:
            return process.wait(min(_STOP_CHECK_SECONDS, max(0.0, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                return _TIMED_OUT
    return None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _end_of(output: Any) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _OUTPUT_LIMIT))
    text: str = output.read(_OUTPUT_LIMIT).decode("utf-8", "replace")
    return text
