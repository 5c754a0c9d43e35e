"""config.ini, read into the dataclasses of `config` or refused in one line.

Section 2 of the contract.
"""

from __future__ import annotations

import configparser
import errno
import os
import pwd
import re
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

from minici import config_values as readers
from minici.config import (
    AGENT_KEYS,
    PASSWORD_HASH,
    PROJECT_KEYS,
    SERVER_KEYS,
    AgentConfig,
    ConfigError,
    Key,
    ProjectConfig,
    ServerConfig,
)
from minici.durable import PathLike
from minici.hosts import is_loopback
from minici.validation import public

_PROJECT = "project "
_SECTIONS = {"server": SERVER_KEYS, "agent": AGENT_KEYS}
# Read only where they are used: the other host may not have them.
_HERE_ONLY = (readers.file, readers.user, readers.program)


def read_server(path: PathLike) -> ServerConfig:
    """Read the server's configuration. Raises ConfigError; touches nothing."""
    file = _ConfigFile(Path(path))
    values = file.section("server")
    _check_listening(file, "server", values, users=bool(file.users))
    _check_own_address(file, "server", values["host"])
    projects = file.take_projects(values)
    return ServerConfig(
        **values,
        projects=projects,
        users=file.users,
        error=partial(file.error, "server"),
    )


def read_agent(path: PathLike) -> AgentConfig:
    """Read an agent's configuration. Raises ConfigError; touches nothing."""
    file = _ConfigFile(Path(path))
    values = file.section("agent")
    _check_listening(file, "agent", values, users=True)
    _check_own_address(file, "agent", values["host"])
    _check_user(file, values["user"])
    values["pass_names"] = values.pop("pass")
    return AgentConfig(**values, folder=file.folder, error=partial(file.error, "agent"))


class _ConfigFile:
    """A parsed file whose sections and keys are all known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = Path(os.path.abspath(path)).parent
        self._parser = self._parse()
        self._check_names()
        self.users = self._read_users()

    def section(self, name: str) -> dict[str, Any]:
        """The values of a section, with defaults, its secret read. Raises ConfigError."""
        if not self._parser.has_section(name):
            raise ConfigError(f"{self.path}: there is no section [{name}]; write one")
        for other in _SECTIONS:
            if other != name and self._parser.has_section(other):
                self._read_section(other, here=False)
        values = self._read_section(name, here=True)
        file = values.pop("secret_file")
        values["secret"] = self._secret(name, values["secret"], file)
        values["secret_in"] = (file or self.path) if values["secret"] else None
        self._check_certificate(name, values["certificate"], values["private_key"])
        return values

    def take_projects(self, values: dict[str, Any]) -> tuple[ProjectConfig, ...]:
        """Take the keys of its project out of the values of [server]; add the other projects."""
        own = {key: values.pop(key) for key in ("name", *PROJECT_KEYS)}
        own["name"] = own["name"] or project_name_of(own["repository"])
        projects = [self._project("server", own, own)]
        for section in self._project_sections():
            found = {**self._read_section(section, here=True), "name": section.split(" ", 1)[1]}
            projects.append(self._project(section, found, own))
        self._check_project_names(projects)
        return tuple(projects)

    def _project(
        self, section: str, values: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> ProjectConfig:
        values = {**values}
        for key in ("repository", "hook", "build_timeout"):
            values[key] = values[key] if values[key] is not None else defaults[key]
        values["webhook_secret"] = self._secret(
            section,
            values["webhook_secret"],
            values.pop("webhook_secret_file"),
            "webhook_secret",
        )
        project = ProjectConfig(**values)
        if project.starts_by_itself and not project.command:
            self.refuse(section, "command", "missing, and required with branches or tags")
        return project

    def _project_sections(self) -> list[str]:
        return [name for name in self._parser.sections() if name.startswith(_PROJECT)]

    def _check_project_names(self, projects: Sequence[ProjectConfig]) -> None:
        names = [each.name for each in projects]
        for name in names[1:]:
            if names.count(name) > 1:
                raise ConfigError(
                    f"{self.path}: [project {name}]: the project of [server] has this name too; "
                    "give that one a name of its own with name = "
                )

    def _check_certificate(
        self, section: str, certificate: Optional[Path], private_key: Optional[Path]
    ) -> None:
        if private_key and not certificate:
            self.refuse(section, "private_key", "it needs a certificate beside it")

    def refuse(self, section: str, key: str, what: str) -> None:
        """Raise the ConfigError that names file, section, key and value."""
        raise self.error(section, key, what)

    def error(self, section: str, key: str, what: str) -> ConfigError:
        text = self._parser.get(section, key, fallback=None)
        value = "" if text is None else f" = {_shown(section, key, text)}"
        return ConfigError(f"{self.path}: [{section}] {key}{value}: {what}")

    def _parse(self) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(
            interpolation=None, delimiters=("=",), default_section="\0", empty_lines_in_values=False
        )
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(self.path.read_text(encoding="utf-8-sig"), source=str(self.path))
        except OSError as error:
            raise ConfigError(
                f"{self.path}: {error.strerror}; name a file that can be read"
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path}: this is no UTF-8 text; save it as UTF-8") from None
        except configparser.Error as error:
            raise ConfigError(f"{self.path}: {_one_line(_explain(error))}") from None
        return parser

    def _check_names(self) -> None:
        for section in self._parser.sections():
            if section == "users":
                continue
            known = _keys_of(section)
            if known is None:
                names = "[server], [project NAME], [agent], [users]"
                raise ConfigError(f"{self.path}: [{section}]: unknown section; there are {names}")
            if section.startswith(_PROJECT):
                self._check_project_name(section)
            for key in self._parser[section]:
                if key not in known:
                    self.refuse(section, key, f"unknown key; there are {_listed(section)}")

    def _check_project_name(self, section: str) -> None:
        try:
            readers.project_name(section[len(_PROJECT) :], self.folder)
        except readers.Wrong as wrong:
            raise ConfigError(f"{self.path}: [{section}]: {wrong}") from None

    def _read_section(self, name: str, here: bool) -> dict[str, Any]:
        values = {}
        for key, kind in (_keys_of(name) or {}).items():
            text = self._parser.get(name, key, fallback=None)
            if text is not None and (here or kind.read not in _HERE_ONLY):
                values[key] = self._read_value(name, key, kind, text)
            elif kind.required and here:
                self.refuse(name, key, f"missing, and required: {kind.help}")
            else:
                values[key] = self._default(key, kind)
        return values

    def _read_value(self, section: str, key: str, kind: Key, text: str) -> Any:
        try:
            return kind.read(text, self.folder)
        except readers.Wrong as wrong:
            self.refuse(section, key, str(wrong))

    def _default(self, key: str, kind: Key) -> Any:
        if kind.read is readers.path and kind.default is not None:
            return readers.path(kind.default, self.folder)
        return kind.default

    def _secret(
        self, section: str, word: Optional[str], path: Optional[Path], key: str = "secret"
    ) -> Optional[str]:
        if path is None:
            return word
        if word is not None:
            self.refuse(section, f"{key}_file", f"there is a {key} as well; keep one of the two")
        try:
            return readers.secret(path.read_text(encoding="ascii").strip(), self.folder)
        except OSError as error:
            self.refuse(section, f"{key}_file", f"it can't be read: {error.strerror}")
        except (readers.Wrong, UnicodeDecodeError):
            self.refuse(section, f"{key}_file", "it must hold visible ASCII characters in one line")
        return None

    def _read_users(self) -> Mapping[str, str]:
        if not self._parser.has_section("users"):
            return {}
        users = dict(self._parser["users"])
        for name, hashed in users.items():
            if ":" in name or not PASSWORD_HASH.fullmatch(hashed):
                self.refuse(
                    "users", name, "write name = hash; `python -m minici password` prints a hash"
                )
        if not users:
            raise ConfigError(
                f"{self.path}: [users]: it names nobody; write name = hash, or leave it out"
            )
        return users


def _check_listening(
    file: _ConfigFile, section: str, values: Mapping[str, Any], users: bool
) -> None:
    if is_loopback(values["host"]) or values["open"] or (values["secret"] and users):
        return
    needs = "a secret" if section == "agent" else "a secret and a section [users]"
    file.refuse(
        section,
        "host",
        "whoever reaches it could run commands: it needs "
        f"{needs}; or listen on 127.0.0.1; or write open = yes if this is meant",
    )


def _check_own_address(file: _ConfigFile, section: str, host: str) -> None:
    """Refuse a host that this machine does not have: to listen there can never work."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except (socket.gaierror, UnicodeError):
        file.refuse(section, "host", "the name can't be resolved; write an address of this host")
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            file.refuse(section, "host", "this host has no such address; write one that it has")


def _check_user(file: _ConfigFile, user: Optional[str]) -> None:
    if user and os.geteuid() not in (0, pwd.getpwnam(user).pw_uid):
        file.refuse(
            "agent", "user", "only an agent that root starts can run commands as another user"
        )


def _explain(error: configparser.Error) -> str:
    if isinstance(error, configparser.DuplicateOptionError):
        return f"[{error.section}] {error.option}: it stands there twice; keep one"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"[{error.section}]: it stands there twice; keep one"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno}: there is no section above it; begin with [server] or [agent]"
    if isinstance(error, configparser.ParsingError):
        return f"line {error.errors[0][0]}: write key = value"
    return str(error)


def _keys_of(section: str) -> Optional[Mapping[str, Key]]:
    """The keys that a section may have; None for an unknown section."""
    return PROJECT_KEYS if section.startswith(_PROJECT) else _SECTIONS.get(section)


def _listed(section: str) -> str:
    return ", ".join(sorted(_keys_of(section) or ()))


def project_name_of(repository: str) -> str:
    """A project's name from the last part of its repository's path."""
    last = re.split(r"[/:]", repository.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-")[:64] or "project"


def _shown(section: str, key: str, text: str) -> str:
    """A value as an error may show it: no secret, however its key is spelled.

    Of several lines the first: a key that is indented by mistake ends up in the value above it.
    """
    if section == "users" or (_LOOKS_SECRET.search(key) and not key.endswith("secret_file")):
        return "..."
    first, _, more = text.partition("\n")
    return _one_line(public(first)) + (" ..." if more else "")


_LOOKS_SECRET = re.compile(r"(?i)secret|pass(?!$)|token|hash")


def _one_line(text: str) -> str:
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= 200 else line[:200] + "..."
