"""Files as they come: in order or not, twice, past the limit, and after a crash."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from minici.files import incoming
from minici.files.incoming import Closed, FileGap, FileLeftOut, IncomingFiles
from minici.files.shelf import INDEX, FileShelf, LeftOut
from minici.reasons import Reason

LARGE = incoming.SMALL_BYTES + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "builds").mkdir()
    return tmp_path / "builds" / "files"


def contents(folder: Path) -> dict[str, bytes]:
    shelf = FileShelf(folder)
    return {path: b"".join(shelf.read(file, 0, file.size)) for path, file in shelf.files.items()}


def test_pieces_make_a_file_once_the_last_has_come(folder: Path) -> None:
    files = IncomingFiles(folder, 1000)
    assert files.add("a/b", 0, b"one ", False) == 4
    assert contents(folder) == {}
    assert files.add("a/b", 4, b"two", True) == 7
    assert files.add("empty", 0, b"", True) == 0
    assert contents(folder) == {"a/b": b"one two", "empty": b""}


@pytest.mark.parametrize(("offset", "have"), [(5, 4), (3, 4), (0, 4), (10**18, 4)])
def test_a_gap_or_an_overlap_says_where_to_go_on(folder: Path, offset: int, have: int) -> None:
    files = IncomingFiles(folder, 1000)
    files.add("a", 0, b"0123", False)
    with pytest.raises(FileGap) as gap:
        files.add("a", offset, b"x", True)
    assert gap.value.have == have
    files.add("a", 4, b"4", True)
    assert contents(folder) == {"a": b"01234"}


@pytest.mark.parametrize("size", [3, LARGE])
def test_the_last_piece_again_changes_nothing(folder: Path, size: int) -> None:
    files = IncomingFiles(folder, 10**6)
    data = b"x" * size
    assert files.add("a", 0, data, True) == size
    assert files.add("a", 0, data, True) == size
    for offset, piece, last in ((0, data, False), (0, b"other", True), (size, b"y", True)):
        with pytest.raises(FileGap) as gap:
            files.add("a", offset, piece, last)
        assert gap.value.have == size
    assert contents(folder) == {"a": data}


def test_a_file_past_the_limit_is_left_out_and_others_have_its_room(folder: Path) -> None:
    files = IncomingFiles(folder, 10)
    files.add("a", 0, b"12345", True)
    files.add("large", 0, b"1234", False)
    for offset in (4, 0):
        with pytest.raises(FileLeftOut, match="10 bytes"):
            files.add("large", offset, b"56", True)
    assert files.add("b", 0, b"12345", True) == 5
    with pytest.raises(FileLeftOut):
        files.add("c", 0, b"1", True)
    assert files.close() == (2, 2)
    shelf = FileShelf(folder)
    assert set(shelf.files) == {"a", "b"} and set(shelf.contents.left_out) == {"large", "c"}


def test_one_too_many_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MOST_FILES", 2)
    files = IncomingFiles(folder, 10)
    files.add("a", 0, b"a", True)
    files.add("b", 0, b"b", False)
    with pytest.raises(FileLeftOut):
        files.add("c", 0, b"c", True)
    files.add("b", 1, b"b", True)
    assert contents(folder) == {"a": b"a", "b": b"bb"}


def test_a_restarted_server_has_whole_files_and_forgets_parts(folder: Path) -> None:
    files = IncomingFiles(folder, 10**6)
    files.add("small", 0, b"small", True)
    files.add("large", 0, b"x" * LARGE, True)
    files.add("part", 0, b"part", False)
    again = IncomingFiles(folder, 10**6)
    with pytest.raises(FileGap) as gap:
        again.add("part", 4, b"more", True)
    assert gap.value.have == 0
    again.add("part", 0, b"whole", True)
    assert contents(folder) == {"small": b"small", "large": b"x" * LARGE, "part": b"whole"}
    assert {path.name for path in folder.iterdir()} == {INDEX, "0", "2"}


def test_an_index_that_was_cut_anywhere_has_the_files_before(folder: Path) -> None:
    files = IncomingFiles(folder, 100)
    for name in ("a", "b", "c"):
        files.add(name, 0, name.encode(), True)
    whole = (folder / INDEX).read_bytes()
    for cut in range(len(whole)):
        (folder / INDEX).write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        again = IncomingFiles(folder, 100)
        assert list(contents(folder)) == ["a", "b", "c"][:kept], cut
        again.add("new", 0, b"new", True)
        assert list(contents(folder)) == [*["a", "b", "c"][:kept], "new"], cut


def test_after_the_result_nothing_is_taken(folder: Path) -> None:
    files = IncomingFiles(folder, 100)
    files.add("a", 0, b"a", True)
    files.add("part", 0, b"part", False)
    left = LeftOut("link", Reason("file_over_limit", bytes=1))
    assert files.close([left, LeftOut("a", "it is here")], left_count=7) == (1, 7)
    with pytest.raises(Closed):
        files.add("part", 4, b"", True)
    assert files.close() == (1, 7)
    shelf = FileShelf(folder)
    assert set(shelf.files) == {"a"} and shelf.contents.left_out == {"link": left}
    assert {path.name for path in folder.iterdir()} == {INDEX, "0"}


def test_many_at_once(folder: Path) -> None:
    files = IncomingFiles(folder, 10**7)
    expected = {f"{n}": b"%d" % n * (LARGE if n % 7 == 0 else n) for n in range(1, 60)}

    def bring(paths: list[str]) -> None:
        for path in paths:
            files.add(path, 0, expected[path], True)

    names = list(expected)
    threads = [threading.Thread(target=bring, args=(names[n::6],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(folder) == expected


def test_an_index_that_can_not_be_written_acknowledges_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = IncomingFiles(folder, 100)
    with monkeypatch.context() as patch:
        patch.setattr(incoming, "file_lines", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            files.add("a", 0, b"a", True)
    assert contents(folder) == {}
    assert files.add("a", 0, b"a", True) == 1
    assert contents(folder) == {"a": b"a"}
