"""Refs: which have moved, and what starts a build."""

from __future__ import annotations

import random

import pytest

from minici.triggers.patterns import matches
from minici.triggers.refs import IncompleteListing, MovedRef, moved_refs, parse_listing, short_name

A, B, C = "a" * 40, "b" * 40, "c" * 40
MAIN, OLD, V1 = "refs/heads/main", "refs/heads/release/old-1", "refs/tags/v1"


@pytest.mark.parametrize(
    "patterns, name, expected",
    [
        ("main", "main", True),
        ("main", "mainline", False),
        ("main", "xmain", False),
        ("release/*", "release/1/2", True),
        ("*", "a/b/c", True),
        ("release/* !release/old*", "release/old-1", False),
        ("!release/old* release/*", "release/old-1", False),
        ("release/* !release/old*", "release/new", True),
        ("!main", "feature", False),
        ("a.c", "abc", False),
        ("v[1]", "v1", False),
        ("a*b*c", "a//b//c", True),
        ("", "main", False),
        ("*a", "aa", True),
        ("a*a", "a", False),
        ("a*a", "aba", True),
        ("ab*bc", "abc", False),
        ("*b*b*", "ab", False),
        ("**", "x", True),
        ("x*y**z", "x-yy-z", True),
        ("-".join("*" * 12) + "x", "-" * 250, False),  # at once, whatever is pushed
    ],
)
def test_patterns(patterns: str, name: str, expected: bool) -> None:
    assert matches(patterns.split(), name) is expected


def test_the_first_look_starts_nothing() -> None:
    assert moved_refs(None, {MAIN: A}, ["*"], ["*"]) == []


def test_the_first_branch_of_an_empty_repository_is_built() -> None:
    assert moved_refs({}, {MAIN: A}, ["*"], []) == [MovedRef(MAIN, A, "push")]


@pytest.mark.parametrize("before", [{}, {MAIN: B}, {MAIN: C}], ids=["new", "forward", "forced"])
def test_whatever_is_not_where_it_was_is_built(before: dict[str, str]) -> None:
    assert moved_refs(before, {MAIN: A}, ["main"], []) == [MovedRef(MAIN, A, "push")]


def test_what_did_not_move_is_not_built() -> None:
    assert moved_refs({MAIN: A, V1: B}, {MAIN: A, V1: B}, ["*"], ["*"]) == []


def test_a_deleted_branch_is_nothing_and_new_when_it_is_back() -> None:
    assert moved_refs({MAIN: A, OLD: B}, {MAIN: A}, ["*"], []) == []
    assert moved_refs({MAIN: A}, {MAIN: A, OLD: B}, ["*"], []) == [MovedRef(OLD, B, "push")]


def test_branches_and_tags_have_patterns_of_their_own() -> None:
    found = {MAIN: A, V1: B}
    assert moved_refs({}, found, ["*"], []) == [MovedRef(MAIN, A, "push")]
    assert moved_refs({}, found, [], ["v*"]) == [MovedRef(V1, B, "tag")]
    assert [each.ref for each in moved_refs({}, found, ["*"], ["*"])] == [MAIN, V1]


def test_a_listing_is_read() -> None:
    listing = (
        f"{A}\tHEAD\n{A}\t{MAIN}\n{B}\trefs/notes/x\n{B}\trefs/pull/7/head\n"
        f"{B}\t{V1}\n{C}\t{V1}^{{}}\n{B}\trefs/heads/ветка\n"
    )
    assert parse_listing(listing.encode()) == {MAIN: A, V1: C, "refs/heads/ветка": B}
    assert short_name("refs/heads/a/b") == "a/b"


def test_a_listing_that_is_cut_short_is_none() -> None:
    listing = f"{A}\t{MAIN}\n{B}\t{OLD}\n".encode()
    for length in range(1, len(listing)):
        if listing[:length].endswith(b"\n"):
            continue
        with pytest.raises(IncompleteListing):
            parse_listing(listing[:length])
    assert parse_listing(b"") == {}


@pytest.mark.parametrize("seed", range(200))
def test_any_history_of_looks_builds_the_last_place_of_each_ref_once(seed: int) -> None:
    """Whatever moves between two looks, a ref that rests has been built where it is."""
    chance = random.Random(seed)
    names = ["refs/heads/a", "refs/heads/b", "refs/tags/t"]
    refs: dict[str, str] = {}
    remembered: dict[str, str] = {}
    built: dict[str, list[str]] = {name: [] for name in names}
    for _ in range(30):
        for _ in range(chance.randrange(4)):
            name = chance.choice(names)
            if chance.random() < 0.3:
                refs.pop(name, None)
            else:
                refs[name] = chance.choice((A, B, C))
        moved = moved_refs(remembered, refs, ["*"], ["*"])
        for each in moved:
            built[each.ref].append(each.revision)
        assert len({each.ref for each in moved}) == len(moved)
        remembered = dict(refs)
        for name, revision in refs.items():
            assert built[name][-1] == revision
