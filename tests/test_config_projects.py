"""The projects of a configuration, section 2 of the contract: names, defaults, secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from minici.config import ConfigError, ServerConfig
from minici.config_file import project_name_of, read_server

HOOK = "/bin/true"


def read(folder: Path, keys: Mapping[str, str], **projects: Mapping[str, str]) -> ServerConfig:
    """A configuration with these keys in [server], and these further projects."""
    sections = {"server": {"port": "0", "repository": "/srv/tides.git", **keys}}
    sections.update({f"project {name}": dict(found) for name, found in projects.items()})
    lines = []
    for name, found in sections.items():
        lines += [f"[{name}]", *(f"{key} = {text}" for key, text in found.items())]
    path = folder / "config.ini"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_server(path)


@pytest.mark.parametrize(
    "repository, name",
    [
        ("/srv/tides.git", "tides"),
        ("/srv/tides/", "tides"),
        ("https://git.example/ada/tides.git/", "tides"),
        ("git@git.example:ada/tides.git", "tides"),
        ("host:tides", "tides"),
        ("/srv/spring & neap", "spring-neap"),
        ("/srv/.git", "project"),
        ("/srv/" + "x" * 70, "x" * 64),
    ],
)
def test_a_project_is_named_after_its_repository(repository: str, name: str) -> None:
    assert project_name_of(repository) == name


def test_the_defaults_of_a_project(tmp_path: Path) -> None:
    """The repository, the hook and the time limit are the server's; all else is its own."""
    own = {"command": "make", "branches": "main", "supersede": "no", "labels": "arm64"}
    config = read(tmp_path, {**own, "hook": HOOK, "build_timeout": "7s"}, moon={})
    first, second = config.projects
    assert (first.name, second.name) == ("tides", "moon")
    shared = ("repository", "hook", "build_timeout")
    assert [getattr(first, key) for key in shared] == ["/srv/tides.git", (HOOK,), 7.0]
    assert [getattr(second, key) for key in shared] == ["/srv/tides.git", (HOOK,), 7.0]
    others = {
        "name": "moon",
        "command": "",
        "branches": (),
        "tags": (),
        "poll": 60.0,
        "webhook_secret": None,
        "labels": (),
        "supersede": "queued",
        "files_limit": 2**30,
        "submodules": False,
    }
    found = dataclasses.asdict(second)
    assert {key: value for key, value in found.items() if key not in shared} == others


def test_a_project_has_keys_of_its_own(tmp_path: Path) -> None:
    keys = {"repository": "../moon", "build_timeout": "2h", "hook": "/bin/false", "poll": "0"}
    config = read(tmp_path, {"hook": HOOK}, moon=keys)
    moon = config.project("moon")
    assert moon is not None and moon.repository == str(tmp_path.parent / "moon")
    assert (moon.build_timeout, moon.hook, moon.poll) == (7200.0, ("/bin/false",), 0.0)
    assert config.project("sun") is None and config.project(None) is config.default_project


@pytest.mark.parametrize("both", [False, True])
def test_a_webhooks_secret_may_stand_in_a_file(tmp_path: Path, both: bool) -> None:
    (tmp_path / "word").write_text("from the file\n")
    keys = {"webhook_secret_file": "word", **({"webhook_secret": "x"} if both else {})}
    if both:
        with pytest.raises(ConfigError, match="keep one of the two"):
            read(tmp_path, {}, moon=keys)
        return
    config = read(tmp_path, {"webhook_secret": "the server's"}, moon=keys, sun={})
    secrets: list[Optional[str]] = [each.webhook_secret for each in config.projects]
    assert secrets == ["the server's", "from the file", None]
