"""The repository elsewhere, which can't be reached for a while, or breaks off."""

from __future__ import annotations

import random

from tests.chaos.trouble import Trouble
from tests.support.git_daemon import GitDaemon
from tests.support.harness import Place
from tests.support.proxy import HANG, PASS, Proxy


class Remote(Trouble):
    """A git daemon behind a proxy. Each trouble comes with a new commit, so that there is
    something to fetch meanwhile."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._repository = place.repository
        self._daemon = place.keep(GitDaemon(place.repository.path.parent))
        self._daemon.start()
        self._proxy = place.keep(Proxy(self._daemon.port))
        self.url = f"git://{self._proxy.address}/{place.repository.path.name}"

    def begin(self, chance: random.Random) -> str:
        noise = f"{chance.getrandbits(8 * 50_000):x}\n"
        self._repository.commit({"noise": noise}, "Noise", "main")
        kind = chance.choice(("stop", "refuse", "hang", "break off", "cut now"))
        if kind == "stop":
            self._daemon.stop()
        elif kind == "refuse":
            self._proxy.refuse()
        elif kind == "hang":
            self._proxy.mode = HANG
        elif kind == "break off":
            self._proxy.cut_after = chance.randrange(40_000)
        else:
            self._proxy.cut()
        return f"remote: {kind}"

    def end(self) -> None:
        self._proxy.mode, self._proxy.cut_after = PASS, None
        self._proxy.listen()
        if not self._daemon.running:
            self._daemon.start()
