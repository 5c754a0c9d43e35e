"""Patterns of branches and tags: `main release/* !release/old*`. Pure.

Contract, section 2, the project keys `branches` and `tags`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def matches(patterns: Sequence[str], name: str) -> bool:
    """Return whether a pattern matches the name and none with `!` does.

    `*` matches any characters, `/` included.
    """
    wanted = (each for each in patterns if not each.startswith("!"))
    excluded = (each[1:] for each in patterns if each.startswith("!"))
    return _any_matches(wanted, name) and not _any_matches(excluded, name)


def _any_matches(patterns: Iterable[str], name: str) -> bool:
    return any(_matches(each, name) for each in patterns)


def _matches(pattern: str, name: str) -> bool:
    """In time that grows with the name, unlike a regular expression's: anybody may push a name."""
    first, *others = pattern.split("*")
    if not others:
        return name == first
    last = others.pop()
    end = len(name) - len(last)
    if not (name.startswith(first) and name.endswith(last) and len(first) <= end):
        return False
    place = len(first)
    for part in others:
        found = name.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True
