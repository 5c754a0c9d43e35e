"""Branches and tags of a repository, and what has moved since they were last looked at. Pure.

Contract, section 5, rule 16.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from minici.build import PUSH, TAG
from minici.triggers.patterns import matches

BRANCH_PREFIX = "refs/heads/"
TAG_PREFIX = "refs/tags/"
_PEELED = "^{}"
_LINE = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\t(refs/(?:heads|tags)/.+)")

Refs = Mapping[str, str]  # the commit by the full name of the ref


class IncompleteListing(Exception):
    """The listing of refs was cut short."""


@dataclass(frozen=True)
class MovedRef:
    """A branch or tag that is not where it was remembered."""

    ref: str
    revision: str
    event: str  # PUSH or TAG


def parse_listing(listing: bytes) -> dict[str, str]:
    """Read the branches and tags from the output of `git ls-remote`.

    An annotated tag counts by its commit. A byte of a name that is no UTF-8 is written as git
    quotes it, `\\xff`: no name has a backslash. Raises IncompleteListing for a listing whose last
    line has no end.
    """
    if listing and not listing.endswith(b"\n"):
        raise IncompleteListing("git ls-remote: the list of refs was cut short")
    refs: dict[str, str] = {}
    for line in listing.decode("utf-8", "backslashreplace").split("\n"):
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        revision, name = found.groups()
        # The line of the commit follows that of the tag, and takes its place.
        refs[name.removesuffix(_PEELED)] = revision
    return refs


def moved_refs(
    remembered: Optional[Refs],
    found: Refs,
    branches: Sequence[str],
    tags: Sequence[str],
) -> list[MovedRef]:
    """Return the refs to build, branches first, by name.

    `remembered` is None before the first look, which starts nothing; empty if the repository was
    empty then. `branches` and `tags` are patterns.
    """
    if remembered is None:
        return []
    moved = []
    for ref, revision in sorted(found.items()):
        if remembered.get(ref) == revision:
            continue
        event = event_of(ref)
        patterns = branches if event == PUSH else tags
        if matches(patterns, short_name(ref)):
            moved.append(MovedRef(ref, revision, event))
    return moved


def event_of(ref: str) -> str:
    """Return the event of a ref that has moved: PUSH for a branch, TAG for a tag."""
    return PUSH if ref.startswith(BRANCH_PREFIX) else TAG


def short_name(ref: str) -> str:
    """Return the name of a branch or tag: `main` for `refs/heads/main`."""
    return ref.split("/", 2)[2]
