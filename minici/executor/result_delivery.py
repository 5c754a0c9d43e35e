"""Delivering an agent's results to the server, for as long as it takes.

Section 5 of the contract, rule 10: which answers end a delivery, and which are worth another try.
"""

from __future__ import annotations

import errno
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import BinaryIO, Optional, cast
from urllib.parse import urlencode

from minici import reasons
from minici.build import STREAMS
from minici.executor.file_upload import FileUpload
from minici.executor.inventory import Inventory
from minici.executor.kept_files import left_out_json, read_kept_files
from minici.executor.outbox import Outbox, PendingResult
from minici.executor.output_streamer import PIECE_BYTES, Segment, Superseded, send_piece
from minici.executor.retry_loop import RetryLoop
from minici.output.checkout_log import CHECKOUT, CheckoutLog
from minici.output.writer import OutputWriter
from minici.validation import MOST_NAMED_FILES
from minici.web.client import Client, Failed, Refused

_FORM_BYTES = 256 * 1024  # bytes of output that need no calls of their own
_MOST_SEGMENTS = 200
_MEMORY_BYTES = 1024 * 1024  # bytes of a form; a larger one is sent from a file
_TIMELINE_RECORDS = 10_000  # a longer timeline is left out
_RESULT_SECONDS = 30.0  # the server answers when a result is on its disk
_MOST_MOVES = 5  # times that a server may ask for another place to begin from
_TEMPORARY_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_SETTLED_STATUSES = (404, 410)  # the server has no use for the result
_UNQUOTED = bytes(sorted(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"))

log = logging.getLogger(__name__)


class ResultDelivery:
    """Delivers in order, one after the other, in a thread of its own. `files` is the client that
    sends files."""

    def __init__(self, client: Client, files: Client, inventory: Inventory, outbox: Outbox) -> None:
        self._client = client
        self._files = files
        self._upload: Optional[tuple[PendingResult, FileUpload]] = None
        self._inventory = inventory
        self._outbox = outbox
        self._complaint = ""
        self._loop = RetryLoop("delivery", self._deliver_next, self._complain)

    def start(self) -> None:
        self._loop.start()

    def hurry(self) -> None:
        """Try again now: the server is there again."""
        self._loop.hurry()

    def _deliver_next(self) -> float:
        self._bring(self._inventory.next_undelivered())
        return 0.0

    def _complain(self, error: Exception) -> None:
        complaint = str(error) if isinstance(error, Failed) else repr(error)
        if complaint != self._complaint:
            text = "build %d (attempt %d): its result is kept and sent again, for it failed: %s"
            log.warning(text, *self._inventory.next_undelivered().attempt_id, complaint)
            self._complaint = complaint

    def _bring(self, pending: PendingResult) -> None:
        try:
            self._send(pending)
        except Refused as error:
            if error.status in _SETTLED_STATUSES:
                log.info("build %d (attempt %d): the server has no use for it", *pending.attempt_id)
            else:
                self._set_aside(pending, f"the server refused its result: {error}")
        except OSError as error:
            if error.errno in _TEMPORARY_ERRORS:
                raise Failed(f"{error.strerror} on this host") from None
            self._set_aside(pending, f"its result can't be read: {error}")
        else:
            log.info("build %d (attempt %d): its result is delivered", *pending.attempt_id)
        self._complaint = ""
        self._outbox.discard(pending.folder)
        self._inventory.settle(pending)

    def _set_aside(self, pending: PendingResult, why: str) -> None:
        folder = self._outbox.set_aside(pending)
        log.error("build %d (attempt %d): set aside in %s: %s", *pending.attempt_id, folder, why)

    def _send(self, pending: PendingResult) -> None:
        self._send_checkout(pending)
        offsets = self._send_output(pending)
        more = self._send_files(pending)
        for _ in range(_MOST_MOVES):
            try:
                with tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(pending.folder)) as file:
                    body = cast(BinaryIO, file)
                    length = write_form(body, pending, offsets, more)
                    self._client.post_form("/notify_build_result", body, length, _RESULT_SECONDS)
                return
            except Refused as error:
                asked = _asked(error)
                if asked is None:
                    raise
                offsets = asked
        raise Failed("the server asks for the output from ever other places")

    def _send_files(self, pending: PendingResult) -> dict[str, object]:
        """Send the files of a build; return what the result says of those that are left out."""
        if self._upload is None or self._upload[0] is not pending:
            kept = read_kept_files(pending.folder)
            self._upload = (pending, FileUpload(self._files, pending.attempt_id, kept))
        upload = self._upload[1]
        upload.send()
        left_out, count = upload.left_out()
        if not count:
            return {}
        names = json.dumps(left_out_json(left_out[:MOST_NAMED_FILES]))
        return {"files_left_out": count, "files_left_out_names": names}

    def _send_checkout(self, pending: PendingResult) -> None:
        """Send what is left of the text of git; a server that takes none of it goes without."""
        offset = pending.sent.get(CHECKOUT, 0)
        with CheckoutLog(pending.folder) as text, suppress(Superseded):
            segment = Segment(CHECKOUT, text.total, 0.0)
            for _ in range(_MOST_MOVES):
                rest = b"".join(block for block, _ in text.follow(offset))
                following: Optional[int] = offset
                while rest and following == offset:
                    piece, rest = rest[:PIECE_BYTES], rest[PIECE_BYTES:]
                    following = send_piece(self._client, pending.attempt_id, segment, offset, piece)
                    offset += len(piece)
                if following is None or following == offset:
                    return
                offset = following

    def _send_output(self, pending: PendingResult) -> Mapping[str, int]:
        """Send much output as it is, for a form makes up to three bytes of one; return what the
        server has then. What the agent itself has cut goes with the result. Raises Failed."""
        sent = dict(pending.sent)
        with OutputWriter(pending.folder, pending.output_limit) as output:
            whole = {s for s in STREAMS if output.total(s) <= pending.output_limit}
            if sum(output.total(s) - sent.get(s, 0) for s in whole) <= _FORM_BYTES:
                return sent
            for segment in (each for each in _segments(output, sent) if each.stream in whole):
                try:
                    if not self._send_segment(pending, output, segment, sent):
                        break
                except Superseded:
                    break
        return sent

    def _send_segment(
        self, pending: PendingResult, output: OutputWriter, segment: Segment, sent: dict[str, int]
    ) -> bool:
        """Send a segment from where the server has it; False if the server takes no pieces."""
        gaps = 0
        while sent.get(segment.stream, 0) < segment.end and gaps < _MOST_MOVES:
            offset = sent.get(segment.stream, 0)
            data = output.read(segment.stream, offset, min(PIECE_BYTES, segment.end - offset))
            if not data:
                raise OSError(f"{segment.stream} is shorter than its timeline says")
            following = send_piece(self._client, pending.attempt_id, segment, offset, data)
            if following is None:
                return False
            gaps += following != offset + len(data)
            sent[segment.stream] = following
        return gaps < _MOST_MOVES


def _segments(output: OutputWriter, sent: Mapping[str, int]) -> list[Segment]:
    """The output that is not sent yet, in the order in which it came; stream after stream, if that
    would take too many calls."""
    reached = {stream: sent.get(stream, 0) for stream in STREAMS}
    found: list[Segment] = []
    for *ends, milliseconds in output.timeline():
        for stream, end in zip(STREAMS, ends):
            if end <= reached[stream]:
                continue
            reached[stream] = end
            if found and found[-1].stream == stream:
                found[-1].end = end
            else:
                found.append(Segment(stream, end, milliseconds / 1000))
        if len(found) > _MOST_SEGMENTS:
            return [Segment(s, output.total(s), milliseconds / 1000) for s in STREAMS]
    return found


def reason_params(reason: Optional[str]) -> dict[str, Optional[str]]:
    """The parameters that tell a reason: as a sentence, and as a key with values if it has them."""
    key, values = reasons.to_json(reason)
    encoded = None if key is None else json.dumps(values, ensure_ascii=False)
    return {"reason": reason, "reason_key": key, "reason_values": encoded}


def write_form(
    body: BinaryIO,
    pending: PendingResult,
    offsets: Mapping[str, int],
    more: Mapping[str, object],
) -> int:
    """Write the form of a result, with each stream from its offset on; return its length.

    `more` are further parameters.

    Leaves the file at its beginning. Memory does not grow with the output.
    """
    result = pending.result
    params = {
        "id": pending.attempt_id.build,
        "attempt": pending.attempt_id.attempt,
        "status": result.exit_status,
        **reason_params(result.reason),
        "revision": result.revision,
        "subject": result.subject,
        "author": result.author,
        "author_email": result.author_email,
        **more,
    }
    body.write(urlencode({k: v for k, v in params.items() if v is not None}).encode("ascii"))
    with OutputWriter(pending.folder, pending.output_limit) as output:
        for stream in STREAMS:
            known = min(offsets.get(stream, 0), output.total(stream))
            start, _, blocks = output.rest(stream, known)
            body.write(b"&%s_offset=%d&%s=" % (stream.encode(), start, stream.encode()))
            for block in blocks:
                body.write(quote(block))
        body.write(_timeline(output))
    length = body.tell()
    body.seek(0)
    return length


def quote(data: bytes) -> bytes:
    """Percent-encode bytes for a form; `urllib.parse` takes a second for some megabytes."""
    special = set(data.translate(None, _UNQUOTED))
    if b"%"[0] in special:
        data = data.replace(b"%", b"%25")
    for byte in special - {b"%"[0]}:
        data = data.replace(bytes([byte]), b"%%%02X" % byte)
    return data


def _timeline(output: OutputWriter) -> bytes:
    """The field that says which bytes came when, if it is short enough to be worth it."""
    records = list(zip(range(_TIMELINE_RECORDS + 1), output.timeline()))
    if len(records) > _TIMELINE_RECORDS:
        return b""
    return b"&timeline=" + quote(b"".join(_lines(record for _, record in records)))


def _lines(records: Iterable[tuple[int, int, int]]) -> Iterator[bytes]:
    before = (0, 0)
    for stdout, stderr, milliseconds in records:
        for letter, size in ((b"o", stdout - before[0]), (b"e", stderr - before[1])):
            if size:
                yield b"%s %d %d.%03d\n" % (letter, size, *divmod(milliseconds, 1000))
        before = (stdout, stderr)


def _asked(error: Refused) -> Optional[dict[str, int]]:
    """The offsets from which the server wants the streams, if that is what it says."""
    offsets = {stream: error.data.get(stream) for stream in STREAMS}
    known = {stream: at for stream, at in offsets.items() if type(at) is int and at >= 0}
    return known if error.status == 409 and len(known) == len(STREAMS) else None
