"""Times as the contract writes them: ISO 8601 in UTC, with milliseconds and `Z`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Optional


def utc_now() -> str:
    """This moment as the contract writes it."""
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    return now.isoformat(timespec="milliseconds") + "Z"


def parse_time(text: object) -> Optional[datetime]:
    """An ISO 8601 time of a record (`...Z`) as an aware datetime; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
