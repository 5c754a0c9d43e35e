"""A hook that is told of every build while everything dies: rule 18."""

from __future__ import annotations

from collections import defaultdict

from tests.support.harness import Place, ServerProcess, wait_for

REST_SECONDS = 120.0
# Every third is slow, so that a kill of the server meets it; of every fifth build, each fails once.
SCRIPT = """\
#!/bin/sh
[ $((MINICI_BUILD_ID % 3)) != 0 ] || sleep 0.5
echo "$MINICI_BUILD_ID $MINICI_STATUS" >> "$0.told"
[ $((MINICI_BUILD_ID % 5)) != 0 ] || ! mkdir "$0.$MINICI_BUILD_ID.$MINICI_STATUS" 2> /dev/null
"""


class Hooks:
    """A hook that notes what it is told, in the order in which it is told."""

    def __init__(self, place: Place) -> None:
        self.path = place.folder / "hook"
        self.path.write_text(SCRIPT)
        self.path.chmod(0o755)

    def problems(self, server: ServerProcess) -> list[str]:
        """Wait until all is told; return the builds whose hook was told something else."""
        folder = server.data / "hooks"
        try:
            wait_for(lambda: not list(folder.glob("*.json")), REST_SECONDS, "the hooks to be told")
        except AssertionError as error:
            return [str(error)]
        told: dict[int, list[str]] = defaultdict(list)
        for line in self.path.with_name("hook.told").read_text().splitlines():
            number, status = line.split()
            told[int(number)].append(status)
        return [
            f"build {build['id']} is {build['status']}, and its hook was told {told[build['id']]}"
            for build in server.builds()
            if not _fits(told[build["id"]], build["status"])
        ]


def _fits(told: list[str], final: str) -> bool:
    """Whether the final status was told, after all others, and these in their order."""
    order = ("queued", "running", final)
    return told[-1:] == [final] and set(told) <= {*order} and told == sorted(told, key=order.index)
