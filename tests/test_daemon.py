"""The end of a process: a signal stops it, whichever thread the kernel gives it to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from minici.daemon import Stop
from tests.support.harness import holds_for

_WAITS = """
import signal, sys, threading
from minici.daemon import Stop
stop = Stop()
stop.on_signals()
ready = threading.Event()
def other():
    ready.set()
    while True:
        threading.Event().wait(60)
thread = threading.Thread(target=other, daemon=True)
thread.start()
ready.wait()
if sys.argv[1] == "other":
    # As the kernel does when the main thread can't take it: this thread alone gets the signal.
    threading.Timer(0.3, lambda: signal.pthread_kill(thread.ident, signal.SIGTERM)).start()
print("ready", flush=True)
stop.wait()
print("stopped", flush=True)
"""


@pytest.mark.parametrize("receiver", ["other", "process"])
def test_a_signal_stops_the_process_whoever_receives_it(receiver: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS, receiver], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if receiver == "process":
        process.send_signal(signal.SIGTERM)
    try:
        assert process.communicate(timeout=20)[0] == "stopped\n"
    finally:
        process.kill()
    assert process.returncode == 0


_AS_BY_DEFAULT = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_terminal_that_goes_stops_the_process_unless_it_was_told_to_stay() -> None:
    words = [sys.executable, "-c", _WAITS, "process"]
    told = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    untold = [sys.executable, "-c", _AS_BY_DEFAULT]  # these tests may have been told themselves
    for prefix, stays in ((told, True), (untold, False)):
        process = subprocess.Popen([*prefix, *words], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGHUP)
            if stays:
                holds_for(lambda: process.poll() is None, 0.5, "it stays")
                process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=20)[0] == "stopped\n"
        finally:
            process.kill()
        assert process.returncode == 0


def test_any_thread_may_set_it() -> None:
    stop = Stop()
    assert not stop.wait(0.01)
    threading.Timer(0.05, stop.set).start()
    begun = time.monotonic()
    assert stop.wait(20) and stop
    assert time.monotonic() - begun < 10
