"""The files of builds for people: one by one, and all as one archive. Section 3 of the contract."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import Optional
from urllib.parse import quote

from minici.build import Build
from minici.files.shelf import BuildFile, FileShelf
from minici.reasons import Reason
from minici.routes.common import ID, as_http, whole
from minici.scheduler.state import State
from minici.timestamps import parse_time
from minici.web.routing import HttpError, Request, Response, Route, serve_range

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)  # of an archive


class FileEndpoints:
    """The files of builds, as routes."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("GET", f"/build/{ID}/files/((?s:.+))", self.file, "people", ()),
            Route("GET", rf"/build/{ID}/files\.tar", self.archive, "people", ()),
        ]

    def file(self, request: Request, number: str, path: str) -> Response:
        """One file, as something to save: no browser runs it."""
        build, shelf = self._asked_for(number)
        found = shelf.files.get(path) if shelf else None
        if shelf is None or found is None or not shelf.holds(found):
            raise HttpError(404, Reason("file_missing", build=build.id, path=path))
        file, source = found, shelf
        response = serve_range(request, file.size, lambda start, end: source.read(file, start, end))
        return _as_attachment(response, "application/octet-stream", path.rpartition("/")[2])

    def archive(self, request: Request, number: str) -> Response:
        """All files of a build, as an archive that is made while it is sent."""
        build, shelf = self._asked_for(number)
        files = [each for each in shelf.files.values() if shelf.holds(each)] if shelf else []
        if shelf is None or not files:
            raise HttpError(404, Reason("no_files", build=build.id))
        finished = parse_time(build.finished_at)
        modified = int(finished.timestamp()) if finished else 0
        length = len(_END) + sum(len(_head(each, modified)) + _padded(each.size) for each in files)
        response = Response(200, _archive(shelf, files, modified), length=length)
        return _as_attachment(response, "application/x-tar", f"build-{build.id}-files.tar")

    def _asked_for(self, number: str) -> tuple[Build, Optional[FileShelf]]:
        """A build and its files; None while it has none."""
        with as_http():
            build = whole(self._state.load(int(number)))
            return build, self._state.store.files(build) if build.file_count else None


def _archive(shelf: FileShelf, files: Sequence[BuildFile], modified: int) -> Iterator[bytes]:
    for file in files:
        yield _head(file, modified)
        yield from shelf.read(file, 0, file.size)
        yield bytes(_padded(file.size) - file.size)
    yield _END


def _head(file: BuildFile, modified: int) -> bytes:
    entry = tarfile.TarInfo(file.path)
    entry.size, entry.mtime, entry.mode = file.size, modified, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    """A size up to the end of its last block."""
    return -(-size // _BLOCK) * _BLOCK


def _as_attachment(response: Response, kind: str, name: str) -> Response:
    plain = re.sub(r"[^ !#-\[\]-~]|[%/]", "_", name)
    response.content_type = kind
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "no-cache"
    return response
