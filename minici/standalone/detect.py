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
    ("MODULE.bazel", "bazel test //..."),
    ("mix.exs", "mix deps.get && mix test"),
    ("gleam.toml", "gleam test"),
    ("rebar.config", "rebar3 eunit"),
    ("Package.swift", "swift test"),
    ("*.sln", "dotnet test"),
    ("*.csproj", "dotnet test"),
    ("dune-project", "dune test"),
    ("stack.yaml", "stack test"),
    ("*.cabal", "cabal test all"),
    ("project.clj", "lein test"),
    ("deno.json", "deno test"),
    ("deno.jsonc", "deno test"),
    ("build.zig", "zig build test"),
    ("Project.toml", "julia --project -e 'using Pkg; Pkg.test()'"),
    ("Makefile.PL", "perl Makefile.PL && make test"),
    (
        "CMakeLists.txt",
        "cmake -B build && cmake --build build && ctest --test-dir build --output-on-failure",
    ),
)


# How a Python project's environment is made and entered, by the lock file or table of settings.
_PYTHON = (
    ("uv.lock", "[tool.uv", "uv run "),
    ("poetry.lock", "[tool.poetry", "poetry install && poetry run "),
    ("pdm.lock", "[tool.pdm", "pdm install && pdm run "),
    ("Pipfile.lock", "[[source]]", "pipenv sync --dev && pipenv run "),
)
_DOCUMENTS = (
    ("mkdocs.yml", "mkdocs build --strict"),
    ("book.toml", "mdbook build"),
)


def usual_command(names: Iterable[str], read: Reader) -> str:
    """Return the command that probably tests a repository; FALLBACK if nothing says how.

    `names` are the files and folders at its top.
    """
    found = frozenset(names)
    for detect in _DETECTORS:
        command = detect(found, read)
        if command:
            return command
    return FALLBACK


def _make(names: frozenset[str], read: Reader) -> Optional[str]:
    return _make_target("".join(read(name) for name in _MAKEFILES if name in names))


def _runner(names: frozenset[str], read: Reader) -> Optional[str]:
    """A runner of tasks that has one named `test`."""
    for file, pattern, command in (
        ("justfile", r"(?m)^@?test\b[^\n:=]*:(?!=)", "just test"),
        ("Justfile", r"(?m)^@?test\b[^\n:=]*:(?!=)", "just test"),
        ("Taskfile.yml", r"(?m)^ +test:", "task test"),
    ):
        if file in names and re.search(pattern, read(file)):
            return command
    return None


def _make_target(text: str) -> Optional[str]:
    """`make test` or `make check`, where there is such a target."""
    for target in ("test", "check"):
        if re.search(rf"(?m)^(?:[\w./%-]+[ \t]+)*{target}(?:[ \t]+[\w./%-]+)*[ \t]*::?(?!=)", text):
            return f"make {target}"
    return None


def _autotools(names: frozenset[str], read: Reader) -> Optional[str]:
    if not names & {"configure", "configure.ac", "configure.in"}:
        return None
    makers = {"autogen.sh": "./autogen.sh && ", "bootstrap": "./bootstrap && "}
    maker = next((how for name, how in makers.items() if name in names), "autoreconf -i && ")
    first = "" if "configure" in names else maker
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
    return _first_of(_BY_NAME, names)


def _documents(names: frozenset[str], read: Reader) -> Optional[str]:
    return _first_of(_DOCUMENTS, names)


def _first_of(commands: Iterable[tuple[str, str]], names: frozenset[str]) -> Optional[str]:
    for pattern, command in commands:
        ending = pattern[1:]
        if pattern in names or (pattern[0] == "*" and any(n.endswith(ending) for n in names)):
            return command
    return None


def _dart(names: frozenset[str], read: Reader) -> Optional[str]:
    if "pubspec.yaml" not in names:
        return None
    flutter = re.search(r"(?m)^\s+sdk: flutter\b", read("pubspec.yaml"))
    return "flutter test" if flutter else "dart pub get && dart test"


def _python(names: frozenset[str], read: Reader) -> Optional[str]:
    files = ("pyproject.toml", "setup.cfg", "setup.py", "Pipfile")
    settings = "".join(read(name) for name in files if name in names)
    if names & {"tox.ini", "tox.toml"} or "[tool.tox" in settings:
        return "tox"
    if "noxfile.py" in names:
        return "nox"
    if "[tool.hatch.envs" in settings:
        return "hatch test"
    enter = next((how for lock, key, how in _PYTHON if lock in names or key in settings), "")
    if names & {"pytest.ini", "conftest.py"} or "pytest" in settings:
        return f"{enter}pytest" if enter else "python3 -m pytest"
    script = _python_script(names)
    return script and (f"{enter}python {script}" if enter else f"python3 {script}")


def _python_script(names: frozenset[str]) -> Optional[str]:
    """The arguments of Python that run tests without pytest."""
    if "manage.py" in names:
        return "manage.py test"
    folder = next((name for name in ("tests", "test") if name in names), None)
    if folder and names & {"pyproject.toml", "setup.cfg", "setup.py"}:
        return f"-m unittest discover -s {folder}"
    return "-m unittest" if any(re.fullmatch(r"test_\w+\.py", name) for name in names) else None


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


_DETECTORS = (
    _make,
    _runner,
    _autotools,
    _node,
    _by_name,
    _dart,
    _python,
    _ruby,
    _php,
    _plain_make,
    _documents,
)
