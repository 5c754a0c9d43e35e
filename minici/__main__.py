"""`python -m minici`: server and agents on one repository, and the small tools.

python -m minici [--on-push [COMMAND]] [FOLDER ...]   CI for the git repositories there
python -m minici password                             a hash for [users]
python -m minici init [--repository URL] [FILE]       a config.ini for several hosts
python -m minici VERB ...                             the command line of a running server
"""

from __future__ import annotations

import argparse
import difflib
import getpass
import io
import os
import re
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from minici import __version__, config_values
from minici.cli import parser as cli
from minici.daemon import EXIT_BAD_CONFIG, Stop, complain, take_over_process, use_utf8
from minici.standalone.repository import Unusable
from minici.standalone.serve import Wanted, serve_here
from minici.web.passwords import NoScrypt, hash_password


def print_hash() -> int:
    """Ask for a password, twice where a person types it, and print its hash."""
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
        if getpass.getpass("once more: ") != password:
            raise Unusable("these are two different passwords: nothing was printed")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Unusable("an empty password opens to everybody: type one")
    print(hash_password(password))
    return 0


def write_config(path: Path, repository: Optional[str] = None) -> int:
    """Write a config.ini for server and agents, with a fresh secret and a first user.

    The file belongs to the caller, mode 600. Raises Unusable, and then leaves no file.
    """
    password = secrets.token_urlsafe(12)
    try:
        shown = config_values.repository(repository or _REPOSITORY, Path.cwd())
    except config_values.Wrong as error:
        raise Unusable(f"--repository {repository}: {error}") from None
    text = _INIT.format(
        host=socket.gethostname(),
        repository=shown,
        secret=secrets.token_hex(24),
        hash=hash_password(password),
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Unusable(f"{path} exists already: name another file") from None
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}; name a file that can be written") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    first = "" if repository else "set `repository` in it, and "
    print(f"{path} is written; {first}copy it to every host, for the user who runs minici there")
    print(f"sign in as admin with the password {password}")
    return 0


_REPOSITORY = "https://git.example/project.git"
_INIT = """\
# minici, for a server and agents on other hosts. This file holds a secret. On each host it belongs
# to the user who runs minici there, and nobody else can read it:
#
#   install -o USER -m 600 config.ini /var/lib/USER/
#
#   on the server:       python3 -m minici.server config.ini
#   on each agent host:  python3 -m minici.agent config.ini

[server]
host = 0.0.0.0
port = 8000
# The URL or path that every agent can check out.
repository = {repository}
secret = {secret}

[agent]
host = 0.0.0.0
port = 8001
# The server, as this agent's host reaches it.
server = {host}:8000
slots = 1
secret = {secret}

[users]
admin = {hash}
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run server and agents, or one of the tools; return the exit status."""
    take_over_process()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may have what the terminal has not
        sys.stdout.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and given[:1] != ["password"]:  # which is typed as the terminal has it
        use_utf8()
    try:
        return _run(given)
    except (Unusable, NoScrypt) as error:
        complain(f"minici: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(given: Sequence[str]) -> int:
    first = given[0] if given else "."
    if first == "password":
        _password_parser().parse_args(given[1:])
        return print_hash()
    if first == "init":
        wanted = _init_parser().parse_args(given[1:])
        return write_config(Path(wanted.file), wanted.repository)
    if first in cli.VERBS:
        return cli.main(given)
    if _is_mistyped(first):
        return _say_how_to_write(first)
    options = _parser().parse_args(given)
    stop = Stop()
    stop.on_signals()
    serve_here(_wanted(options), stop)
    return 0


def _wanted(options: argparse.Namespace) -> Wanted:
    folders, command = options.folders, options.on_push
    if command and os.path.isdir(command):  # a folder is no command
        folders, command = [*folders, command], ""
    return Wanted(
        folders=folders or ["."],
        port=options.port,
        agents=options.agents,
        on_push=command is not None,
        command=command or None,
    )


def _is_mistyped(word: str) -> bool:
    """Tell if a first word is an option of verbs, or neither option nor folder."""
    option_of_verbs = word.partition("=")[0] == "--server"
    return option_of_verbs or not (word.startswith("-") or os.path.exists(word))


def _say_how_to_write(word: str) -> int:
    """Say what is wrong with a first word; return the exit status of wrong usage."""
    near = difflib.get_close_matches(word, [*cli.VERBS, "init", "password"], n=1, cutoff=0.7)
    if word.startswith("-"):
        complain("minici: --server stands behind a verb: python3 -m minici list --server URL")
    elif near:
        complain(f"minici: {word}: no such folder, and no verb; did you mean {near[0]}?")
    else:
        complain(f"minici: {word}: no such folder, and no verb; see `python3 -m minici --help`")
    return EXIT_BAD_CONFIG


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python3 -m minici",
        description="Server and agents in one go, on the git repository in which you stand.",
        epilog="Also: `python3 -m minici password` prints a hash for [users], "
        "`python3 -m minici init [FILE]` writes a config.ini for several hosts, "
        "and `python3 -m minici VERB` talks to a running server: " + ", ".join(cli.VERBS),
    )
    parser.add_argument("--version", action="version", version=f"minici {__version__}")
    parser.add_argument(
        "folders", nargs="*", type=_folder, metavar="FOLDER", help="folders of repositories (.)"
    )
    parser.add_argument(
        "--on-push",
        nargs="?",
        const="",
        metavar="COMMAND",
        help="build each commit that you make on any branch, with this command or the usual one",
    )
    parser.add_argument("--port", type=_port, help="where to listen (8000, or a free one)")
    parser.add_argument("--agents", type=_number, default=2, help="how many agents (2)")
    return parser


def _password_parser() -> cli.Parser:
    return cli.Parser(
        prog="python3 -m minici password",
        description="Ask for a password, and print its hash for the section [users].",
    )


def _init_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python3 -m minici init",
        description="Write a config.ini for several hosts, with a fresh secret and a first user.",
    )
    parser.add_argument("--repository", metavar="URL", help="what the agents check out")
    parser.add_argument("file", nargs="?", default="config.ini", help="(config.ini)")
    return parser


def _folder(text: str) -> str:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return text


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text}: a port is a number from 0 to 65535; 0 takes a free one"
        )
    return int(text)


def _number(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text):
        raise argparse.ArgumentTypeError(f"{text}: there are 1 to 999 agents")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
