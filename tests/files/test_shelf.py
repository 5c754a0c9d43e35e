"""Files on the shelf: what a damaged index or a removed file leaves of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minici.files.shelf import INDEX, BuildFile, FileShelf, LeftOut, file_lines, left_out_lines
from minici.reasons import Reason

FILES = [BuildFile("a", 5, 0), BuildFile("dir/б\udcff", 3, 0, 5), BuildFile("large", 4, 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / INDEX).write_bytes(file_lines(FILES))
    (tmp_path / "0").write_bytes(b"firstabc")
    (tmp_path / "1").write_bytes(b"0123")
    return tmp_path


def test_a_file_is_read_in_parts_wherever_it_begins(folder: Path) -> None:
    shelf = FileShelf(folder)
    assert list(shelf.files.values()) == FILES
    assert all(map(shelf.holds, FILES))
    read = [b"".join(shelf.read(each, 0, each.size)) for each in FILES]
    assert read == [b"first", b"abc", b"0123"]
    assert b"".join(shelf.read(FILES[1], 1, 2)) == b"b"
    assert b"".join(shelf.read(FILES[2], 2, 99)) == b"23"


def test_a_file_that_was_removed_or_cut_is_not_held(folder: Path) -> None:
    (folder / "1").unlink()
    (folder / "0").write_bytes(b"firstab")
    shelf = FileShelf(folder)
    assert [shelf.holds(each) for each in FILES] == [True, False, False]


def test_a_folder_without_an_index_has_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "file" / "none"):
        (tmp_path / "file").touch()
        assert FileShelf(path).files == {}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"path": "x", "bytes": "many", "number": 1}',
        b'{"path": "x", "bytes": 1}',
        b'{"path": "x", "bytes": null, "number": 1}',
        b'{"path": "x", "bytes": -1, "number": 1}',
        b'{"path": "x", "bytes": 1, "number": 1e400}',
        b'{"path": "x", "bytes": 1, "number": 1, "start": -1}',
        b'{"path": "x", "bytes": 99999999999999999999, "number": 1}',
        b'{"path": ["x"], "bytes": 1, "number": 1}',
        b'{"left": "x"}',
        b'{"left": 7, "reason": "x"}',
        b'{"left": "x", "reason": null}',
        b'{"left_count": []}',
    ],
)
def test_an_index_ends_at_a_line_that_is_none(folder: Path, line: bytes) -> None:
    more = file_lines([BuildFile("more", 1, 2)])
    (folder / INDEX).write_bytes(file_lines(FILES) + line + b"\n" + more)
    assert list(FileShelf(folder).files.values()) == FILES


def test_what_was_left_out_keeps_its_reason_in_both_languages(folder: Path) -> None:
    left = [LeftOut("a", Reason("file_over_limit", bytes=7)), LeftOut("b", "in words")]
    with open(folder / INDEX, "ab") as index:
        index.write(left_out_lines(left))
    found = FileShelf(folder).contents.left_out
    assert list(found.values()) == left
    reason = found["a"].reason
    assert isinstance(reason, Reason) and reason.values == {"bytes": 7}
