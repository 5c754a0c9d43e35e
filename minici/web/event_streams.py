"""People who watch while something goes on: all their connections, served by one thread.

With a thread for each of them, every line of a build wakes them all, and three hundred threads
then stand between the next build and its agent. Here a line costs each viewer one `send`, and
what does not fit into a connection waits until it does, whoever else watches.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from typing import Callable, Optional

from minici.web.routing import EventStream
from minici.web.tls import NOT_YET

log = logging.getLogger("minici.web.routing")

TAKE_SECONDS = 60.0  # for what was sent to be taken
SILENCE = 15.0  # seconds after which a viewer is sent a sign that the connection lives
_STUMBLE = 0.1  # seconds: a fault that comes back at once takes no whole processor
_REST = 0.0001  # seconds between two rounds for each viewer: a flood takes no whole processor


class _Subscriber:
    """One connection: what it is still to be sent, and when it last took something."""

    def __init__(
        self,
        connection: socket.socket,
        event_stream: EventStream,
        gone: Callable[[], None],
        now: float,
    ) -> None:
        self.connection = connection
        self.event_stream = event_stream
        self.gone = gone
        self.pending: bytes = b""
        self.moved = now
        self.interest = 0  # what the selector is asked for


class EventSender:
    """The connections of those who watch. `add`, `wake` and `stop` are for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what other threads bring: the next four
        self._arrived: list[_Subscriber] = []
        self._news: set[int] = set()
        self._woken = False
        self._stopping = False
        self._thread: Optional[threading.Thread] = None
        # The rest is the thread's own.
        self._viewers: dict[int, dict[_Subscriber, None]] = {}  # by subject
        self._ready: dict[_Subscriber, None] = {}  # may be sent something, in this order
        self._rested = 0.0  # when the next round for news may begin
        self._checked = 0.0

    def add(
        self, connection: socket.socket, event_stream: EventStream, gone: Callable[[], None]
    ) -> None:
        """Take over a connection whose head has been sent: nobody else uses it from now on.

        When it has ended, `event_stream.close` and then `gone` are called, in another thread.
        """
        connection.setblocking(False)
        viewer = _Subscriber(connection, event_stream, gone, time.monotonic())
        with self._lock:
            refused = self._stopping
            if not refused:
                self._arrived.append(viewer)
                self._begin()
                self._rouse()
        if refused:
            _end(viewer)

    def wake(self, subject: int) -> None:
        """There is news of a subject: its viewers are sent it, if there are any yet or still."""
        with self._lock:
            if self._thread is not None and not self._stopping:
                self._news.add(subject)
                self._rouse()

    def stop(self) -> None:
        """End all connections; they are made again to whoever serves next."""
        with self._lock:
            thread = self._thread
            if thread is not None and not self._stopping:
                self._rouse()
            self._stopping = True
        if thread is not None:
            thread.join()

    def _begin(self) -> None:
        if self._thread is not None:
            return
        self._selector = selectors.DefaultSelector()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="viewers", daemon=True)
        self._thread.start()

    def _rouse(self) -> None:
        """The lock is held by the caller."""
        if not self._woken:
            self._woken = True
            self._ringer.send(b"\0")

    # The thread.

    def _serve(self) -> None:
        while self._take_in():
            try:
                self._go_round()
            except Exception:
                log.exception("internal error while events were sent; the next ones go on")
                time.sleep(_STUMBLE)
        for viewer in [each for viewers in self._viewers.values() for each in viewers]:
            self._drop(viewer)
        self._selector.close()
        self._bell.close()
        self._ringer.close()

    def _go_round(self) -> None:
        """Wait for something to do, and do it for everyone whom it concerns."""
        for key, mask in self._selector.select(self._pause()):
            if key.data is None:
                self._bell.recv(4096)
            elif mask & selectors.EVENT_WRITE:
                self._ready[key.data] = None
            elif mask & selectors.EVENT_READ:
                self._listen(key.data)
        ready, self._ready = self._ready, {}
        for viewer in ready:
            self._advance(viewer)
        self._check(time.monotonic())

    def _take_in(self) -> bool:
        """Make ready who has arrived and who is to have news; False at the end."""
        now = time.monotonic()
        with self._lock:
            arrived, self._arrived, self._woken = self._arrived, [], False
            news: set[int] = set()
            if now >= self._rested:
                news, self._news = self._news, news
            stopping = self._stopping
        for viewer in arrived:
            self._viewers.setdefault(viewer.event_stream.subject, {})[viewer] = None
            self._ready[viewer] = None
        told = [each for subject in news for each in self._viewers.get(subject, ())]
        self._ready.update(dict.fromkeys(each for each in told if not each.pending))
        if told:
            self._rested = now + _REST * len(told)
        return not stopping

    def _pause(self) -> Optional[float]:
        """Return the seconds until there is something to do by itself."""
        if self._ready:
            return 0
        if self._news:
            return max(0.0, self._rested - time.monotonic())
        return 1.0 if self._viewers else None

    def _advance(self, viewer: _Subscriber) -> None:
        """Send a viewer one piece, as far as it takes it."""
        try:
            if not viewer.pending:
                following = viewer.event_stream.more()
                if following is None:
                    self._drop(viewer)
                    return
                viewer.pending = following
            if viewer.pending:
                sent = viewer.connection.send(viewer.pending)
                viewer.pending = viewer.pending[sent:]
                viewer.moved = time.monotonic()
                self._ready[viewer] = None
            self._ask_for(viewer, selectors.EVENT_READ)
        except NOT_YET:
            self._ask_for(viewer, selectors.EVENT_READ | selectors.EVENT_WRITE)
        except OSError:
            self._drop(viewer)
        except Exception:
            log.exception("an event for a viewer can't be made: its connection ends")
            self._drop(viewer)

    def _ask_for(self, viewer: _Subscriber, interest: int) -> None:
        if viewer.interest == interest:
            return
        if viewer.interest:
            self._selector.modify(viewer.connection, interest, viewer)
        else:
            self._selector.register(viewer.connection, interest, viewer)
        viewer.interest = interest

    def _listen(self, viewer: _Subscriber) -> None:
        """A viewer has nothing to say: what comes is only its end."""
        try:
            ended = not viewer.connection.recv(4096)
        except NOT_YET:
            ended = False
        except OSError:
            ended = True
        if ended:
            self._drop(viewer)

    def _check(self, now: float) -> None:
        """Each second: who has heard nothing for long, and who takes nothing."""
        if now < self._checked + 1:
            return
        self._checked = now
        for viewer in [each for viewers in self._viewers.values() for each in viewers]:
            if viewer.pending and now > viewer.moved + TAKE_SECONDS:
                self._drop(viewer)
            elif not viewer.pending and now > viewer.moved + SILENCE:
                viewer.pending = viewer.event_stream.sign_of_life
                self._ready[viewer] = None

    def _drop(self, viewer: _Subscriber) -> None:
        self._ready.pop(viewer, None)
        subject = viewer.event_stream.subject
        self._viewers[subject].pop(viewer, None)
        if not self._viewers[subject]:
            del self._viewers[subject]
        if viewer.interest:
            self._selector.unregister(viewer.connection)
        _end(viewer)


def _end(viewer: _Subscriber) -> None:
    try:
        viewer.connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    viewer.connection.close()
    viewer.event_stream.close()
    viewer.gone()
