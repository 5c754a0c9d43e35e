"""Ends a process at its n-th step on the disk, or takes the disk's space away. For tests.

Python imports this by itself when the folder is on PYTHONPATH. TEST_CRASH is a folder:
  arm    a number: from now on count the steps, and end at that one, with exit status 77
  full   while it exists, whatever needs space fails with ENOSPC
  trace  while it exists, every step, and every answer sent, is written into it, a line each
Only steps below the folder TEST_CRASH_UNDER count. A write counts twice: before it, and when half
of it has been written.

TEST_CLOCK is a file with the seconds by which the wall clock is off.
"""

import errno
import os
import socket
import sys
import threading
import time

CONTROL = os.environ.get("TEST_CRASH", "")
UNDER = os.path.realpath(os.environ.get("TEST_CRASH_UNDER", "/nonexistent"))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_open, _write, _read, _close = os.open, os.write, os.read, os.close
_fsync, _fdatasync = os.fsync, getattr(os, "fdatasync", os.fsync)
_lock = threading.RLock()  # guards _state
_state = {"left": None, "inside": False}


def _exists(name):
    try:
        os.stat(os.path.join(CONTROL, name))
    except OSError:
        return False
    return True


def _append(line):
    _state["inside"] = True
    try:
        trace = _open(os.path.join(CONTROL, "trace"), os.O_WRONLY | os.O_APPEND)
    finally:
        _state["inside"] = False
    _write(trace, line.encode("utf-8", "replace") + b"\n")
    _close(trace)


def _armed():
    """The steps left until the end, or None."""
    if _state["left"] is None and _exists("arm"):
        _state["inside"] = True
        try:
            arm = _open(os.path.join(CONTROL, "arm"), os.O_RDONLY)
            _state["left"] = int(_read(arm, 20))
            _close(arm)
            os.unlink(os.path.join(CONTROL, "arm"))
        finally:
            _state["inside"] = False
    return _state["left"]


def step(name, path, space=True):
    """One step on the disk. Returns True when the step itself is to be cut in half."""
    with _lock:
        if _state["inside"]:
            return False
        if _exists("trace"):
            _append(f"{name} {path}")
        if space and _exists("full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if _armed() is None:
            return False
        _state["left"] -= 1
        if _state["left"] == 0:
            os._exit(77)
        if name == "write":
            _state["left"] -= 1
            return _state["left"] == 0
        return False


def _below(path):
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    whole = os.path.realpath(os.path.dirname(os.path.abspath(os.fsdecode(path))))
    whole = os.path.join(whole, os.path.basename(os.fsdecode(path)))
    return whole if whole == UNDER or whole.startswith(UNDER + os.sep) else None


def _behind(descriptor):
    try:
        return _below(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return None


def write(descriptor, data, *rest):
    path = _behind(descriptor)
    if path is not None and step("write", path):
        _write(descriptor, bytes(data)[: len(data) // 2])
        os._exit(77)
    return _write(descriptor, data, *rest)


def _counted(name, real):
    def call(descriptor, *rest):
        path = _behind(descriptor if isinstance(descriptor, int) else descriptor.fileno())
        if path is not None:
            step(name, path, space=name not in ("ftruncate",))
        return real(descriptor, *rest)

    return call


def _on_event(event, arguments):
    if event == "open":
        path, _, flags = arguments
        below = _below(path) if isinstance(flags, int) and flags & WRITING else None
        if below is not None:
            new = not os.path.exists(below)
            step("open", below, space=new)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"):
        below = _below(arguments[0])
        if below is not None:
            step(event[3:], below, space=event in ("os.mkdir", "os.rename", "os.link"))


def _traced_send(real):
    def send(self, data, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6) and _exists("trace"):
            with _lock:
                _append("send " + bytes(data[:12]).decode("latin-1").strip())
        return real(self, data, *rest)

    return send


if CONTROL:
    os.write = write
    os.fsync = _counted("fsync", _fsync)
    os.fdatasync = _counted("fsync", _fdatasync)
    for _name in ("pwrite", "writev", "pwritev", "ftruncate", "posix_fallocate"):
        if hasattr(os, _name):
            setattr(os, _name, _counted(_name, getattr(os, _name)))
    socket.socket.send = _traced_send(socket.socket.send)
    socket.socket.sendall = _traced_send(socket.socket.sendall)
    sys.addaudithook(_on_event)


def _jump():
    try:
        with open(os.environ["TEST_CLOCK"], encoding="ascii") as clock:
            return float(clock.read() or 0)
    except OSError:
        return 0.0


_time, _time_ns = time.time, time.time_ns

if "TEST_CLOCK" in os.environ:
    time.time = lambda: _time() + _jump()
    time.time_ns = lambda: _time_ns() + int(_jump() * 1e9)
