"""The keys of config.ini and the frozen dataclasses that they fill. Section 2 of the contract.

Every key stands once: it is a field of a dataclass, with its type, default and help. What reads a
file (`config_file`), what explains it and what tests it go by these fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Callable, Optional

from minici import config_values as readers


class ConfigError(Exception):
    """An error in a configuration, in one line that says what would be right."""


@dataclass(frozen=True)
class Key:
    """One key of a section: how its text is read, and what stands for it when it is absent."""

    read: Callable[[str, Path], Any]
    default: Any = None
    required: bool = False
    help: str = ""


def _key(
    read: Callable[[str, Path], Any],
    default: Any = None,
    help: str = "",
    *,
    required: bool = False,
    name: str = "",
) -> Mapping[str, Any]:
    """The metadata of a field that a key of config.ini fills; `name` is the key's, if another."""
    return {"key": Key(read, default, required, help), "name": name}


def _keys(config: type) -> dict[str, Key]:
    """The keys that fill a dataclass, by name."""
    return {
        each.metadata["name"] or each.name: each.metadata["key"]
        for each in fields(config)
        if "key" in each.metadata
    }


@dataclass(frozen=True)
class ProjectConfig:
    """A repository, the command that tests it, and what starts its builds by itself.

    `branches` and `tags` are patterns; `poll` is in seconds, 0 for never; `hook` is the words of
    a program, or None; `build_timeout` is in seconds.
    """

    name: str
    repository: str = field(
        metadata=_key(readers.repository, help="the URL or path that agents check out")
    )
    command: str = field(
        metadata=_key(readers.command, "", "what the form offers, and a push is built with")
    )
    branches: tuple[str, ...] = field(
        default=(),
        metadata=_key(readers.patterns, (), "patterns of branches that are built by themselves"),
    )
    tags: tuple[str, ...] = field(
        default=(),
        metadata=_key(readers.patterns, (), "patterns of tags that are built by themselves"),
    )
    poll: float = field(
        default=60.0,
        metadata=_key(readers.pause, 60.0, "how often the repository is asked for its refs"),
    )
    webhook_secret: Optional[str] = field(
        default=None, metadata=_key(readers.secret, help="what signs the calls of /webhook/NAME")
    )
    labels: tuple[str, ...] = field(
        default=(),
        metadata=_key(readers.labels, (), "an agent must have all of these: linux arm64"),
    )
    supersede: str = field(
        default=readers.QUEUED_ONLY,
        metadata=_key(
            readers.supersede,
            readers.QUEUED_ONLY,
            "what a newer build of a branch ends: no queued running",
        ),
    )
    hook: Optional[tuple[str, ...]] = field(
        default=None,
        metadata=_key(
            readers.program, help="the program that is run when a build's status changes"
        ),
    )
    build_timeout: float = field(
        default=3600.0, metadata=_key(readers.duration, help="the longest that a command may run")
    )
    files_limit: int = field(
        default=2**30, metadata=_key(readers.size, 2**30, "bytes kept of the files of one build")
    )
    submodules: bool = field(
        default=False, metadata=_key(readers.yes, False, "yes: submodules are checked out too")
    )

    @property
    def starts_by_itself(self) -> bool:
        """True if some of its branches or tags are built when they move."""
        return bool(self.branches or self.tags)


@dataclass(frozen=True)
class _Listening:
    """The keys that the sections of server and agent have in common."""

    port: int = field(
        metadata=_key(readers.port, help="where to listen; 0 takes a free one", required=True)
    )
    host: str = field(metadata=_key(readers.host, "127.0.0.1", "address to listen on"))
    secret: Optional[str] = field(
        metadata=_key(readers.secret, help="the word that server and agents share")
    )
    secret_in: Optional[Path]
    certificate: Optional[Path] = field(metadata=_key(readers.file, help="PEM file: serve HTTPS"))
    private_key: Optional[Path] = field(
        metadata=_key(readers.file, help="PEM file of the certificate's key")
    )
    open: bool = field(
        metadata=_key(readers.yes, False, "yes: listen beyond this host without a secret and users")
    )
    error: Callable[[str, str], ConfigError]


@dataclass(frozen=True)
class ServerConfig(_Listening):
    """The server's half of config.ini. Durations are in seconds, sizes in bytes.

    `projects` begins with that of the section [server]. `secret_in` is the file in which the
    secret stands. `error` makes the ConfigError that says what is wrong with the value of a key.
    """

    projects: tuple[ProjectConfig, ...]
    data: Path = field(metadata=_key(readers.path, "minici-data", "the data folder"))
    max_queue: int = field(
        metadata=_key(readers.positive, 1000, "queued builds; one more is turned away")
    )
    max_attempts: int = field(metadata=_key(readers.positive, 3, "attempts before a build is lost"))
    ping_interval: float = field(
        metadata=_key(readers.duration, 2.0, "how often each agent is pinged")
    )
    agent_timeout: float = field(
        metadata=_key(readers.duration, 10.0, "silence after which an agent is gone")
    )
    output_limit: int = field(metadata=_key(readers.size, 64 * 2**20, "bytes kept of each stream"))
    keep_builds: int = field(
        metadata=_key(readers.count, 0, "how many final builds to keep; 0 is all")
    )
    keep_days: float = field(
        metadata=_key(readers.days, 0.0, "how long to keep final builds; 0 is for ever")
    )
    url: Optional[str] = field(
        metadata=_key(readers.page_url, help="the address by which people reach the server")
    )
    language: str = field(metadata=_key(readers.language, "auto", "auto, ru or en"))
    public: frozenset[str] = field(
        metadata=_key(
            readers.public_paths,
            frozenset(("healthz",)),
            "what asks for no password: some of healthz badge feeds metrics",
        )
    )
    users: Mapping[str, str]

    @property
    def default_project(self) -> ProjectConfig:
        """The project of the section [server]."""
        return self.projects[0]

    def project(self, name: Optional[str]) -> Optional[ProjectConfig]:
        """The project of this name, the default one without a name; None if there is none."""
        if name is None:
            return self.default_project
        return next((each for each in self.projects if each.name == name), None)


@dataclass(frozen=True)
class AgentConfig(_Listening):
    """The agent's half of config.ini. `data` is None where it is named after the port.

    `secret_in` is the file in which the secret stands. `error` makes the ConfigError that says
    what is wrong with the value of a key.
    """

    server: str = field(
        metadata=_key(readers.server_url, help="host:port or URL of the server", required=True)
    )
    advertise: Optional[str] = field(
        metadata=_key(
            readers.advertise, help="host or host:port by which the server reaches this agent"
        )
    )
    data: Optional[Path] = field(
        metadata=_key(readers.path, help="mirrors, workspaces and undelivered results")
    )
    folder: Path
    slots: int = field(metadata=_key(readers.positive, 1, "builds at a time"))
    name: Optional[str] = field(
        metadata=_key(readers.agent_name, help="what people call this agent")
    )
    keep_mirrors: float = field(
        metadata=_key(
            readers.duration, 30 * 86400.0, "how long mirrors and working trees stay unused"
        )
    )
    user: Optional[str] = field(metadata=_key(readers.user, help="the user as whom commands run"))
    authority: Optional[Path] = field(
        metadata=_key(
            readers.file, help="PEM file of the authority behind the server's certificate"
        )
    )
    pass_names: tuple[str, ...] = field(
        metadata=_key(
            readers.names, (), "names of variables that look secret and are passed on", name="pass"
        )
    )
    shell: tuple[str, ...] = field(
        metadata=_key(
            readers.program, ("/bin/sh", "-e", "-c"), "the words that the command is appended to"
        )
    )
    labels: tuple[str, ...] = field(
        metadata=_key(readers.labels, (), "what this agent is or has: linux arm64 docker")
    )


_SECRET_FILE = {"secret_file": Key(readers.path, help="the file that holds the shared word")}
PROJECT_KEYS: Mapping[str, Key] = {
    **_keys(ProjectConfig),
    "webhook_secret_file": Key(readers.path, help="the file that holds webhook_secret"),
}
SERVER_KEYS: Mapping[str, Key] = {
    **PROJECT_KEYS,
    "name": Key(readers.project_name, help="the project's name"),
    "repository": replace(PROJECT_KEYS["repository"], required=True),
    "build_timeout": replace(PROJECT_KEYS["build_timeout"], default=3600.0),
    **_keys(ServerConfig),
    **_SECRET_FILE,
}
AGENT_KEYS: Mapping[str, Key] = {**_keys(AgentConfig), **_SECRET_FILE}

# scrypt, its cost as a power of two (more than 2**20 would be a GiB of memory for each try), the
# salt and the key in hexadecimal digits.
PASSWORD_HASH = re.compile(r"scrypt:(1[0-9]|20):([0-9a-f]{32}):([0-9a-f]{64})")
