"""Results on an agent's disk, made for tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Optional
from urllib.parse import parse_qs

from minici.build import STDERR, STDOUT, AttemptId, Result
from minici.executor.outbox import Outbox, PendingResult
from minici.executor.result_delivery import write_form
from minici.output.writer import OutputWriter

SUCCESS = Result(exit_status=0, revision="a" * 40, subject="Ünï & co", author="Ада")


def finished(
    outbox: Outbox,
    attempt_id: tuple[int, int] = (1, 1),
    stdout: bytes = b"",
    stderr: bytes = b"",
    result: Result = SUCCESS,
    limit: int = 1000,
    sent: Optional[dict[str, int]] = None,
) -> PendingResult:
    folder = outbox.begin(AttemptId(*attempt_id))
    with OutputWriter(folder, limit) as output:
        output.append(STDOUT, stdout, 0.1)
        output.append(STDERR, stderr, 0.2)
    return outbox.add(folder, AttemptId(*attempt_id), result, limit, sent or {STDOUT: 0, STDERR: 0})


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))


def form(entry: PendingResult, offsets: Optional[dict[str, int]] = None) -> dict[str, bytes]:
    body = io.BytesIO()
    length = write_form(body, entry, offsets or {}, {})
    text = body.read()
    assert len(text) == length
    fields = parse_qs(text.decode("ascii"), keep_blank_values=True, encoding="latin-1")
    return {name: values[0].encode("latin-1") for name, values in fields.items()}
