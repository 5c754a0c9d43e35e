"""Host names and IP addresses in their canonical form. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Optional


def plain_host(name: str) -> str:
    """The one spelling of a host: without brackets and final dots, in small letters."""
    name = name.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_loopback(host: str) -> bool:
    """Return whether only this host can reach a server that listens on `host`."""
    name = plain_host(host)
    return name in ("localhost", "::1") or re.match(r"127(\.\d+){3}\Z", name) is not None


_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


def agent_host(text: str) -> Optional[str]:
    """A host in the one way to write it, or None for what is none: an agent is known by it."""
    if _HOST.fullmatch(text):
        return text.lower()
    try:
        return None if "%" in text else str(ipaddress.IPv6Address(text))
    except ValueError:
        return None
