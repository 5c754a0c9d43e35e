"""Following a build: its output on stdout and stderr as it comes, then its exit status."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

from minici.cli.client import Build, Client
from minici.cli.connection import NoAnswer, ServerError
from minici.cli.terminal import Progress, duration, plain, status_text

SUCCESS, FAILURE, USAGE, LOST, CANCELLED, NO_ANSWER, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_STATUS = {"success": SUCCESS, "failure": FAILURE, "lost": LOST, "cancelled": CANCELLED}
_NO_CHECKOUT = (None, 128)  # exit statuses of a build that could not be checked out
_LOOK_SECONDS = 1.0


def follow(client: Client, number: int) -> int:
    """Show a build from its beginning to its end; return its status as exit status."""
    progress = Progress()
    waiting = _Waiting(client, number, progress)
    checkout: list[str] = []
    try:
        for event in client.follow(number, waiting.say):
            if event.kind == "output":
                text = str(event.data.get("text", ""))
                if event.data.get("stream") == "checkout":
                    checkout.append(text)
                    waiting.note(text)
                else:
                    waiting.stop()
                    _write(str(event.data.get("stream")), text)
            elif event.kind == "attempt":
                checkout.clear()
                waiting.say(f"attempt {event.data.get('attempt')} begins; its output is new")
            elif event.kind == "status":
                waiting.stop()
                return _end(event.data, checkout, progress)
    finally:
        waiting.stop()
    raise NoAnswer(f"the stream of build {number} ended without a status")


def summary(build: Build) -> str:
    """A build's end in one line."""
    took = duration(build.get("started_at"), build.get("finished_at"))
    text = f"build {build['id']}: {status_text(sys.stderr, build['status'])}"
    if took:
        text += f" in {took}"
    return text + (f": {plain(build['reason'])}" if build.get("reason") else "")


def _end(build: Build, checkout: list[str], progress: Progress) -> int:
    """Say how a build has ended, after what git wrote where that has ended it."""
    status = str(build["status"])
    wrote = build.get("stdout_bytes") or build.get("stderr_bytes")
    if status == "failure" and build.get("exit_status") in _NO_CHECKOUT and not wrote:
        _write("stderr", "".join(checkout).replace("\r", "\n"))
    progress.say(summary(build))
    return EXIT_STATUS.get(status, FAILURE)


def _write(stream: str, text: str) -> None:
    out: Any = sys.stderr if stream == "stderr" else sys.stdout
    out.flush()
    out.buffer.write(text.encode("utf-8", "replace"))
    out.flush()


class _Waiting:
    """The line of progress before a build's first output, kept up to date by a thread."""

    def __init__(self, client: Client, number: int, progress: Progress) -> None:
        self._client = client
        self._number = number
        self._progress = progress
        self._lock = threading.Lock()  # guards the terminal and the next
        self._stopped = threading.Event()
        self._checkout = ""  # the newest line of git's that has come since the last look
        if progress.live:
            threading.Thread(target=self._run, name="progress", daemon=True).start()

    def stop(self) -> None:
        """Take the line away, for good."""
        with self._lock:
            self._stopped.set()
            self._progress.clear()

    def say(self, text: str) -> None:
        with self._lock:
            self._progress.say(text)

    def note(self, text: str) -> None:
        """Remember the last line that git wrote."""
        lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
        if lines:
            self._checkout = f"checking out: {lines[-1].strip()}"
            self._show(self._checkout)

    def _show(self, text: str) -> None:
        with self._lock:
            if not self._stopped.is_set():
                self._progress.show(f"build {self._number}: {text}")

    def _run(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(NoAnswer, ServerError):  # the one who follows says so
                self._show(self._described(self._client.build(self._number)))
            self._stopped.wait(_LOOK_SECONDS)

    def _described(self, build: Build) -> str:
        """The reason for which the build has written nothing yet."""
        if build["status"] == "queued":
            return str(build.get("waiting") or "in the queue")
        git_said, self._checkout = self._checkout, ""
        return git_said or "running, without output yet"
