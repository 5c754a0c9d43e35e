"""Sending a build's files to the server, before its result: `POST /notify_build_file`."""

from __future__ import annotations

import logging
from typing import Optional

from minici.build import AttemptId
from minici.executor.kept_files import KeptFile, KeptFiles
from minici.reasons import Reason, sentence_of
from minici.thread_pool import for_each
from minici.web.client import Client, Refused

PIECE_BYTES = 1024 * 1024  # at most in one call
SENDERS = 16  # small files on their way at once
_LARGE_SENDERS = 4  # likewise of the others: each has a piece in memory
_CALL_SECONDS = 60.0
_MOST_MOVES = 100  # times that a server may ask for another place of one file
_NO_USE = (404, 410)  # the server keeps no files, or none of this attempt

log = logging.getLogger(__name__)


class FileUpload:
    """The files of one build on their way. What was sent is not sent again by a later `send`.

    A file that an earlier life of the agent has sent is asked for with one call.
    """

    def __init__(self, client: Client, attempt_id: AttemptId, kept: KeptFiles) -> None:
        self._client = client
        self._attempt_id = attempt_id
        self._folder = kept.folder
        self._waiting = {file.path: file for file in kept.files}
        self._given_up = False
        self._refused: list[tuple[str, str]] = []
        self._kept = kept

    def send(self) -> None:
        """Send what the server does not have yet. Raises Failed, and may be called again."""
        waiting = list(self._waiting.values())
        for_each(self._send, [file for file in waiting if not file.is_small], _LARGE_SENDERS)
        for_each(self._send, [file for file in waiting if file.is_small], SENDERS)

    def left_out(self) -> tuple[list[tuple[str, str]], int]:
        """All that is not kept, by path with the reasons, and the number of it."""
        both = [*self._kept.left_out, *self._refused]
        return sorted(both), self._kept.left_count + len(self._refused)

    def _send(self, file: KeptFile) -> None:
        if self._given_up:
            return
        try:
            reason = self._send_pieces(file)
        except OSError as error:
            reason = Reason("file_unreadable", error=error.strerror or str(error))
        if reason:
            log.warning("build %d (attempt %d): %s: %s", *self._attempt_id, file.path, reason)
            self._refused.append((file.path, reason))
        del self._waiting[file.path]

    def _send_pieces(self, file: KeptFile) -> Optional[Reason]:
        """Send one file; return why it can't be kept. Raises Failed, OSError."""
        offset = moves = 0
        buffer = memoryview(bytearray(min(PIECE_BYTES, file.size)))
        with open(self._folder / str(file.number), "rb", buffering=0) as source:
            while not self._given_up:
                source.seek(file.start + offset)
                data = buffer[: source.readinto(buffer[: file.size - offset])]
                end = offset + len(data)
                if not data and end < file.size:
                    raise OSError("it is shorter than it was")
                try:
                    self._client.send(
                        "/notify_build_file", self._query(file, offset, end), data, _CALL_SECONDS
                    )
                except Refused as error:
                    moves += 1
                    following = _asked(error, file.size, offset)
                    if following is None or moves > _MOST_MOVES:
                        return self._refusal(error)
                    offset = following
                    continue
                if end == file.size:
                    break
                offset = end
        return None

    def _query(self, file: KeptFile, offset: int, end: int) -> dict[str, object]:
        number, attempt = self._attempt_id
        last = {"last": 1} if end == file.size else {}
        return {"id": number, "attempt": attempt, "path": file.path, "offset": offset, **last}

    def _refusal(self, error: Refused) -> Optional[Reason]:
        if error.status in _NO_USE:
            self._given_up = True
            log.info("build %d (attempt %d): no use for its files: %s", *self._attempt_id, error)
            return None
        return Reason("file_refused", reason=sentence_of(error))


def _asked(error: Refused, size: int, offset: int) -> Optional[int]:
    """The offset from which the server wants a file, if that is what it says."""
    following = error.data.get("next")
    if error.status != 409 or type(following) is not int or following == offset:
        return None
    return following if 0 <= following <= size else None
