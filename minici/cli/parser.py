"""The verbs and their arguments, and the exit statuses that all of them share."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from minici.cli import verbs
from minici.cli.bisect import BadRange, Stopped
from minici.cli.client import BadAddress, Client, NoAnswer, ServerError
from minici.cli.clone import NotHere
from minici.cli.completion import script
from minici.cli.follow import INTERRUPTED, NO_ANSWER, SUCCESS, USAGE
from minici.cli.terminal import Progress

_DEFAULT_SERVER = "http://127.0.0.1:8000"
_CLOSED_PIPE = 141  # as the shell has it: 128 + SIGPIPE
_FOLLOWING = frozenset(("start", "watch", "rebuild", "repeat", "bisect"))
_STATUSES = ("queued", "running", "success", "failure", "lost", "cancelled")
_EXITS = (
    "exit status: 0 success, 1 failure, 2 wrong usage or no such build, 3 lost, 4 cancelled, "
    "5 no answer from the server, 130 after Ctrl-C"
)


class _Parser(argparse.ArgumentParser):
    """A parser that says what to do about a command of several words."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments") and " -" not in message:
            message += "; a command of several words is one argument: put it into quotes"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; completion is made from it."""
    parser = _Parser(prog=verbs.PROGRAM, description="Talk to a minici server.")
    adder = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_builds(adder)
    _add_agents(adder)
    _add_searches(adder)
    made = _add(adder, "completion", "print a completion script for a shell", "completion bash")
    made.add_argument("shell", choices=("bash", "zsh"))
    return parser


VERBS = frozenset(
    """
    start watch log list show cancel agents pause resume rebuild files repeat bisect completion
    """.split()
)


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return its exit status. Nothing that a server or a person does wrong raises."""
    parser = build_parser()
    try:
        given = parser.parse_args(arguments)
    except SystemExit as error:  # argparse has said why
        return int(error.code or 0)
    try:
        status = _run(parser, given)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Nothing more can be written: Python's own flush at the end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE if given.verb in _FOLLOWING else SUCCESS
    except KeyboardInterrupt:
        Progress().clear()
        return INTERRUPTED


def _run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    if given.verb == "completion":
        print(script(given.shell, parser), end="")
        return SUCCESS
    try:
        client = Client(given.server or os.environ.get("MINICI_SERVER") or _DEFAULT_SERVER)
        run: Any = getattr(verbs, f"run_{given.verb}")
        return int(run(client, given))
    except NoAnswer as error:
        hint = (
            ""
            if error.sent is False or given.verb not in ("start", "rebuild")
            else ("; it may have been started all the same: see `list`")
        )
        return _complain(f"{error}{hint}", NO_ANSWER)
    except Stopped as error:
        return _complain(str(error), error.exit_status)
    except (ServerError, BadAddress, BadRange, NotHere, verbs.Usage) as error:
        return _complain(str(error), USAGE)


def _complain(text: str, status: int) -> int:
    Progress().say(text)
    return status


def _add(adder: Any, verb: str, what: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = adder.add_parser(
        verb,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example:\n  {verbs.PROGRAM} {example}\n\n{_EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if verb != "completion":
        parser.add_argument(
            "--server", metavar="URL", help=f"the server (MINICI_SERVER, else {_DEFAULT_SERVER})"
        )
    return parser


def _add_builds(adder: Any) -> None:
    made = _add(adder, "start", "start a build and follow it", "start main 'make test'")
    made.add_argument("commit", nargs="?", metavar="COMMIT", help="inside a clone: its HEAD")
    _add_command(made)
    made.add_argument(
        "--labels", metavar="'A B'", help="an agent must have these, besides the project's"
    )
    _add_detach(made)
    made = _add(adder, "watch", "follow a build from its beginning", "watch 7")
    _add_id(made)
    made = _add(adder, "log", "print the output of a build", "log 7 | grep error")
    _add_id(made)
    streams = ("output", "stdout", "stderr", "checkout")
    made.add_argument("--stream", choices=streams, default="output", help="(output)")
    made = _add(adder, "list", "list builds, newest first", "list --status failure")
    made.add_argument("--status", choices=_STATUSES)
    made.add_argument("--project", metavar="NAME")
    made.add_argument("--branch", metavar="NAME")
    made.add_argument("--limit", type=_positive, default=20, metavar="N", help="(20)")
    _add_json(made)
    made = _add(adder, "show", "show all about a build but its output", "show 7 --json")
    _add_id(made)
    _add_json(made)
    made = _add(adder, "cancel", "cancel a build, or all that wait", "cancel --queued")
    made.add_argument("id", nargs="?", type=_positive, metavar="ID")
    made.add_argument("--queued", action="store_true", help="all builds that wait")
    made = _add(adder, "rebuild", "start a build again and follow it", "rebuild 7")
    _add_id(made)
    _add_detach(made)
    made = _add(adder, "files", "list or fetch a build's files", "files 7 --to results")
    _add_id(made)
    made.add_argument("--to", metavar="FOLDER", help="fetch them into this folder")


def _add_agents(adder: Any) -> None:
    made = _add(adder, "agents", "list the agents", "agents")
    _add_json(made)
    for verb, what in (
        ("pause", "give an agent no more builds"),
        ("resume", "give a paused agent builds again"),
    ):
        made = _add(adder, verb, what, f"{verb} 127.0.0.1:8001")
        made.add_argument("agent", metavar="AGENT", help="its name or its address")


def _add_searches(adder: Any) -> None:
    made = _add(
        adder, "repeat", "run the same build N times over all free slots", "repeat 20 main 'make'"
    )
    made.add_argument("count", type=_positive, metavar="N")
    made.add_argument("commit", metavar="COMMIT")
    _add_command(made)
    made = _add(
        adder, "bisect", "find the first bad commit, in a clone", "bisect v1.0 HEAD 'make test'"
    )
    made.add_argument("good", metavar="GOOD")
    made.add_argument("bad", metavar="BAD")
    _add_command(made)
    made.add_argument("--at-once", type=_positive, metavar="K", help="builds (the free slots)")
    made.add_argument("--merges", action="store_true", help="go into the branch of a bad merge")


def _add_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="the project's, if left out")
    parser.add_argument("--project", metavar="NAME", help="the server's first, if left out")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", type=_positive, metavar="ID", help="the number of a build")


def _add_detach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach", action="store_true", help="print its number and do not follow")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as the API gives it")


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError(f"{text}: not a number from 1 on")
    return int(text)
