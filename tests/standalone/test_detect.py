"""The command that `python -m minici` offers, by what stands at the top of a repository."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from minici.standalone.detect import FALLBACK, usual_command

TEST = '{"scripts": {"test": "vitest", "build": "vite build"}}'
NPM_INIT = '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'
BUILD = '{"scripts": {"build": "tsc"}}'
CASES: list[tuple[str, Mapping[str, str]]] = [
    ("git show --stat", {}),
    ("git show --stat", {"README.md": "make test", "docs": "", "LICENSE": ""}),
    # make
    ("make test", {"Makefile": "all: x\n\ntest: all\n\t./run\n"}),
    ("make test", {"makefile": "check:\n\ntest ::\n"}),
    ("make test", {"Makefile": "lint test docs: deps\n"}),
    ("make check", {"GNUmakefile": "check: all\n"}),
    ("make", {"Makefile": "tests := a b\ntest = 1\n.PHONY: test\nall:\n\ttest: x\n"}),
    ("make", {"Makefile": "test := 1\nlatest: x\n# test: x\n"}),
    ("make test", {"Makefile": "test:\n", "package.json": TEST}),
    # autotools, meson, CMake
    ("./configure && make check", {"configure": "", "Makefile.in": "", "Makefile.am": ""}),
    ("./configure && make test", {"configure": "", "Makefile.in": "all:\n\ntest: all\n"}),
    ("autoreconf -i && ./configure && make check", {"configure.ac": "", "Makefile.am": ""}),
    ("./autogen.sh && ./configure && make check", {"configure.ac": "", "autogen.sh": ""}),
    ("meson setup build && meson test -C build", {"meson.build": "", "CMakeLists.txt": ""}),
    (
        "cmake -B build && cmake --build build && ctest --test-dir build --output-on-failure",
        {"CMakeLists.txt": ""},
    ),
    # Node.js
    ("npm ci && npm test", {"package.json": TEST, "package-lock.json": ""}),
    ("npm install && npm test", {"package.json": TEST}),
    ("yarn install --frozen-lockfile && yarn test", {"package.json": TEST, "yarn.lock": ""}),
    (
        "yarn install --immutable && yarn test",
        {"package.json": TEST, "yarn.lock": "", ".yarnrc.yml": ""},
    ),
    ("pnpm install --frozen-lockfile && pnpm test", {"package.json": TEST, "pnpm-lock.yaml": ""}),
    ("bun install --frozen-lockfile && bun run test", {"package.json": TEST, "bun.lock": ""}),
    ("npm install && npm run build", {"package.json": BUILD}),
    ("yarn install --frozen-lockfile && yarn build", {"package.json": BUILD, "yarn.lock": ""}),
    ("git show --stat", {"package.json": NPM_INIT}),
    ("git show --stat", {"package.json": "{"}),
    ("git show --stat", {"package.json": "[1]"}),
    ("git show --stat", {"package.json": '{"scripts": "test"}'}),
    # Others
    ("cargo test", {"Cargo.toml": ""}),
    ("go test ./...", {"go.mod": ""}),
    ("./gradlew test", {"gradlew": "", "build.gradle": ""}),
    ("gradle test", {"build.gradle.kts": ""}),
    ("./mvnw -B test", {"mvnw": "", "pom.xml": ""}),
    ("mvn -B test", {"pom.xml": ""}),
    ("mix deps.get && mix test", {"mix.exs": ""}),
    ("dart pub get && dart test", {"pubspec.yaml": "name: tides\n"}),
    ("flutter test", {"pubspec.yaml": "dependencies:\n  flutter:\n    sdk: flutter\n"}),
    ("bazel test //...", {"MODULE.bazel": ""}),
    ("perl Makefile.PL && make test", {"Makefile.PL": "", "t": ""}),
    ("just test", {"justfile": "default: test\n\n@test *args:\n    ./run\n", "Cargo.toml": ""}),
    ("cargo test", {"justfile": "test := 'x'\nlatest:\n", "Cargo.toml": ""}),
    ("task test", {"Taskfile.yml": "tasks:\n  test:\n    cmd: x\n", "go.mod": ""}),
    ("mkdocs build --strict", {"mkdocs.yml": "", "docs": "", "README.md": ""}),
    ("swift test", {"Package.swift": ""}),
    ("dotnet test", {"tides.sln": ""}),
    ("cabal test all", {"tides.cabal": ""}),
    # Python
    ("tox", {"tox.ini": "", "pyproject.toml": "[tool.pytest.ini_options]"}),
    ("nox", {"noxfile.py": ""}),
    ("python3 -m pytest", {"pyproject.toml": "[tool.pytest.ini_options]"}),
    ("python3 -m pytest", {"conftest.py": ""}),
    ("uv run pytest", {"pyproject.toml": "pytest", "uv.lock": ""}),
    ("poetry install && poetry run pytest", {"pyproject.toml": "pytest", "poetry.lock": ""}),
    ("tox", {"pyproject.toml": "[tool.tox]\nlegacy_tox_ini = 'pytest'"}),
    ("hatch test", {"pyproject.toml": "[tool.hatch.envs.hatch-test]\n"}),
    ("poetry install && poetry run pytest", {"pyproject.toml": "[tool.poetry]\npytest = '*'"}),
    ("pdm install && pdm run pytest", {"pyproject.toml": "pytest", "pdm.lock": ""}),
    ("pipenv sync --dev && pipenv run pytest", {"Pipfile": "pytest", "Pipfile.lock": ""}),
    (
        "uv run python -m unittest discover -s tests",
        {"pyproject.toml": "x", "uv.lock": "", "tests": ""},
    ),
    ("python3 -m unittest discover -s tests", {"setup.py": "x", "tests": ""}),
    ("python3 -m unittest", {"test_tides.py": "", "tides.py": ""}),
    ("python3 -m pytest", {"manage.py": "", "pytest.ini": ""}),
    ("git show --stat", {"pyproject.toml": "[project]"}),
    ("python3 manage.py test", {"manage.py": ""}),
    # Ruby, PHP
    ("bundle install && bundle exec rake", {"Gemfile": "", "Rakefile": ""}),
    ("rake", {"Rakefile": ""}),
    ("bundle install && bundle exec rspec", {"Gemfile": "", "spec": ""}),
    ("composer install && composer test", {"composer.json": TEST}),
    ("composer install && vendor/bin/phpunit", {"composer.json": "{}", "phpunit.xml.dist": ""}),
    ("git show --stat", {"composer.json": "{}"}),
]


@pytest.mark.parametrize("command, files", CASES)
def test_the_command_fits_the_files(command: str, files: Mapping[str, str]) -> None:
    assert usual_command(files, files.__getitem__) == command


def test_a_file_that_cant_be_read_says_nothing() -> None:
    names = ("Makefile.in", "package.json", "composer.json", "setup.cfg", "README")
    assert usual_command(names, lambda name: "") == FALLBACK
