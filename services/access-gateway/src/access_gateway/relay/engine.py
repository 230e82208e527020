"""One epoll for all relayed sockets of a loop: it costs the loop one callback for a whole batch of events.

Its own file descriptor is watched by the loop, so that everything runs in one thread, without locks. Sockets
are registered once, edge-triggered, for both directions: after that no system call is spent on saying what is
waited for. An event is only a hint (it may be about a socket that had the same number before): every reader
must be content with finding nothing.
"""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Generator
from typing import Protocol

from access_gateway.relay.pipes import Pipes
from access_gateway.relay.session import Session

BUFFER = 256 * 1024
READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
HANGUP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_BOTH = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_EVENTS = 128
_SWEEP_SECONDS = 5.0
_LEAST_SWEEP_SECONDS = 0.05


class Watcher(Protocol):
    """Whoever has a socket in the engine."""

    def on_events(self, events: int) -> None:
        """Something happened to it; must not raise."""
        ...


class Work(Protocol):
    """A direction that had its share of a turn and could go on."""

    def go_on(self) -> None:
        """Take another share; must not raise."""
        ...


class Engine:
    """The sockets of one loop, while `running`."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        """For bytes that are read and handed on within one step; nobody may keep it."""
        self.pipes = Pipes()
        self.now = time.monotonic()
        """When this turn began."""
        self._poll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._ready: list[Work] = []
        self._woken = False
        self._sessions: set[Session] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        """Serve on the running loop within the block; then cut what is left."""
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self._poll.fileno(), self._turn)
        try:
            yield
        finally:
            for session in list(self._sessions):
                session.cut()
            if self._sweeper is not None:
                self._sweeper.cancel()
            self.loop.remove_reader(self._poll.fileno())
            self._poll.close()
            self.pipes.close()

    @property
    def sessions(self) -> int:
        """Sessions that have not ended."""
        return len(self._sessions)

    def watch(self, sock: socket.socket, watcher: Watcher) -> None:
        """Tell ``watcher`` of every change of a socket, from its present state on."""
        number = sock.fileno()
        self._watchers[number] = watcher
        self._poll.register(number, _BOTH)

    def hand_over(self, sock: socket.socket, watcher: Watcher) -> None:
        """Tell another watcher of a socket that is watched. It is told nothing of what was told before."""
        self._watchers[sock.fileno()] = watcher

    def forget(self, sock: socket.socket) -> None:
        """To be called just before the socket is closed, which takes it out of the epoll."""
        self._watchers.pop(sock.fileno(), None)

    def soon(self, work: Work) -> None:
        """Go on with this in a later turn, after whatever the loop has to do."""
        self._ready.append(work)
        if not self._woken:
            self._woken = True
            self.loop.call_soon(self._go_on)

    def add(self, session: Session) -> None:
        """Mind the times of a session."""
        self._sessions.add(session)
        self._sweep_by(session.deadline())

    def remove(self, session: Session) -> None:
        """It has ended."""
        self._sessions.discard(session)

    def _turn(self) -> None:
        self.now = time.monotonic()
        watchers = self._watchers
        for number, events in self._poll.poll(0, _EVENTS):
            watcher = watchers.get(number)
            if watcher is not None:
                watcher.on_events(events)

    def _go_on(self) -> None:
        self._woken = False
        self.now = time.monotonic()
        ready, self._ready = self._ready, []
        for work in ready:
            work.go_on()

    def _sweep_by(self, moment: float) -> None:
        """Look at the times of all sessions at ``moment``, or within `_SWEEP_SECONDS`."""
        now = self.loop.time()
        seconds = min(max(moment - time.monotonic(), _LEAST_SWEEP_SECONDS), _SWEEP_SECONDS)
        if self._sweeper is not None:
            if self._sweeper.when() <= now + seconds:
                return
            self._sweeper.cancel()
        self._sweeper = self.loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        # One timer for all: a timer for each would cost every short connection more than it costs this.
        self._sweeper = None
        now = time.monotonic()
        first = now + _SWEEP_SECONDS
        for session in list(self._sessions):
            moment = session.deadline()
            if moment <= now:
                session.finish(session.overdue())
                continue
            first = min(first, moment)
            if session.young and now - session.began >= _SWEEP_SECONDS:
                session.young = False
                session.keep_alive()  # not for the many that are over within seconds
        if self._sessions:
            self._sweep_by(first)
