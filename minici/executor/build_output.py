"""The output of one running build: masked, kept on disk, and sent to the server."""

from __future__ import annotations

from typing import Callable

from minici.build import STREAMS
from minici.executor.inventory import RunningBuild
from minici.executor.masking import MaskedStream, Masker
from minici.executor.output_streamer import OutputStreamer
from minici.output.checkout_log import CHECKOUT, CheckoutLog
from minici.output.writer import OutputWriter
from minici.web.client import Client


class BuildOutput:
    """Keeps a build's output in its folder, and sends it while it grows. For the slot's thread.

    `superseded` is called, from another thread, when the server has no use for this attempt any
    more. Raises OSError where there is no space.
    """

    def __init__(
        self, client: Client, running: RunningBuild, masker: Masker, superseded: Callable[[], None]
    ) -> None:
        order, folder = running.order, running.folder
        self._output = OutputWriter(folder, order.output_limit)
        self._checkout = CheckoutLog(folder)
        self._streamer = OutputStreamer(
            client, order.attempt_id, self._output, self._checkout, superseded
        )
        names = (CHECKOUT, *STREAMS) if masker else ()
        self._masked: dict[str, MaskedStream] = {name: masker.stream() for name in names}
        self._seconds = 0.0  # when the last piece came

    def append(self, stream: str, data: bytes, seconds: float) -> None:
        """Keep a piece of the command's output; a `process.Sink`."""
        self._seconds = seconds
        if self._masked:
            data = self._masked[stream].feed(data)
        if data:
            self._streamer.append(stream, data, seconds)

    def append_checkout(self, data: bytes) -> None:
        """Keep a piece of what git prints."""
        if self._masked:
            data = self._masked[CHECKOUT].feed(data)
        if data:
            self._streamer.append_checkout(data)

    def end(self) -> dict[str, int]:
        """Send nothing more, and close the files. Does not wait for a call under way.

        Returns what the server has confirmed of each stream, in raw bytes.
        """
        try:
            self._flush()
        finally:
            sent = self._streamer.end()
            self._output.close()
            self._checkout.close()
        return sent

    def _flush(self) -> None:
        """Keep what was held back because it might have been the beginning of a secret value."""
        for stream, masked in self._masked.items():
            rest = masked.feed(b"", last=True)
            if rest and stream == CHECKOUT:
                self._streamer.append_checkout(rest)
            elif rest:
                self._streamer.append(stream, rest, self._seconds)
