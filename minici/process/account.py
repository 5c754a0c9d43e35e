"""The user as whom an agent runs commands."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True)
class Account:
    """A user of this host, with what a login would give its processes."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def named(cls, name: str) -> Account:
        """Return the account with this name. Raises KeyError if there is none."""
        entry = pwd.getpwnam(name)
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return cls(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)

    @property
    def variables(self) -> dict[str, str]:
        """The variables that tell a program who it is and where its home is."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}
