"""Pipes through which `os.splice` moves pages from socket to socket without copying them."""

import fcntl
import os
import time
from typing import NamedTuple

SIZE = 1 << 20
"""Bytes that a pipe holds: what Linux grants to anybody (``/proc/sys/fs/pipe-max-size``)."""

_MOST = 64
"""Pipes at once. Linux grants a user 64 of this size (``fs.pipe-user-pages-soft``), then only tiny ones."""
_SPARE = 16
_RETRY_SECONDS = 10.0


class Pipe(NamedTuple):
    """The two file descriptors of an empty pipe of `SIZE` bytes."""

    read: int
    write: int

    def close(self) -> None:
        """Let both go, with whatever is inside."""
        os.close(self.read)
        os.close(self.write)


class Pipes:
    """The pipes of one process, of which a few are kept for the next who needs one."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lent = 0
        self._spare: list[Pipe] = []
        self._not_before = 0.0

    def take(self) -> Pipe | None:
        """A pipe, or None when there can be no more of full size: then bytes are copied instead."""
        if self._spare:
            pipe = self._spare.pop()
        elif self._lent < self._most and time.monotonic() >= self._not_before:
            made = self._make()
            if made is None:
                self._not_before = time.monotonic() + _RETRY_SECONDS
                return None
            pipe = made
        else:
            return None
        self._lent += 1
        return pipe

    def give_back(self, pipe: Pipe, *, empty: bool) -> None:
        """One that is not empty is closed: what is in it must never reach another session."""
        self._lent -= 1
        if empty and len(self._spare) < _SPARE:
            self._spare.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Close those that are kept."""
        while self._spare:
            self._spare.pop().close()

    @staticmethod
    def _make() -> Pipe | None:
        try:
            pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:  # no more files
            return None
        try:
            fcntl.fcntl(pipe.write, fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:  # this user has too many pages in pipes
            pipe.close()
            return None
        return pipe
