"""One epoll for all relayed sockets of a loop: it costs the loop one callback for a whole batch of events.

Its own file descriptor is watched by the loop, so that everything runs in one thread, without locks. Sockets
are registered once, edge-triggered, for both directions: after that no system call is spent on saying what is
waited for. An event is only a hint (it may be about a socket that had the same number before): every reader
must be content with finding nothing.
"""

import asyncio
import contextlib
import math
import select
import socket
import time
from collections import deque
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
_POLLS, _FEW_EVENTS = 4, 32
"""What is done about a few events often leads to the next at once: so often they are asked for in one turn,
unless there were more of them. Then others have theirs."""
_SWEEP_SECONDS = 5.0
_LEAST_SWEEP_SECONDS = 0.05
_LOOKS = 3
"""Sweeps in the time after which a session is idle, at least: so it is looked at before that is over."""


class Watcher(Protocol):
    """Whoever has a socket in the engine."""

    def on_events(self, events: int) -> None:
        """Something happened to it; must not raise."""
        ...


class Owner(Protocol):
    """Whoever has a session dialled, and is told what becomes of it."""

    def on_connected(self) -> None:
        """The target is there: the first byte may flow, in the next step."""
        ...

    def on_end(self, session: Session) -> None:
        """It has ended; told once, in a step of its own."""
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
        self._over: deque[tuple[Session, Owner]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_at = math.inf
        self._sweep_seconds = _SWEEP_SECONDS
        self.polls = 0
        """How often events were asked for. Of a socket that is new since, no event can be another's."""

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

    def listen(self, sock: socket.socket, watcher: Watcher) -> None:
        """Tell ``watcher`` again and again while clients wait, until `pause` or `forget`."""
        number = sock.fileno()
        self._watchers[number] = watcher
        self._poll.register(number, select.EPOLLIN)

    def pause(self, sock: socket.socket) -> None:
        """Tell nothing of a listening socket until `listen`."""
        self._poll.unregister(sock.fileno())

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
        self._sweep_seconds = min(self._sweep_seconds, session.limits.idle_seconds / _LOOKS)
        moment = session.deadline()
        if self._sweeper is None or moment < self._sweep_at:
            self._sweep_by(moment)

    def remove(self, session: Session) -> None:
        """It has ended."""
        self._sessions.discard(session)

    def over(self, session: Session, owner: Owner) -> None:
        """Tell whose session it was, when whatever ended it is done."""
        if not self._over:
            self.loop.call_soon(self._tell)
        self._over.append((session, owner))

    def _tell(self) -> None:
        while self._over:
            session, owner = self._over.popleft()
            owner.on_end(session)

    def _turn(self) -> None:
        self.now = time.monotonic()
        watchers = self._watchers
        for _ in range(_POLLS):
            happened = self._poll.poll(0, _EVENTS)
            self.polls += 1
            for number, events in happened:
                watcher = watchers.get(number)
                if watcher is not None:
                    watcher.on_events(events)
            if not 0 < len(happened) <= _FEW_EVENTS:
                return

    def _go_on(self) -> None:
        self._woken = False
        self.now = time.monotonic()
        ready, self._ready = self._ready, []
        for work in ready:
            work.go_on()

    def _sweep_by(self, moment: float) -> None:
        """Look at the times of all sessions at ``moment``, or within `_SWEEP_SECONDS` or less."""
        now = time.monotonic()
        seconds = max(min(moment - now, self._sweep_seconds), _LEAST_SWEEP_SECONDS)
        if self._sweeper is not None:
            if self._sweep_at <= now + seconds:
                return
            self._sweeper.cancel()
        self._sweep_at = now + seconds
        self._sweeper = self.loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        # One timer for all: a timer for each would cost every short connection more than it costs this.
        self._sweeper = None
        now = time.monotonic()
        first = now + _SWEEP_SECONDS
        for session in list(self._sessions):
            if session.deadline() <= now:
                end = session.overdue()
                if end is not None:
                    session.finish(end)
                    continue
            elif session.looked_at != session.moved_at and now - session.moved_at >= self._sweep_seconds:
                session.look()
            first = min(first, session.deadline())
            if session.young and now - session.began >= _SWEEP_SECONDS:
                session.young = False
                session.keep_alive()  # not for the many that are over within seconds
        if self._sessions:
            self._sweep_by(first)
