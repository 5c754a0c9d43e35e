"""Leaving OpenSSL out of a process that has no use for it.

`http.client` and `hashlib` load it wherever it is, whether anybody speaks HTTPS or not: that is 5
of the 27 MB that an agent would take. Both do without where Python was built so, and that is what
they are shown.
"""

from __future__ import annotations

import importlib.util
import sys

# What hashlib has of its own. Some systems build Python without, and use OpenSSL's instead.
_SHA2 = ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")
_OWN_HASHES = ("_md5", "_sha1", *_SHA2, "_sha3", "_blake2")


def leave_out() -> bool:
    """Have nothing that is imported from now on load OpenSSL; whether that was possible.

    It is not once something has loaded it, and nothing then changes. For the start of a process.
    """
    loaded = any(name in sys.modules for name in ("_ssl", "_hashlib"))
    if loaded or not all(map(importlib.util.find_spec, _OWN_HASHES)):
        return False
    for name in ("ssl", "_hashlib"):
        sys.modules[name] = None  # type: ignore[assignment]  # an ImportError, by Python's rules
    return True
