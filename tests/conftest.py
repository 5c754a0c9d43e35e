"""What every test may ask for: a repository, a place for its processes, their logs on failure."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Place
from tests.support.patient import Patient
from tests.support.repositories import Repository


def pytest_configure() -> None:
    """Have Ctrl-C reach what the tests start: a shell's background job ignores it, and so would
    whatever it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a minute of waiting is begun first and looked at last."""
    items.sort(key=_is_patient)


def _is_patient(item: pytest.Item) -> bool:
    return "patient" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that tests read. Whoever adds to one takes `own_repository`."""
    return Repository(tmp_path_factory.mktemp("shared") / "repository")


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory, repository: Repository) -> Iterator[Patient]:
    """What waits for a minute while the other tests go on."""
    place = Place(tmp_path_factory.mktemp("patient"), repository)
    yield Patient(place)
    _ended(place)


@pytest.fixture(scope="session", autouse=True)
def _head_start(request: pytest.FixtureRequest) -> None:
    if any(_is_patient(item) for item in request.session.items):
        request.getfixturevalue("patient")


@pytest.fixture
def own_repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def _ended(place: Place) -> None:
    problems = place.close()
    assert not problems, "\n".join(problems)


@pytest.fixture
def place(tmp_path: Path, repository: Repository) -> Iterator[Place]:
    """Where a test starts its processes; all end with it."""
    place = Place(tmp_path, repository)
    yield place
    _ended(place)


@pytest.fixture
def open_place(repository: Repository) -> Iterator[Place]:
    """A place to which other users get through; pytest shuts its own folders again and again."""
    folder = Path(tempfile.mkdtemp(prefix="minici-open-"))
    folder.chmod(0o711)
    place = Place(folder, repository)
    yield place
    _ended(place)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, repository: Repository) -> Iterator[Place]:
    """Where a module starts the processes that its tests share."""
    place = Place(tmp_path_factory.mktemp("module"), repository)
    yield place
    _ended(place)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for place in Place.living:
            if _is_patient(item) or "patient" not in place.folder.name:
                report.sections.extend(place.logs())
