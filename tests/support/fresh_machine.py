"""This machine as it would be without minici, for the steps that documents tell root to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.system import MARKER

_COPIED = ("passwd", "group", "shadow", "gshadow", "login.defs", "hosts", "nsswitch.conf")
_REPLACED = ("/etc", "/opt", "/var/lib")


class FreshMachine:
    """A mount namespace in which root's changes to /etc, /opt and /var/lib go with the test.

    For root, on Linux. `systemctl` only notes its words, in the file `enabled`.
    """

    def __init__(self, folder: Path, marker: str) -> None:
        self.root = folder / "machine"
        self.enabled = folder / "enabled"
        self._marker = marker
        self._folder = folder
        for name in _REPLACED:
            self.at(name).mkdir(parents=True)
        for path in (Path("/etc") / name for name in _COPIED):
            if path.is_file():
                shutil.copy2(path, self.at(path))
        if Path("/etc/alternatives").is_dir():
            shutil.copytree("/etc/alternatives", self.at("/etc/alternatives"), symlinks=True)
        self.at("/etc/systemd/system").mkdir(parents=True)
        self._programs = folder / "programs"
        self._programs.mkdir()
        (self._programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{self.enabled}\n')
        (self._programs / "systemctl").chmod(0o755)

    def at(self, path: object) -> Path:
        """Where a path of that machine is on this one."""
        return self.root / str(path).lstrip("/")

    def call(self, script: str, cwd: Path) -> str:
        """Run a script of root's there, which must succeed; return what it printed."""
        done = subprocess.run(
            self._words(script), cwd=cwd, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str) -> Service:
        """Start an installed unit as systemd does: its state folder, its user, its program."""
        text = self.at(f"/etc/systemd/system/{name}.service").read_text(encoding="utf-8")
        unit = dict(re.findall(r"(?m)^(\w+)=(.*)$", text))
        user, state = unit["User"], f"/var/lib/{unit['StateDirectory']}"
        script = (
            f"install -d -o {user} -m {unit['StateDirectoryMode']} {state}\n"
            f"cd {unit['WorkingDirectory']}\n"
            f"exec setpriv --reuid={user} --regid={user} --init-groups "
            f"env -i PATH=/usr/local/bin:/usr/bin:/bin HOME={state} {MARKER}={self._marker} "
            f"{unit['ExecStart']}\n"
        )
        return Service(self._words(script), self._folder / f"{name}.log")

    def _words(self, script: str) -> list[str]:
        mounts = "".join(f"mount --bind '{self.at(name)}' {name}\n" for name in _REPLACED)
        path = f"PATH={self._programs}:/usr/sbin:/usr/bin:/sbin:/bin\n"
        return ["unshare", "--mount", "/bin/sh", "-e", "-c", mounts + path + script]


class Service:
    """A running unit."""

    def __init__(self, words: list[str], log: Path) -> None:
        self._log = log
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def port(self) -> int:
        """The port of its ready line; 0 while it does not answer yet. It must be running."""
        assert self._process.poll() is None, self.log
        found = re.search(r"(?m)^minici (?:server|agent): http://[^/\s]+:(\d+)", self.log)
        return int(found[1]) if found else 0

    def stop(self) -> int:
        """Stop it as systemd does; return its exit status."""
        self._process.terminate()
        return self._process.wait(30)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
