"""Two plain sockets, joined: bytes are received and sent, or spliced where there are many."""

import contextlib
import errno
import os
import select
import socket
from typing import Any, NamedTuple

from access_gateway.relay.engine import BUFFER, HANGUP, READABLE, WRITABLE, Engine, Owner
from access_gateway.relay.pipes import SIZE, Pipe
from access_gateway.relay.session import End, Limits, Session
from access_gateway.relay.sockets import keep_alive, no_delay, reset, taken

_ROUNDS = 4
"""How often a direction reads in one turn, before others have theirs."""
_CONNECTING = frozenset({0, errno.EINPROGRESS})
_FEW = 32 * 1024
_FEW_IN_A_ROW = 8
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

Address = tuple[Any, ...]
"""As `socket.socket.connect` takes it."""


class _Flow:
    """One direction: what ``source`` sends goes to ``sink``. It watches ``source``, ``back`` the sink."""

    __slots__ = (
        *("back", "done", "few", "hangup", "in_pipe", "moved", "pipe", "queued", "readable", "rest"),
        *("session", "sink", "sink_number", "source", "source_number", "writable"),
    )

    def __init__(self, session: "SocketSession", source: socket.socket, sink: socket.socket) -> None:
        self.session, self.source, self.sink = session, source, sink
        self.source_number, self.sink_number = source.fileno(), sink.fileno()
        self.back: _Flow
        self.moved = 0
        self.readable = self.writable = False  # the engine tells what they are
        self.hangup = False  # the end of what is read is known to be near: read until it
        self.done = False
        self.queued = False
        self.rest: memoryview | None = None
        self.pipe: Pipe | None = None
        self.in_pipe = self.few = 0

    def on_events(self, events: int) -> None:
        """See `Watcher`: events of ``source``."""
        back = self.back
        if events & WRITABLE and not back.writable:
            back.writable = True
            if back.readable or back.rest is not None or back.in_pipe:
                back.go()
        if events & READABLE and not self.done:  # an event tells of the end that was read again and again
            self.readable = True
            if events & HANGUP:
                self.hangup = True
            if self.writable:
                self.go()

    def go(self) -> None:
        """Pump, unless this direction has its turn to come; a socket that fails ends the session."""
        if self.queued or self.done or self.session.end is not None:
            return
        self.session.moved_at = self.session.engine.now
        try:
            self._pump()
        except OSError:
            self.session.finish(End.BROKEN)

    def go_on(self) -> None:
        """See `Work`."""
        self.queued = False
        self.go()

    def end(self) -> None:
        """The session has ended. What refers to each other would wait for the garbage collector."""
        self.done = True
        self.let_go()
        del self.session, self.back

    def let_go(self) -> None:
        """Keep no pipe any more."""
        if self.pipe is not None:
            self.session.engine.pipes.give_back(self.pipe, empty=not self.in_pipe)
            self.pipe = None
        self.rest = None

    def _pump(self) -> None:
        for _ in range(_ROUNDS):
            if (self.in_pipe or self.rest is not None) and not self._deliver():
                return
            if not self.readable:
                return
            throttle = self.session.throttle
            if throttle is not None and (seconds := throttle.wait()):
                self.queued = True
                self.session.engine.loop.call_later(seconds, self.go_on)
                return
            most = SIZE if throttle is None else throttle.piece
            count = self._receive(most) if self.pipe is None else self._splice(self.pipe, most)
            if count:
                self.moved += count
                if throttle is not None:
                    throttle.spend(count)
            if self.done or self.session.end is not None:
                return
        if self.readable and self.writable:
            self.queued = True
            self.session.engine.soon(self)

    def _deliver(self) -> bool:
        """Send what waits; whether nothing waits any more."""
        try:
            if self.rest is not None:
                self.rest = self.rest[self.sink.send(self.rest) :] or None
            while self.in_pipe:
                assert self.pipe is not None
                self.in_pipe -= os.splice(self.pipe.read, self.sink_number, self.in_pipe, flags=_SPLICE)
        except BlockingIOError:
            self.writable = False
        if self.rest is not None:
            self.writable = False
        return self.rest is None and not self.in_pipe

    def _receive(self, most: int) -> int:
        engine = self.session.engine
        room = min(most, BUFFER)
        try:
            count = self.source.recv_into(engine.buffer, room)
        except BlockingIOError:
            self.readable = False
            return 0
        if not count:
            self._finish()
            return 0
        # Less than there was room for: nothing is left. What comes later is a new event; of an end that was
        # there already, the event that brought us here has told.
        self.readable = count == room or self.hangup
        data = engine.view[:count]
        try:
            sent = self.sink.send(data)
        except BlockingIOError:
            sent = 0
        if sent < count:
            self.rest = memoryview(bytes(data[sent:]))
            self.writable = False
        elif count == BUFFER:
            self.pipe = engine.pipes.take()  # so much at once: more will come, and need not be copied
            self.few = 0
        return count

    def _splice(self, pipe: Pipe, most: int) -> int:
        try:
            count = os.splice(self.source_number, pipe.write, most, flags=_SPLICE)
        except BlockingIOError:
            self.readable = False
            return 0
        if not count:
            self._finish()
            return 0
        self.in_pipe = count
        self.few = self.few + 1 if count < _FEW else 0
        if self._deliver() and self.few > _FEW_IN_A_ROW:
            self.let_go()
        return count

    def _finish(self) -> None:
        """Everything was read and delivered: tell the sink, or close when both directions have."""
        self.readable = False
        self.done = True
        self.let_go()
        if self.back.done:
            self.session.finish(End.CLOSED)
        else:
            with contextlib.suppress(OSError):  # it has closed already; what it said is still delivered
                self.sink.shutdown(socket.SHUT_WR)


class _Dial(NamedTuple):
    """A session whose target is still being connected. Watches the target."""

    session: "SocketSession"
    address: Address
    until: float
    polls: int

    def on_events(self, events: int) -> None:
        """See `Watcher`."""
        if events & WRITABLE == select.EPOLLOUT and self.session.engine.polls > self.polls:
            self.session.dialled(hangup=bool(events & HANGUP))
        else:  # it has failed, or was told of another socket of the same number: ask this one
            self.session.ask()


class SocketSession(Session):
    """See `Session`; between two non-blocking sockets, which it closes. `start` or `dial` begins it."""

    __slots__ = ("_client", "_dial", "_down", "_owner", "_target", "_up", "engine")

    def __init__(self, engine: Engine, client: socket.socket, target: socket.socket, limits: Limits) -> None:
        super().__init__(limits)
        self.engine = engine
        self._client, self._target = client, target
        self._dial: _Dial | None = None
        self._owner: Owner | None = None
        self._up, self._down = _Flow(self, client, target), _Flow(self, target, client)
        self._up.back, self._down.back = self._down, self._up

    def start(self) -> None:
        """Begin; both are connected."""
        engine = self.engine
        try:
            no_delay(self._client)
            no_delay(self._target)
            engine.watch(self._target, self._down)
            engine.watch(self._client, self._up)
        except OSError:
            self.finish(End.BROKEN)
            return
        engine.add(self)

    def dial(self, address: Address, seconds: float, owner: Owner) -> None:
        """Connect the target first, then begin, and tell its owner.

        When that fails or takes longer, the session ends as UNREACHABLE.
        """
        self._owner = owner
        self._dial = _Dial(self, address, self.began + seconds, self.engine.polls)
        try:
            if self._target.connect_ex(address) not in _CONNECTING:
                self.finish(End.UNREACHABLE)
                return
            self.engine.watch(self._target, self._dial)
        except OSError:
            self.finish(End.UNREACHABLE)
            return
        self.engine.add(self)

    def ask(self) -> None:
        """Look what has become of the connect."""
        if self._dial is None:
            return
        outcome = self._target.connect_ex(self._dial.address)
        if not outcome:
            self.dialled(hangup=True)
        elif outcome != errno.EALREADY:
            self.finish(End.UNREACHABLE)

    def dialled(self, *, hangup: bool) -> None:
        """The target is connected, and maybe has said all it will already: nobody tells of that again."""
        if self._dial is None or self._owner is None:
            return
        self._dial = None
        self._owner.on_connected()
        if self.end is not None:
            return
        self.moved_at = self.engine.now
        self.engine.hand_over(self._target, self._down)
        self._up.writable = self._down.readable = True  # perhaps: the next step finds out
        self._down.hangup = hangup
        try:
            self.engine.watch(self._client, self._up)
        except OSError:
            self.finish(End.BROKEN)

    def deadline(self) -> float:
        """See `Session`."""
        return super().deadline() if self._dial is None else self._dial.until

    def overdue(self) -> End | None:
        """See `Session`."""
        return super().overdue() if self._dial is None else End.UNREACHABLE

    @property
    def bytes_to_device(self) -> int:
        """See `Session`."""
        return self._up.moved

    @property
    def bytes_from_device(self) -> int:
        """See `Session`."""
        return self._down.moved

    def finish(self, end: End) -> None:
        """See `Session`."""
        if self.end is not None:
            return
        self.end = end
        self._dial = None
        engine = self.engine
        engine.remove(self)
        for sock in (self._client, self._target):
            engine.forget(sock)
            if end is End.CLOSED:
                sock.close()
            else:
                reset(sock)
        self._up.end()
        self._down.end()
        self.tell()
        if self._owner is not None:
            engine.over(self, self._owner)
            self._owner = None

    def taken(self) -> int:
        """See `Session`."""
        return taken(self._client) + taken(self._target)

    def keep_alive(self) -> None:
        """See `Session`."""
        keep_alive(self._client)
        keep_alive(self._target)
