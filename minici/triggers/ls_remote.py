"""Asking a repository for its refs: `git ls-remote`, with a time limit. Nothing is fetched."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from typing import IO, Optional

from minici.reasons import Reason
from minici.validation import public

LOOK_SECONDS = 60.0
_LISTING_LIMIT = 256 * 1024 * 1024  # bytes
_MESSAGES_LIMIT = 64 * 1024  # bytes
_BLOCK = 1024 * 1024
_STOP_CHECK_SECONDS = 0.1
_OPTIONS = (
    *("-c", "protocol.ext.allow=never", "-c", "protocol.fd.allow=never"),
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
    *("-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60"),
)
# The server alone holds the other end of standard input: when it dies, that ends git's group, which
# might wait for the repository for ever.
_UNTIL_SERVER_ENDS = """
exec 3<&0 </dev/null
(read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &
exec "$@" 3<&-
"""
_ENVIRONMENT = {
    "LC_ALL": "C",  # its messages are part of English sentences
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
}


class LookFailed(Exception):
    """A repository did not list its refs; the text is a Reason."""


def list_refs(repository: str, stopping: threading.Event, seconds: float = LOOK_SECONDS) -> bytes:
    """Return what `git ls-remote` prints of a repository's branches and tags.

    Takes at most `seconds`, and ends early once `stopping` is set, or when this process is killed.
    Raises LookFailed.
    """
    words = ["git", *_OPTIONS, "ls-remote", "--heads", "--tags", "--end-of-options", repository]
    try:
        if not shutil.which(words[0]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        process = subprocess.Popen(
            ["/bin/sh", "-c", _UNTIL_SERVER_ENDS, "sh", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise LookFailed(Reason("git_not_started", error=error.strerror or str(error))) from None
    with process:
        listing, messages = bytearray(), bytearray()
        readers = [
            _reader(process.stdout, listing, _LISTING_LIMIT),
            _reader(process.stderr, messages, _MESSAGES_LIMIT),
        ]
        ended = _await(process, stopping, time.monotonic() + seconds)
        _end_group(process)
        for reader in readers:
            reader.join()
    if len(listing) == _LISTING_LIMIT:
        raise LookFailed(Reason("look_too_long", mebibytes=_LISTING_LIMIT // 2**20))
    if not ended:
        raise LookFailed(Reason("look_timed_out", seconds=round(seconds, 1)))
    if process.returncode != 0:
        raise LookFailed(_complaint(process.returncode, bytes(messages)))
    return bytes(listing)


def _environment() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, **_ENVIRONMENT}


def _reader(stream: Optional[IO[bytes]], into: bytearray, limit: int) -> threading.Thread:
    """Start a thread that reads a pipe to its end and keeps its first `limit` bytes."""

    assert stream is not None
    descriptor = stream.fileno()

    def read() -> None:
        while True:
            block = os.read(descriptor, _BLOCK)
            if not block:
                return
            into.extend(block[: max(0, limit - len(into))])

    thread = threading.Thread(target=read, name="ls-remote", daemon=True)
    thread.start()
    return thread


def _await(process: subprocess.Popen[bytes], stopping: threading.Event, deadline: float) -> bool:
    """Wait for the end of a process; False where the time is over or the server stops."""
    while not stopping.is_set() and time.monotonic() < deadline:
        try:
            process.wait(_STOP_CHECK_SECONDS)
            return True
        except subprocess.TimeoutExpired:
            continue
    return process.poll() is not None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what git has started (ssh, for example): it may hold the pipes open."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _complaint(status: int, messages: bytes) -> Reason:
    lines = [line.strip() for line in messages.decode("utf-8", "replace").splitlines()]
    fatal = [line for line in lines if line.startswith(("fatal: ", "error: ", "ERROR: "))]
    said = (fatal[:1] or [line for line in lines if line][-1:] or [""])[0]
    if not said:
        return Reason("git_status", status=status)
    return Reason("git_said", message=public(said.partition(": ")[2] if fatal else said))
