"""The verbs and their arguments, and the exit statuses that all of them share."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple, NoReturn

from minici.cli import completion, verbs
from minici.cli.bisect import BadRange, Stopped
from minici.cli.client import Client
from minici.cli.clone import NotHere
from minici.cli.connection import BadAddress, NoAnswer, ServerError
from minici.cli.follow import FAILURE, INTERRUPTED, NO_ANSWER, SUCCESS, USAGE
from minici.cli.terminal import Progress

_DEFAULT_SERVER = "http://127.0.0.1:8000"
_CLOSED_PIPE = 141  # as the shell has it: 128 + SIGPIPE
_FOLLOWING = frozenset(("start", "watch", "rebuild", "repeat", "bisect"))
_STATUSES = ("queued", "running", "success", "failure", "lost", "cancelled")
_EXITS = (
    "exit status: 0 success, 1 failure, 2 wrong usage or no such build, 3 lost, 4 cancelled,\n"
    "5 no answer from the server, 130 after Ctrl-C"
)


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{message} (see `{self.prog} --help`)", USAGE))

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse words, options before, between and behind the others."""
        given, rest = self.parse_known_intermixed_args(words)
        if rest:
            self.error(self._said_of(rest))
        return given

    def _said_of(self, rest: Sequence[str]) -> str:
        """The sentence about words that nothing takes."""
        takes_command = any(action.dest == "command" for action in self._actions)
        option = next((word.partition("=")[0] for word in rest if word.startswith("-")), None)
        if option:
            near = difflib.get_close_matches(option, self._option_string_actions, n=1)
            if near:
                return f"there is no option {option}; did you mean {near[0]}?"
        if takes_command:
            return f"{rest[0]}: one word too many; put a command with its options into quotes"
        return f"there is no option {option}" if option else f"{rest[0]}: one word too many"


class _Verb(NamedTuple):
    what: str
    example: str
    run: Callable[[Client, argparse.Namespace], int]
    add_arguments: tuple[Callable[[Parser], object], ...] = ()


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return its exit status. Nothing that a server or a person does wrong raises."""
    verb, *words = arguments
    try:
        given = _parser(verb).parse_all(words)
        status = _run(verb, given)
        sys.stdout.flush()
        return status
    except SystemExit as error:  # argparse has said why
        return int(error.code or 0)
    except KeyboardInterrupt:
        Progress().clear()
        return INTERRUPTED
    except OSError as error:  # from stdout: all else is caught where it is raised
        # Nothing more can be written: Python's own flush at the end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            return _complain(f"the output can't be written: {error.strerror}", FAILURE)
        return _CLOSED_PIPE if verb in _FOLLOWING else SUCCESS


def _run(verb: str, given: argparse.Namespace) -> int:
    try:
        client = Client(given.server or os.environ.get("MINICI_SERVER") or _DEFAULT_SERVER)
        return VERBS[verb].run(client, given)
    except NoAnswer as error:
        unsure = error.sent and verb in ("start", "rebuild")
        hint = "; it may have been started all the same: see `list`" if unsure else ""
        return _complain(f"{error}{hint}", NO_ANSWER)
    except Stopped as error:
        return _complain(str(error), error.exit_status)
    except (ServerError, BadAddress, BadRange, NotHere, verbs.Usage) as error:
        return _complain(str(error), USAGE)


def _complain(text: str, status: int) -> int:
    Progress().say(text)
    return status


def _parser(verb: str) -> Parser:
    what, example, _, add_arguments = VERBS[verb]
    parser = Parser(
        prog=f"{verbs.PROGRAM} {verb}",
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"example:\n  {verbs.PROGRAM} {verb} {example}".rstrip() + f"\n\n{_EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for add in add_arguments:
        add(parser)
    parser.add_argument(
        "--server", metavar="URL", help=f"the server (MINICI_SERVER, else {_DEFAULT_SERVER})"
    )
    return parser


def _print_completion(client: Client, given: argparse.Namespace) -> int:
    print(completion.script(given.shell, {verb: _parser(verb) for verb in VERBS}), end="")
    return SUCCESS


# What the verbs take.


def _id(parser: Parser) -> None:
    parser.add_argument("id", type=_positive, metavar="ID", help="the number of a build")


def _command(parser: Parser) -> None:
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="the project's, if left out")
    parser.add_argument("--project", metavar="NAME", help="the server's first, if left out")


def _detach(parser: Parser) -> None:
    parser.add_argument("--detach", action="store_true", help="print its number and do not follow")


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="as the API gives it")


def _start(parser: Parser) -> None:
    parser.add_argument("commit", nargs="?", metavar="COMMIT", help="inside a clone: its HEAD")
    _command(parser)
    parser.add_argument(
        "--labels", metavar="'A B'", help="an agent must have these, besides the project's"
    )


def _stream(parser: Parser) -> None:
    streams = ("output", "stdout", "stderr", "checkout")
    parser.add_argument("--stream", choices=streams, default="output", help="(output)")


def _filters(parser: Parser) -> None:
    parser.add_argument("--status", choices=_STATUSES)
    parser.add_argument("--project", metavar="NAME")
    parser.add_argument("--branch", metavar="NAME")
    parser.add_argument("--limit", type=_positive, default=20, metavar="N", help="(20)")


def _cancel(parser: Parser) -> None:
    parser.add_argument("id", nargs="?", type=_positive, metavar="ID")
    parser.add_argument("--queued", action="store_true", help="all builds that wait")


def _to(parser: Parser) -> None:
    parser.add_argument("--to", metavar="FOLDER", help="fetch them into this folder")


def _agent(parser: Parser) -> None:
    parser.add_argument("agent", metavar="AGENT", help="its name or its address")


def _repeat(parser: Parser) -> None:
    parser.add_argument("count", type=_positive, metavar="N")
    parser.add_argument("commit", metavar="COMMIT")
    _command(parser)


def _bisect(parser: Parser) -> None:
    parser.add_argument("good", metavar="GOOD")
    parser.add_argument("bad", metavar="BAD")
    _command(parser)
    parser.add_argument("--at-once", type=_positive, metavar="K", help="builds (the free slots)")
    parser.add_argument("--merges", action="store_true", help="go into the branch of a bad merge")


def _shell(parser: Parser) -> None:
    parser.add_argument("shell", choices=completion.SHELLS)


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


VERBS: Mapping[str, _Verb] = {
    "start": _Verb(
        "start a build and follow it", "main 'make test'", verbs.run_start, (_start, _detach)
    ),
    "watch": _Verb("follow a build from its beginning", "7", verbs.run_watch, (_id,)),
    "log": _Verb("print the output of a build", "7 | grep error", verbs.run_log, (_id, _stream)),
    "list": _Verb(
        "list builds, newest first", "--status failure", verbs.run_list, (_filters, _json)
    ),
    "show": _Verb("show all about a build but its output", "7", verbs.run_show, (_id, _json)),
    "cancel": _Verb("cancel a build, or all that wait", "--queued", verbs.run_cancel, (_cancel,)),
    "rebuild": _Verb("start a build again and follow it", "7", verbs.run_rebuild, (_id, _detach)),
    "files": _Verb("list or fetch a build's files", "7 --to results", verbs.run_files, (_id, _to)),
    "agents": _Verb("list the agents", "", verbs.run_agents, (_json,)),
    "pause": _Verb("give an agent no more builds", "127.0.0.1:8001", verbs.run_pause, (_agent,)),
    "resume": _Verb(
        "give a paused agent builds again", "127.0.0.1:8001", verbs.run_resume, (_agent,)
    ),
    "repeat": _Verb(
        "run the same build N times over all free slots",
        "20 main 'make test'",
        verbs.run_repeat,
        (_repeat,),
    ),
    "bisect": _Verb(
        "find the first bad commit, in a clone",
        "v1.0 HEAD 'make test'",
        verbs.run_bisect,
        (_bisect,),
    ),
    "completion": _Verb(
        "print a completion script for a shell", "bash", _print_completion, (_shell,)
    ),
}
