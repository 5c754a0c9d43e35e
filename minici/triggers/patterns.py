"""Patterns of branches and tags: `main release/* !release/old*`. Pure.

Contract, section 2, the project keys `branches` and `tags`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def matches(patterns: Sequence[str], name: str) -> bool:
    """Return whether a pattern matches the name and none with `!` does.

    `*` matches any characters, `/` included.
    """
    wanted = (each for each in patterns if not each.startswith("!"))
    excluded = (each[1:] for each in patterns if each.startswith("!"))
    return _any_matches(wanted, name) and not _any_matches(excluded, name)


def _any_matches(patterns: Iterable[str], name: str) -> bool:
    return any(re.fullmatch(_expression(each), name, re.DOTALL) for each in patterns)


def _expression(pattern: str) -> str:
    return ".*".join(map(re.escape, pattern.split("*")))
