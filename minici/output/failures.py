"""Lines that look like a failure, as the usual tools write them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator

# The beginnings of lines, without control sequences.
_BEGINNINGS = (
    rb"=+ (?:FAILURES|ERRORS) =+$|FAILED \S+::|E   +\S",  # pytest
    rb"(?:FAIL|ERROR): \w+ \(|FAILED \((?:failures|errors)=",  # unittest
    rb"Traceback \(most recent call last\):",
    rb"[ \t]*--- FAIL: |FAIL(?:$|[ \t]+\S)|panic: ",  # go test, and FAIL of Jest
    rb"test \S+ \.\.\. FAILED$|thread '[^'\n]*' (?:\(\d+\) )?panicked at ",  # cargo test
    rb"error(?:\[\w+\])?: |Error: ",  # cargo, git, and many more
    rb"[ \t]*not ok \d+(?![^\n]*# *(?:TODO|SKIP|todo|skip))",  # TAP
    rb"(?:\[ERROR\] )?Tests run: \d+, (?:Failures: [1-9]|Failures: 0, Errors: [1-9])",  # JUnit
    rb"\[ERROR\] \S|FAILURE: |BUILD FAILED|> Task \S+ FAILED$",  # Maven, Ant, Gradle
    rb"g?make(?:\[\d+\])?: \*\*\* |ninja: build stopped|CMake Error|npm (?:ERR!|error) \S",
    rb"fatal: ",  # git
)
# Within lines: gcc and clang, the linker, a shell, tsc. Few first bytes make the search fast.
_MIDDLES = (
    rb":(?:\d+: (?:fatal )?error: | undefined reference to | cannot find -l"
    rb"| (?:command )?not found$)|\): error [A-Z]+\d+: "
)
_BEGINNING = re.compile(b"^(?:" + b"|".join(_BEGINNINGS) + b")", re.MULTILINE)
_MIDDLE = re.compile(_MIDDLES, re.MULTILINE)


def failing_lines(text: bytes) -> Iterator[int]:
    """Yield, for each line that looks like a failure, the number of lines before it."""
    places = {found.start() for found in _BEGINNING.finditer(text)}
    places.update(text.rfind(b"\n", 0, found.start()) + 1 for found in _MIDDLE.finditer(text))
    line, counted = 0, 0
    for place in sorted(places):
        line += text.count(b"\n", counted, place)
        counted = place
        yield line
