"""Taking over from a broken mirror what only it had: rule 22 of section 5 of the contract."""

from __future__ import annotations

import time
from pathlib import Path

from minici.checkout.git import Git

# Copy to the mirror $1 what only the mirror $2 has, as far as it can be read.
_SALVAGE = r"""
new=$1
cd "$2/objects" || exit 0
missing() {
    git --git-dir="$new" cat-file --batch-check | sed -n 's/ missing$//p'
}
for pack in pack/pack-*.pack; do
    [ -f "$pack" ] || continue
    names=$(git --git-dir="$new" show-index <"${pack%.pack}.idx" | cut -d " " -f 2)
    if [ -z "$names" ] || [ -n "$(echo "$names" | missing)" ]; then
        git --git-dir="$new" unpack-objects -r -q <"$pack"
    fi
done
old="env GIT_ALTERNATE_OBJECT_DIRECTORIES=$PWD git --git-dir=$new"
find ?? -type f | tr -d / | missing | while read -r name; do
    type=$($old cat-file -t "$name") && $old cat-file "$type" "$name" |
        git --git-dir="$new" hash-object -w --literally --stdin -t "$type"
done
exit 0
"""


def name_of_old(mirror: Path) -> Path:
    """A new name for a mirror that another one takes the place of, until `salvage`."""
    return mirror.with_suffix(f".{time.time_ns()}.old")


def salvage(mirror: Path, git: Git) -> None:
    """Copy to a mirror what is left in those whose place it has taken, and remove them.

    Raises GitError, Interrupted, SupervisorLost; what is not done then is done at the next call.
    """
    for old in mirror.parent.glob(f"{mirror.stem}.*.old"):
        git.script(_SALVAGE, mirror, old, folder=mirror)
        git.remove(old)
