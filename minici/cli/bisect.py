"""`bisect`: find the first bad commit, with as many builds at once as slots are free."""

from __future__ import annotations

import contextlib
import sys
from typing import Optional

from minici.cli import clone
from minici.cli.bisection import BAD, GOOD, SKIP, Search, rounds_needed, search, verdict
from minici.cli.client import Build, Client, PatientClient
from minici.cli.connection import NoAnswer, ServerError
from minici.cli.follow import EXIT_STATUS, FAILURE, SUCCESS
from minici.cli.starting import earlier_builds, finished, free_slots, pause, start
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
            self._progress.say(f"{found[0][:_SHORT_HASH]} is a merge; going into its branch")
            line = side

    def _side_of(self, commit: str) -> list[str]:
        parents = clone.parents(commit) if self._merges else []
        if len(parents) < 2:
            return []
        return [*clone.line_between(parents[0], parents[1]), commit]

    def _search(self, line: list[str]) -> list[str]:
        """The commits that may be the first bad one, as few as the results allow."""
        results: dict[int, str] = {}
        slots = self._slots()
        rounds = rounds_needed(len(line), slots)
        self._progress.say(
            f"{_count(len(line), 'commit')}, {_count(slots, 'build')} at once: "
            f"{_count(rounds, 'round')} at most, unless some are skipped"
        )
        if self._command is not None:
            self._take_earlier(line, results)
        number = 0
        while True:
            state = search(len(line), results, slots)
            if not state.tests:
                return line[state.good + 1 : state.bad + 1]
            number += 1
            names = " ".join(line[at][:_SHORT_HASH] for at in state.tests)
            left = _count(len(state.culprits), "commit")
            self._progress.say(f"round {number}: {left} left, building {names}")
            self._round(line, results, state)
            slots = self._slots()

    def _slots(self) -> int:
        """Builds at once. Those of this search that still end are not in the way."""
        return self._wanted_slots or free_slots(self._client, self._started)

    def _take_earlier(self, line: list[str], results: dict[int, str]) -> None:
        """Count the builds that are there already, from an earlier run or another person's."""
        assert self._command is not None
        found = earlier_builds(self._client, set(line), self._command, self._project)
        for at, commit in enumerate(line):
            if commit in found and at not in results:
                try:
                    result = verdict(found[commit]["exit_status"])
                except ValueError:
                    continue
                self._shown_by[commit] = found[commit]
                if at < len(line) - 1:  # the last one is bad, as the person says
                    results[at] = result
        if found:
            self._progress.say(f"{_count(len(found), 'commit')} built before")

    def _round(self, line: list[str], results: dict[int, str], state: Search) -> None:
        """Build the commits of a round; cancel what a result has made needless."""
        running: dict[int, int] = {}  # builds and their positions
        try:
            for at in state.tests:
                if at in results:
                    continue
                build = start(self._client, line[at], self._command, self._project)
                running[int(build["id"])] = at
                self._started.add(int(build["id"]))
                if self._command is None:
                    self._command = str(build["command"])
                    self._take_earlier(line, results)
                    self._cancel_needless(line, results, running)
            while running:
                for build in finished(self._client, running):
                    if build["id"] in running:
                        self._record(line, results, running.pop(build["id"]), build)
                        self._cancel_needless(line, results, running)
                if running:
                    self._progress.show(f"waiting for {_count(len(running), 'build')}")
                    pause()
        except KeyboardInterrupt:
            self._cancel(list(running))
            self._progress.say("stopped; the same command goes on where this one ended")
            raise
        except (Stopped, NoAnswer, ServerError):
            self._cancel(list(running))
            raise

    def _record(self, line: list[str], results: dict[int, str], at: int, build: Build) -> None:
        commit = line[at][:_SHORT_HASH]
        said = f"build {build['id']} of {commit} ended: {build['status']}"
        reason = f", {plain(build['reason'])}" if build.get("reason") else ""
        if build["status"] not in ("success", "failure") or build.get("exit_status") is None:
            raise Stopped(f"{said}{reason}", EXIT_STATUS.get(build["status"], FAILURE))
        try:
            results[at] = verdict(build["exit_status"])
        except ValueError as error:
            there = clone.can_be_fetched(line[at], build.get("repository") or "")
            hint = "" if there else "; is the commit pushed?"
            raise Stopped(f"{said}{reason}: {error}{hint}", FAILURE) from None
        self._shown_by[line[at]] = build
        words = {GOOD: "good", BAD: "bad", SKIP: "skipped"}
        self._progress.say(f"{commit} is {words[results[at]]} (build {build['id']})")

    def _cancel_needless(
        self, line: list[str], results: dict[int, str], running: dict[int, int]
    ) -> None:
        culprits = search(len(line), results, 1).culprits
        for number, at in list(running.items()):
            if at in results or at not in culprits or at == culprits[-1]:
                self._cancel([number])
                del running[number]
                self._progress.say(f"build {number} of {line[at][:_SHORT_HASH]} is not needed")

    def _cancel(self, numbers: list[int]) -> None:
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
