"""Streams of events over HTTP (Server-Sent Events): who follows, how many may, and for how long."""

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from servicekit.http import ApiError

STREAM_SECONDS: Final = 900.0
"""After which a stream ends, so that its client shows a fresh token; it comes again where it was."""

KEEP_ALIVE_SECONDS: Final = 15.0
"""A quiet stream says so often that it lives."""

STREAMS: Final = 5_000
STREAMS_OF_AN_ACCOUNT: Final = 20
MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_Stream = TypeVar("_Stream")


class TooManyStreamsError(ApiError):
    """The account follows its changes in as many places as it may, or the process serves all that it can."""

    def __init__(self) -> None:
        super().__init__(
            "TOO_MANY_STREAMS",
            429,
            "Too many streams of changes are open. Close one, or try again later.",
            headers={"Retry-After": "30"},
        )


class Hints:
    """What one client is to be told and has not taken yet.

    A hint says what to read again, so one that waits stands for all the same that come meanwhile.
    """

    def __init__(self) -> None:
        self._waiting: dict[bytes, None] = {}
        self.told = asyncio.Event()
        """Set while something waits."""

    def tell(self, hint: bytes) -> None:
        """One more; it is a whole event."""
        self._waiting[hint] = None
        self.told.set()

    def take(self) -> bytes:
        """All that wait, in the order in which each was told first."""
        hints = b"".join(self._waiting)
        self._waiting.clear()
        self.told.clear()
        return hints


class Followers(Generic[_Stream]):
    """The open streams of a process, by account."""

    def __init__(self) -> None:
        self._streams: dict[str, dict[int, _Stream]] = {}

    @property
    def accounts(self) -> list[str]:
        """Those that follow."""
        return list(self._streams)

    def __iter__(self) -> Iterator[_Stream]:
        return (stream for streams in self._streams.values() for stream in streams.values())

    def of(self, account_id: str) -> Iterator[_Stream]:
        """The streams of an account."""
        return iter(self._streams.get(account_id, {}).values())

    def require_room(self, account_id: str) -> None:
        """Refuse what would be one stream too many.

        Raises:
            TooManyStreamsError: see there.
        """
        open_streams = sum(map(len, self._streams.values()))
        if open_streams >= STREAMS or len(self._streams.get(account_id, ())) >= STREAMS_OF_AN_ACCOUNT:
            raise TooManyStreamsError

    @contextmanager
    def joined(self, account_id: str, stream: _Stream) -> Generator[None]:
        """``stream`` is one of the account's while the block runs."""
        streams = self._streams.setdefault(account_id, {})
        streams[id(stream)] = stream
        try:
            yield
        finally:
            del streams[id(stream)]
            if not streams:
                del self._streams[account_id]
