"""Commands that arrive while others are being run are run together: one transaction, each statement once."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.commands import (
    AcceptShare,
    AnyCommand,
    CommandAccepted,
    RejectShare,
    RequestShare,
    RevokeShare,
)

_AT_ONCE = 2
"""Transactions under way. With more of them fewer commands would come together in each."""

_PATIENCE_SECONDS = 0.1
"""What takes longer waits for somebody's lock, or for the database: the next ones do not wait behind it."""

_MOST = 32


@dataclass(slots=True, eq=False)
class Entry:
    """A command that waits; ``context`` is its sender's, with the correlation id."""

    command: AnyCommand
    answer: "asyncio.Future[CommandAccepted]"
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    @property
    def keys(self) -> set[str]:
        """What no other command of the same transaction may name."""
        command = self.command
        match command:
            case RequestShare() | RevokeShare():
                devices = set(command.device_ids)
            case AcceptShare() | RejectShare():
                devices = {command.device_id}
            case _:
                devices = set[str]()
        return {f"command {command.command_id}", f"actor {command.actor}", *devices}

    @property
    def sociable(self) -> bool:
        """Whether it may share a transaction: each of its statements is one that `Gate` knows."""
        return isinstance(self.command, RequestShare | RevokeShare | AcceptShare | RejectShare)


class Together:
    """Hands commands to ``run``, several at a time when they wait, those with a key in common in order.

    ``run`` answers every entry that it is given.
    """

    def __init__(self, run: Callable[[Sequence[Entry]], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._waiting: deque[Entry] = deque()
        self._workers = 0  # counted by hand: a task is not done at once when its last line has run
        self._running: set[asyncio.Task[None]] = set()

    async def answer(self, command: AnyCommand) -> CommandAccepted:
        """The answer to a command; raises what `run` found."""
        entry = Entry(command, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._workers < _AT_ONCE:
            self._workers += 1
            self._keep(asyncio.create_task(self._work()))
        return await entry.answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                running = asyncio.create_task(self._run(self._take()))
                self._keep(running)
                await asyncio.wait({running}, timeout=_PATIENCE_SECONDS)
        finally:
            self._workers -= 1  # nothing is awaited since the queue was seen empty

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _take(self) -> list[Entry]:
        """The next ones that may go together; whoever is passed over stays before those with his keys."""
        first = self._waiting.popleft()
        taken, held, left = [first], first.keys, deque[Entry]()
        while self._waiting and first.sociable and len(taken) < _MOST:
            entry = self._waiting.popleft()
            keys = entry.keys
            if entry.sociable and held.isdisjoint(keys):
                taken.append(entry)
            else:
                left.append(entry)
            held |= keys
        self._waiting.extendleft(reversed(left))
        return taken
