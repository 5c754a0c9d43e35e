"""Lines that look like a failure, as the usual tools write them."""

from __future__ import annotations

import pytest

from minici.output.failures import failing_lines

FAILING = """\
=================================== FAILURES ===================================
E       assert 3 == 2
FAILED tests/test_tides.py::test_springs - assert 3 == 2
FAIL: test_springs (tests.test_tides.Springs)
ERROR: test_neaps (tests.test_tides.Neaps.test_neaps)
FAILED (failures=1, errors=2)
Traceback (most recent call last):
--- FAIL: TestSprings (0.00s)
    --- FAIL: TestSprings/august (0.00s)
FAIL\texample.org/tides\t0.004s
panic: runtime error: index out of range [3] with length 2
error[E0308]: mismatched types
error: could not compile `tides` due to 1 previous error
test springs::august ... FAILED
thread 'springs::august' panicked at src/springs.rs:9:5:
src/tides.c:12:5: error: unknown type name 'hight'
tides.h:3:10: fatal error: harbours.h: No such file or directory
/usr/bin/ld: tides.c:(.text+0x5): undefined reference to `springs'
/usr/bin/ld: cannot find -ltides
not ok 3 - two springs a month
    not ok 1 - in August
Tests run: 12, Failures: 1, Errors: 0, Skipped: 0
[ERROR] Tests run: 12, Failures: 0, Errors: 2, Skipped: 0
[ERROR] Failed to execute goal
> Task :test FAILED
BUILD FAILED in 3s
make: *** [Makefile:9: test] Error 1
gmake[2]: *** No rule to make target 'tides'.  Stop.
npm ERR! code ELIFECYCLE
npm error Missing script: "tset"
src/tides.ts(3,7): error TS2322: Type 'string' is not assignable to type 'number'.
fatal: not a git repository
/bin/sh: 1: pytset: not found
bash: line 3: pytset: command not found
""".splitlines()

SOUND = """\
============================== 42 passed in 2.31s ==============================
tests/test_errors.py ......
0 errors, 0 failures
ok 3 - two springs a month
not ok 4 - the node moves # TODO not yet
not ok 5 # SKIP no datum
--- PASS: TestSprings (0.00s)
ok  \texample.org/tides\t0.004s
PASS
test result: ok. 3 passed; 0 failed; 0 ignored
Tests run: 12, Failures: 0, Errors: 0, Skipped: 0
src/tides.c:12:5: warning: unused variable 'error'
make[1]: Leaving directory '/src'
npm warn deprecated tides@1.0.0
Compiling failures v0.1.0
    ERROR_LIMIT = 3
test springs::august ... ok
retrying after a fatal: connection reset
""".splitlines()


@pytest.mark.parametrize("line", FAILING)
def test_what_the_usual_tools_write_of_a_failure_is_known(line: str) -> None:
    assert list(failing_lines(f"first\n{line}\nlast\n".encode())) == [1]


@pytest.mark.parametrize("line", SOUND)
def test_what_is_no_failure_is_not_taken_for_one(line: str) -> None:
    assert list(failing_lines(f"first\n{line}\nlast".encode())) == []


def test_each_line_is_counted_once_and_they_rise() -> None:
    text = b"a.c:1:2: error: x: 3: error: y\nfine\nE   x\n\nsrc/b.c:1: error: z"
    assert list(failing_lines(text)) == [0, 2, 4]
