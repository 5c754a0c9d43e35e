"""Snapshots: what comes into a working tree or goes is seen, however soon after."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Callable, Optional

import pytest

from minici.checkout import tree_snapshot
from minici.checkout.tree_snapshot import TreeSnapshot


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    index(tree).parent.mkdir()
    index(tree).write_text("what is there")
    for name in (".git/refs", "folder/deep/deeper", "other"):
        (tree / name).mkdir(parents=True)
    for name in ("file", "folder/file", "folder/deep/deeper/file", "other/file"):
        (tree / name).write_text(name)
    return tree


def index(tree: Path) -> Path:
    return tree.with_suffix(".git") / "index"


def taken(tree: Path, before: Optional[TreeSnapshot] = None) -> TreeSnapshot:
    snapshot = TreeSnapshot.of(tree, index(tree), before)
    assert snapshot is not None
    return snapshot


def replaced_by_a_copy(tree: Path) -> None:
    shutil.copytree(tree / "folder", tree.parent / "copy", dirs_exist_ok=True)
    shutil.rmtree(tree / "folder")
    (tree.parent / "copy").rename(tree / "folder")


def dated_as_before(tree: Path) -> None:
    """What a command can do to hide it, once the clock has gone on."""
    folder = tree / "other"
    before = folder.stat()
    while folder.stat().st_ctime_ns == before.st_ctime_ns:
        (folder / "left").touch()
        (folder / "gone").touch()
        (folder / "gone").unlink()
        os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file comes": lambda tree: (tree / "left").touch(),
    "a file comes deep down": lambda tree: (tree / "folder/deep/deeper/left").touch(),
    "a file goes": lambda tree: (tree / "other/file").unlink(),
    "a file comes and goes": lambda tree: [(tree / "x").touch(), (tree / "x").unlink()],
    "a name changes": lambda tree: (tree / "other/file").rename(tree / "other/File"),
    "an empty folder": lambda tree: (tree / "folder/deep/empty").mkdir(),
    "another's git": lambda tree: (tree / "other/.git").mkdir(),
    "a folder goes": lambda tree: shutil.rmtree(tree / "other"),
    "a folder moves": lambda tree: (tree / "other").rename(tree / "folder/other"),
    "a link for a folder": lambda tree: [
        (tree / "other").rename(tree.parent / "other"),
        (tree / "other").symlink_to(tree.parent / "other"),
    ],
    "a copy for a folder": replaced_by_a_copy,
    "a folder for a file": lambda tree: [(tree / "file").unlink(), (tree / "file").mkdir()],
    "a file for a folder": lambda tree: [shutil.rmtree(tree / "other"), (tree / "other").touch()],
    "a date as before": dated_as_before,
    "a mode": lambda tree: (tree / "other").chmod(0o700),
    "nothing is left": shutil.rmtree,
    "another index": lambda tree: index(tree).write_text("What is there"),
    "no index": lambda tree: index(tree).unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_comes_or_goes_makes_a_snapshot_old(
    tree: Path, change: Callable[[Path], object]
) -> None:
    snapshot = taken(tree)
    assert snapshot.is_current()
    change(tree)
    assert not snapshot.is_current()


def test_no_change_is_too_quick_to_be_seen(tree: Path) -> None:
    """Between two ticks of the kernel's clock, times stay what they are."""
    for number in range(300):
        (tree / "other" / f"checked-out-{number}").touch()
        snapshot = taken(tree)
        (tree / "other" / f"left-{number}").touch()
        assert not snapshot.is_current(), number


def test_a_clock_that_stands_still(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many kernels' does for some milliseconds: here it is as if for half an hour."""
    look, utime, tick = tree_snapshot._look, os.utime, 1800 * 10**9
    dated: dict[str, tuple[int, int]] = {}  # by hand, until the next change

    def date(path: str, ns: tuple[int, int]) -> None:
        utime(path, ns=ns)
        dated[path] = (look(path).changed, ns[1])

    def coarse(path: str) -> tree_snapshot._Place:
        found = look(path)
        changed, by_hand = dated.get(path, (0, 0))
        date = by_hand if changed == found.changed else found.dated // tick * tick
        return found._replace(changed=found.changed // tick * tick, dated=date)

    monkeypatch.setattr(os, "utime", date)
    monkeypatch.setattr(tree_snapshot, "_look", coarse)
    snapshot = taken(tree)
    assert snapshot.is_current()
    (tree / "other/left").write_text("left")
    assert not snapshot.is_current()


def test_what_stands_in_files_is_gits_affair(tree: Path) -> None:
    snapshot = taken(tree)
    (tree / "file").write_text("changed")
    (tree / "other/file").chmod(0o700)
    (tree / ".git/refs/left").touch()
    assert snapshot.is_current()


def test_a_snapshot_after_another_reads_what_has_changed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = taken(tree)
    (tree / "other/new/inner").mkdir(parents=True)
    read: list[str] = []
    folders_in = tree_snapshot._folders_in
    monkeypatch.setattr(tree_snapshot, "_counts_folders", lambda tree: False)
    monkeypatch.setattr(
        tree_snapshot, "_folders_in", lambda path: [read.append(path), *folders_in(path)][1:]
    )
    second = taken(tree, first)
    assert second.is_current() and not first.is_current()
    assert sorted(read) == [str(tree / "other" / name) for name in (".", "new", "new/inner")]
    (tree / "other/new/inner/left").touch()
    assert not second.is_current()


def test_a_file_system_that_does_not_count_folders(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some say of each folder that it has one name, or two: then each is read."""
    look = tree_snapshot._look
    for names in (1, 2):
        monkeypatch.setattr(
            tree_snapshot, "_look", lambda path, n=names: look(path)._replace(names=n)
        )
        snapshot = taken(tree)
        (tree / f"folder/deep/deeper/left-{names}").touch()
        assert not snapshot.is_current()


def test_a_file_system_that_keeps_no_dates(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "utime", lambda *_, **__: None)
    assert TreeSnapshot.of(tree, index(tree)) is None


def test_a_file_system_that_counts_in_seconds(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is long enough to put back what a date was."""
    utime = os.utime
    monkeypatch.setattr(os, "utime", lambda path, ns: utime(path, tuple(n // 10**9 for n in ns)))
    assert TreeSnapshot.of(tree, index(tree)) is None


@pytest.mark.parametrize("date", [-(2**63) // 10**9, 2**33])
def test_folders_of_another_time(tree: Path, date: int) -> None:
    """Long ago, or to come: where such a date can be set, no snapshot is wrongly current."""
    with suppress(OSError, OverflowError):
        os.utime(tree / "other", (date, date))
    snapshot = TreeSnapshot.of(tree, index(tree))
    (tree / "other/left").touch()
    assert snapshot is None or not snapshot.is_current()


def test_a_date_that_is_none(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tmpfs keeps one from before all that Python can set."""

    def refuse(path: str, ns: tuple[int, int]) -> None:
        raise OverflowError("timestamp out of range for platform time_t")

    monkeypatch.setattr(os, "utime", refuse)
    assert TreeSnapshot.of(tree, index(tree)) is None


def test_another_file_system_in_a_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = tree_snapshot._look

    def mounted(path: str) -> tree_snapshot._Place:
        found = look(path)
        return found._replace(device=-1) if path.endswith("/deep") else found

    monkeypatch.setattr(tree_snapshot, "_look", mounted)
    assert TreeSnapshot.of(tree, index(tree)) is None


def test_a_tree_that_is_gone(tmp_path: Path) -> None:
    assert TreeSnapshot.of(tmp_path / "none", tmp_path) is None


def test_random_changes(tree: Path) -> None:
    """Whatever changes, in whatever order, a snapshot is old exactly if a name came or went."""
    number = random.randrange(10**6)
    print("seed", number)
    chance = random.Random(number)
    snapshot = taken(tree)
    for _ in range(300):
        before, folders = names(tree), [path for path in tree.rglob("*") if path.is_dir()]
        folders = [path for path in folders if ".git" not in path.parts]
        path = chance.choice([tree, *folders]) / chance.choice("abcd")
        if chance.random() < 0.3:
            (tree / "file").write_text(str(number))
        elif path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            chance.choice([path.touch, path.mkdir])()
        assert snapshot.is_current() == (names(tree) == before)
        snapshot = taken(tree, snapshot)
        assert snapshot.is_current()


def names(tree: Path) -> set[Path]:
    return set(tree.rglob("*"))
