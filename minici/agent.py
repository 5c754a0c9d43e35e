"""The agent: `python -m minici.agent config.ini`. How it starts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from minici import openssl
from minici.config import read_agent
from minici.service import Stop, announce, run, warn_if_readable

log = logging.getLogger("minici.agent")

_SUMMARY = (
    "An agent checks commits out and runs commands for a server. The section [agent] of\n"
    "config.ini sets it up; `python -m minici init` writes one."
)


def _main(path: Path, stop: Stop) -> None:
    config = read_agent(path)
    warn_if_readable(config.secret_in)
    if not config.speaks_https:
        openssl.leave_out()
    # Not before it is known what all of it has to load.
    from minici.worker import Agent  # noqa: PLC0415

    agent = Agent(config)
    agent.start()
    announce(f"minici agent: {agent.url}/ -> {config.server}/")
    stop.wait()
    log.info("stopping")
    agent.stop()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run an agent until it is told to stop; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return run(_main, given, "python -m minici.agent config.ini", _SUMMARY)


if __name__ == "__main__":
    sys.exit(main())
