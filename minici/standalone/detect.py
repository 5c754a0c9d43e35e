"""The command that usually tests a repository, by what stands at its top. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Callable, Optional

FALLBACK = "git show --stat"  # for documents: true of every commit, and harmless

# The text of a file at the top; empty where it can't be read.
Reader = Callable[[str], str]

_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_NPM_PLACEHOLDER = "no test specified"
# How the packages of Node.js are installed, by the lock file that is there, and tests run.
_NODE = (
    ("pnpm-lock.yaml", "pnpm install --frozen-lockfile", "pnpm"),
    ("yarn.lock", "yarn install --frozen-lockfile", "yarn"),
    ("bun.lock", "bun install --frozen-lockfile", "bun run"),
    ("bun.lockb", "bun install --frozen-lockfile", "bun run"),
    ("package-lock.json", "npm ci", "npm"),
    ("npm-shrinkwrap.json", "npm ci", "npm"),
    ("package.json", "npm install", "npm"),
)
# The command of a repository that has a file of this name; `*` stands for any characters.
_BY_NAME = (
    ("meson.build", "meson setup build && meson test -C build"),
    ("Cargo.toml", "cargo test"),
    ("go.mod", "go test ./..."),
    ("gradlew", "./gradlew test"),
    ("build.gradle", "gradle test"),
    ("build.gradle.kts", "gradle test"),
    ("mvnw", "./mvnw -B test"),
    ("pom.xml", "mvn -B test"),
    ("build.sbt", "sbt test"),
    ("tox.ini", "tox"),
    ("noxfile.py", "nox"),
    ("manage.py", "python3 manage.py test"),
    ("mix.exs", "mix test"),
    ("Package.swift", "swift test"),
    ("*.sln", "dotnet test"),
    ("*.csproj", "dotnet test"),
    ("dune-project", "dune test"),
    ("stack.yaml", "stack test"),
    ("*.cabal", "cabal test all"),
    ("pubspec.yaml", "dart test"),
    ("deno.json", "deno test"),
    ("build.zig", "zig build test"),
    (
        "CMakeLists.txt",
        "cmake -B build && cmake --build build && ctest --test-dir build --output-on-failure",
    ),
)


def usual_command(names: Iterable[str], read: Reader) -> str:
    """Return the command that probably tests a repository; FALLBACK if nothing says how.

    `names` are the files and folders at its top.
    """
    found = frozenset(names)
    for detect in (_make, _autotools, _node, _by_name, _python, _ruby, _php, _plain_make):
        command = detect(found, read)
        if command:
            return command
    return FALLBACK


def _make(names: frozenset[str], read: Reader) -> Optional[str]:
    return _make_target("".join(read(name) for name in _MAKEFILES if name in names))


def _make_target(text: str) -> Optional[str]:
    """`make test` or `make check`, where there is such a target."""
    for target in ("test", "check"):
        if re.search(rf"(?m)^(?:[\w./%-]+[ \t]+)*{target}(?:[ \t]+[\w./%-]+)*[ \t]*::?(?!=)", text):
            return f"make {target}"
    return None


def _autotools(names: frozenset[str], read: Reader) -> Optional[str]:
    if not names & {"configure", "configure.ac", "configure.in"}:
        return None
    first = "" if "configure" in names else "autoreconf -i && "
    templates = "".join(read(name) for name in ("Makefile.in", "Makefile.pre.in") if name in names)
    target = "make check" if "Makefile.am" in names else _make_target(templates)
    return f"{first}./configure && {target or 'make check'}"


def _node(names: frozenset[str], read: Reader) -> Optional[str]:
    if "package.json" not in names:
        return None
    scripts = _scripts(read("package.json"))
    install, run = next((how, run) for name, how, run in _NODE if name in names)
    if run == "yarn" and ".yarnrc.yml" in names:  # of its second generation
        install = "yarn install --immutable"
    test = str(scripts.get("test") or "")
    if test and _NPM_PLACEHOLDER not in test:
        return f"{install} && {run} test"
    if scripts.get("build"):
        return f"{install} && {run} build" if run != "npm" else f"{install} && npm run build"
    return None


def _scripts(text: str) -> dict[str, Any]:
    """The scripts of a package.json or composer.json."""
    try:
        package = json.loads(text)
    except ValueError:
        return {}
    scripts = package.get("scripts") if isinstance(package, dict) else None
    return scripts if isinstance(scripts, dict) else {}


def _by_name(names: frozenset[str], read: Reader) -> Optional[str]:
    for pattern, command in _BY_NAME:
        ending = pattern[1:]
        if pattern in names or (pattern[0] == "*" and any(n.endswith(ending) for n in names)):
            return command
    return None


def _python(names: frozenset[str], read: Reader) -> Optional[str]:
    settings = "".join(
        read(name) for name in ("pyproject.toml", "setup.cfg", "setup.py") if name in names
    )
    if names & {"pytest.ini", "conftest.py"} or "pytest" in settings:
        if "uv.lock" in names:
            return "uv run pytest"
        if "poetry.lock" in names:
            return "poetry install && poetry run pytest"
        return "python3 -m pytest"
    if names & {"pyproject.toml", "setup.cfg", "setup.py"} and names & {"tests", "test"}:
        return f"python3 -m unittest discover -s {'tests' if 'tests' in names else 'test'}"
    return None


def _ruby(names: frozenset[str], read: Reader) -> Optional[str]:
    bundled = "Gemfile" in names
    first, run = ("bundle install && ", "bundle exec ") if bundled else ("", "")
    if "Rakefile" in names:
        return f"{first}{run}rake"
    if ".rspec" in names or ("spec" in names and bundled):
        return f"{first}{run}rspec"
    return None


def _php(names: frozenset[str], read: Reader) -> Optional[str]:
    if "composer.json" not in names:
        return None
    if _scripts(read("composer.json")).get("test"):
        return "composer install && composer test"
    if names & {"phpunit.xml", "phpunit.xml.dist"}:
        return "composer install && vendor/bin/phpunit"
    return None


def _plain_make(names: frozenset[str], read: Reader) -> Optional[str]:
    return "make" if names.intersection(_MAKEFILES) else None
