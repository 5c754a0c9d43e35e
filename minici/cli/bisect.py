"""`bisect`: find the first bad commit, with as many builds at once as slots are free."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable
from typing import Optional

from minici.cli import clone
from minici.cli.bisection import BAD, GOOD, SKIP, rounds_needed, search, verdict
from minici.cli.client import Build, Client, PatientClient
from minici.cli.connection import NoAnswer, ServerError
from minici.cli.follow import EXIT_STATUS, FAILURE, SUCCESS
from minici.cli.starting import earlier_builds, finished, free_slots, own_exit_status, pause, start
from minici.cli.terminal import Progress, plain

_SHORT_HASH = 10  # digits


class Stopped(Exception):
    """A build whose end says neither good nor bad; `exit_status` is this program's."""

    def __init__(self, sentence: str, exit_status: int) -> None:
        super().__init__(sentence)
        self.exit_status = exit_status


class BadRange(Exception):
    """GOOD and BAD name no history that could be searched."""


class Bisection:
    """One search in the clone in which a person stands.

    `slots` are builds at once, None for as many as are free. With `merges` the search goes on
    into the branch that a bad merge has brought.
    """

    def __init__(
        self,
        client: Client,
        command: Optional[str],
        project: Optional[str],
        slots: Optional[int],
        merges: bool,
    ) -> None:
        self._progress = Progress()
        self._client = PatientClient(client, self._progress.say)
        self._command = command
        self._project = project
        self._wanted_slots = slots
        self._merges = merges
        self._shown_by: dict[str, Build] = {}  # the build that showed a commit's result
        self._started: set[int] = set()
        # The search along one line of commits; results and builds by their positions in it.
        self._line: list[str] = []
        self._results: dict[int, str] = {}
        self._running: dict[int, int] = {}  # builds and their positions

    def run(self, good: str, bad: str) -> int:
        """Search between two commits and print what was found. Raises Stopped and BadRange."""
        line = _line_between(good, bad)
        while True:
            found = self._search(line)
            if len(found) > 1:
                return self._unclear(found)
            side = self._side_of(found[0])
            if not side:
                return self._show(found[0])
            self._progress.say(f"{_short(found[0])} is a merge; going into its branch")
            line = side

    def _side_of(self, commit: str) -> list[str]:
        parents = clone.parents(commit) if self._merges else []
        if len(parents) < 2:
            return []
        return [*clone.line_between(parents[0], parents[1]), commit]

    def _search(self, line: list[str]) -> list[str]:
        """The commits that may be the first bad one, as few as the results allow."""
        self._line, self._results = line, {}
        slots = self._slots()
        self._progress.say(
            f"{_count(len(line), 'commit')}, {_count(slots, 'build')} at once: "
            f"{_count(rounds_needed(len(line), slots), 'round')} at most, unless some are skipped"
        )
        self._take_earlier()
        for number in itertools.count(1):
            state = search(len(line), self._results, slots)
            if not state.tests:
                break
            names = " ".join(_short(line[at]) for at in state.tests)
            left = _count(len(state.culprits), "commit")
            self._progress.say(f"round {number}: {left} left, building {names}")
            self._round(state.tests)
            slots = self._slots()
        return [line[at] for at in state.culprits]

    def _slots(self) -> int:
        """Builds at once. Those of this search that still end are not in the way."""
        return self._wanted_slots or free_slots(self._client, self._started)

    def _take_earlier(self) -> None:
        """Count the builds that are there already, from an earlier run or another person's.

        Without a command, which the first build will tell, there are none.
        """
        if self._command is None:
            return
        found = earlier_builds(self._client, set(self._line), self._command, self._project)
        told = {commit: build for commit, build in found.items() if verdict(own_exit_status(build))}
        self._shown_by.update(told)
        for at, commit in enumerate(self._line[:-1]):  # the last one is bad, as the person says
            if commit in told:
                self._results.setdefault(at, verdict(own_exit_status(told[commit])) or "")
        if told:
            self._progress.say(f"{_count(len(told), 'commit')} built before")

    def _round(self, tests: Iterable[int]) -> None:
        """Build the commits of a round; cancel what a result has made needless."""
        self._running = {}
        try:
            for at in tests:
                if at not in self._results:
                    self._start(at)
            while self._running:
                for build in finished(self._client, self._running):
                    if build["id"] in self._running:
                        self._record(self._running.pop(build["id"]), build)
                        self._cancel_needless()
                if self._running:
                    self._progress.show(f"waiting for {_count(len(self._running), 'build')}")
                    pause()
        except KeyboardInterrupt:
            self._cancel(self._running)
            self._progress.say("stopped; the same command goes on where this one ended")
            raise
        except (Stopped, NoAnswer, ServerError):
            self._cancel(self._running)
            raise

    def _start(self, at: int) -> None:
        build = start(self._client, self._line[at], self._command, self._project)
        self._running[int(build["id"])] = at
        self._started.add(int(build["id"]))
        if self._command is None:
            self._command = str(build["command"])
            self._take_earlier()
            self._cancel_needless()

    def _record(self, at: int, build: Build) -> None:
        """Take the result of a build. Raises Stopped for one that says neither good nor bad."""
        commit = self._line[at]
        result = verdict(own_exit_status(build))
        if result is None:
            raise self._stopped(commit, build)
        self._results[at] = result
        self._shown_by[commit] = build
        words = {GOOD: "good", BAD: "bad", SKIP: "skipped"}
        self._progress.say(f"{_short(commit)} is {words[result]} (build {build['id']})")

    def _stopped(self, commit: str, build: Build) -> Stopped:
        said = f"build {build['id']} of {_short(commit)} stops the search: {build['status']}"
        if build.get("reason"):
            said += f", {plain(build['reason'])}"
        if not clone.can_be_fetched(commit, build.get("repository") or ""):
            said += "; is the commit pushed?"
        status = str(build["status"])
        return Stopped(said, EXIT_STATUS[status] if status in ("lost", "cancelled") else FAILURE)

    def _cancel_needless(self) -> None:
        culprits = search(len(self._line), self._results, 1).culprits
        for number, at in list(self._running.items()):
            if at in self._results or at not in culprits[:-1]:
                self._cancel([number])
                del self._running[number]
                self._progress.say(f"build {number} of {_short(self._line[at])} is not needed")

    def _cancel(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            with contextlib.suppress(NoAnswer, ServerError):  # a needless build disturbs nobody
                self._client.cancel(number)

    def _show(self, commit: str) -> int:
        self._progress.clear()
        about = clone.describe(commit)
        print(f"first bad commit: {about.hash}")
        print(f"author:  {plain(about.author)}")
        print(f"subject: {plain(about.subject)}")
        build = self._shown_by.get(commit)
        shown = f"{self._client.base}/build/{build['id']}" if build else "not built: it is BAD"
        print(f"build:   {shown}")
        return SUCCESS

    def _unclear(self, commits: list[str]) -> int:
        self._progress.clear()
        print("the first bad commit is one of these; those between were skipped:")
        for commit in commits:
            about = clone.describe(commit)
            print(f"{about.hash} {plain(about.subject)}")
        sys.stdout.flush()
        return FAILURE


def _line_between(good: str, bad: str) -> list[str]:
    """The commits behind GOOD up to BAD. Raises BadRange."""
    first, last = _checked(good, "GOOD"), _checked(bad, "BAD")
    if first == last:
        raise BadRange(f"GOOD {good} and BAD {bad} are the same commit")
    if clone.is_ancestor(first, last):
        return clone.line_between(first, last)
    if clone.is_ancestor(last, first):
        why = "it is the other way round: swap them"
    elif clone.is_shallow():
        why = "this clone is shallow: `git fetch --unshallow` first"
    else:
        why = f"`git merge-base {good} {bad}` names one that is"
    raise BadRange(f"GOOD {good} is no ancestor of BAD {bad}; {why}")


def _checked(name: str, role: str) -> str:
    try:
        return clone.resolve(name)
    except clone.NotHere as error:
        raise BadRange(f"{role} {name}: {error}") from None


def _short(commit: str) -> str:
    return commit[:_SHORT_HASH]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
