"""The data of each page. The server fills these in; `html.py` only reads them.

A build is its JSON object, as the contract has it (section 3), with minici's additions. A
build whose record can't be read is `{"id": ID, "damaged": "one sentence"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

BuildJson = Mapping[str, Any]


@dataclass(frozen=True)
class PageContext:
    """The parts of a page that do not depend on its subject."""

    repository: str
    now: datetime  # aware
    url: str  # where people reach this server, without a slash at its end: for lines to copy
    agents_total: int = 0  # agents that are there, gone ones not counted
    slots_free: int = 0
    slots_total: int = 0
    queued: int = 0
    agents_gone: int = 0
    agents_paused: int = 0  # of those that are there
    oldest_wait: Optional[float] = None  # seconds, of the build that waits longest
    start_agent_command: str = "python3 -m minici.agent config.ini"
    user: Optional[str] = None
    shared_names: frozenset[str] = frozenset()  # of two agents and more: shown with the address
    several_projects: bool = False


@dataclass(frozen=True)
class Waiting:
    """The place of a queued build (1 is next), and why it waits.

    `agents` are there; `blocked`: none of them may take it.
    """

    position: int
    agents: int
    reason: str = ""
    blocked: bool = False


@dataclass(frozen=True)
class FormView:
    """The form as it was sent. `errors` has a text key or a sentence for each field that is
    wrong, and as `form` what stands against the whole of it."""

    commit: str = "HEAD"
    command: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    project: str = ""


@dataclass(frozen=True)
class ProjectChoice:
    """A project that a build may be of, with the command that the form offers for it."""

    name: str
    command: str


@dataclass(frozen=True)
class LookFailure:
    """A project whose refs can't be listed now, and why."""

    project: str
    reason: str


@dataclass(frozen=True)
class BranchView:
    """A branch with its last builds, oldest first. `newest` says how it is, and `broken_since` is
    the first of the builds that have failed in a row, or None."""

    name: str
    builds: Sequence[BuildJson]
    newest: BuildJson
    broken_since: Optional[BuildJson] = None


@dataclass(frozen=True)
class ProjectView:
    """The branches of a project, and the durations of its last successes in seconds."""

    name: str
    branches: Sequence[BranchView]
    seconds: Sequence[float] = ()


@dataclass(frozen=True)
class IndexView:
    """The start page. `filter` is a status, `text` a part of a commit or command, or None."""

    context: PageContext
    builds: Sequence[BuildJson]
    form: FormView = FormView()
    projects: Sequence[ProjectChoice] = ()  # none where there is one only
    waiting: Mapping[int, Waiting] = field(default_factory=dict)
    filter: Optional[str] = None
    text: Optional[str] = None
    project: Optional[str] = None
    branch: Optional[str] = None
    newer: Optional[str] = None  # addresses of the first and of the next page
    older: Optional[str] = None
    last: Sequence[BuildJson] = ()  # the last builds, newest first, without any filter
    medians: Mapping[str, float] = field(default_factory=dict)  # running command: usual seconds
    looks: bool = False  # whether refs are looked at
    look_failures: Sequence[LookFailure] = ()
    overview: Sequence[ProjectView] = ()  # the projects that have branches with builds
    cancellable: int = 0  # queued builds that the list as it is narrowed would cancel


@dataclass(frozen=True)
class OutputPiece:
    """Some output, in its order of arrival; `seconds` since the start of the attempt."""

    stream: str  # "stdout" or "stderr"
    seconds: float
    text: str


@dataclass(frozen=True)
class FoundLine:
    """A line of the output that holds what was looked for: its number, and how it begins."""

    number: int
    text: str


@dataclass(frozen=True)
class FilesView:
    """The files of a build: the first by path, each with its size in bytes, and how many there are
    of how many bytes. `left_out` are the first that are not kept, by path, each with the reason."""

    shown: Sequence[tuple[str, int]]
    count: int
    size: int
    left_out: Sequence[tuple[str, str]] = ()
    left_count: int = 0


@dataclass(frozen=True)
class HookFailureView:
    """A hook that failed, with the end of what it wrote; `again`: it will be run again."""

    exit_status: int
    output: str
    again: bool


@dataclass(frozen=True)
class BuildView:
    """The page of one build.

    `output` is that of `shown_attempt`, or of the attempt that counts where that is None;
    where it is a part only, `first_line` is the number of the first line that begins in it,
    `continued` has those, by stream, that began before, and `earlier` and `later` are the
    addresses of the neighbouring parts. `live` is the address of the events that follow exactly
    what `output` holds, None for a build that is final. `kept` is the size of the shown output, as
    bytes of stdout, of stderr and dropped; None is what the build's record says. `checkout` is
    what git printed while it fetched and checked out the commit, or the end of it.
    """

    context: PageContext
    build: BuildJson
    output: Sequence[OutputPiece] = ()
    waiting: Optional[Waiting] = None
    max_attempts: int = 3
    previous: Optional[int] = None
    next: Optional[int] = None
    shown_attempt: Optional[int] = None
    first_line: int = 1
    continued: Mapping[str, int] = field(default_factory=dict)
    kept: Optional[tuple[int, int, int]] = None
    find: str = ""  # what was looked for in the whole of the output
    failures: Optional[Sequence[int]] = None  # lines that look like the failure, where known
    found: Sequence[FoundLine] = ()  # where it was found, as far as that is shown
    earlier: Optional[str] = None
    later: Optional[str] = None
    live: Optional[str] = None
    checkout: str = ""
    checkout_bytes: int = 0  # raw bytes of it, as the live stream counts them
    damage: str = ""  # what is wrong with the files of the output, or empty
    files: Optional[FilesView] = None
    hook_failure: Optional[HookFailureView] = None


@dataclass(frozen=True)
class RunningBuild:
    """A build in a slot of an agent."""

    id: int
    attempt: int
    since: Optional[str]  # ISO 8601
    commit: str = ""
    command: str = ""


@dataclass(frozen=True)
class AgentView:
    """One agent. `state` is "ready", "busy", "gone", "refusing", "paused" or "trouble".

    `history` is the last 24 hours in quarters of an hour, oldest first: seconds connected, gone,
    and busy (times the share of its slots).
    """

    name: str
    address: str
    slots: int
    state: str
    heard: Optional[datetime] = None
    running: Sequence[RunningBuild] = ()
    note: str = ""  # why it is gone or refuses
    gone_since: Optional[datetime] = None
    history: Sequence[tuple[float, float, float]] = ()
    trouble: str = ""  # why it takes no builds now
    mirrors_bytes: Optional[int] = None
    workspaces_bytes: Optional[int] = None
    labels: Sequence[str] = ()
    paused: bool = False


@dataclass(frozen=True)
class AgentsView:
    """The page of all agents."""

    context: PageContext
    agents: Sequence[AgentView]
