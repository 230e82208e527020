"""Live updates: the change feed, told to each account as far as it concerns him (Server-Sent Events).

One reader of the feed serves all streams of this process. A stream's events carry `<generation>-<change>` as
their id; whoever comes again with the last one misses nothing. Events:

| event | data | meaning |
|---|---|---|
| ``ready`` | ``{}`` | everything from here on is told; read your lists now |
| ``devices`` | ``{"device_ids": [...]}`` | these may look different now; none: the list itself may |
| ``invitations`` | ``{}`` | the invitations may be others now |
| ``activity`` | ``{"device_ids": [...]}`` | of these, who is connected may be others now; none: of any |
| ``reload`` | ``{}`` | it cannot be told what happened since: read everything again |
| ``alive`` | ``{}`` | nothing happened for 15 s; whoever hears nothing for longer has lost the stream |

`activity` is about what belongs to no generation: it has no id and is not told again to who comes back.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import asyncpg
from fastapi.sse import format_sse_event
from pydantic_core import to_json

from permission_projector.activity_hints import Hints
from permission_projector.waiting import Notifications
from servicekit import pg, streams
from servicekit.listening import set_within
from servicekit.logging import get_logger

log = get_logger(__name__)

_POLL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_MOST_CHANGES: Final = 100
"""Read by one statement."""

_FURTHEST: Final = 20_000
"""Changes that somebody may be behind and still be told of each; beyond, reading everything is less work."""

_MOST_WAITING: Final = 200
"""Events for one stream that its client has not taken; with more, it is told to reload."""

_ACTIVITY_SECONDS: Final = 0.25
"""Between two looks at what comes and goes: many hints are told as one."""

_LISTEN_SECONDS: Final = 5.0
"""To wait, as the process starts, until hints are heard."""

_PLACE: Final = re.compile(r"^([1-9][0-9]{0,8})-(0|[1-9][0-9]{0,17})$")


class Place(NamedTuple):
    """In the change feed: which generation's, and the last change that was told."""

    generation: int
    change: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.change}"

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """The place that an event's id names; None when it names none."""
        match = _PLACE.match(text)
        return None if match is None else cls(int(match[1]), int(match[2]))


class Happening(NamedTuple):
    """What to tell a stream: ``device_ids`` as in the event of that name, None when there is none to send."""

    place: Place
    device_ids: Sequence[str] | None
    invitations: bool


class Activity(NamedTuple):
    """To tell a stream that devices came or went, or connections began or ended; none: of whatever device."""

    device_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """Part of the feed: where it ends, which changes can still be told, and what each account is told."""

    end: Place
    oldest: int
    newest: int
    happenings: Sequence[tuple[str, Happening]]

    def follows(self, place: Place) -> bool:
        """Whether nothing lies between ``place`` and this part that cannot be told any more."""
        return place.generation == self.end.generation and self.oldest - 1 <= place.change <= self.newest


@dataclass(eq=False)
class _Stream:
    waiting: asyncio.Queue[Happening | Activity | None] = field(
        default_factory=asyncio.Queue[Happening | Activity | None]
    )
    lost: bool = False

    def tell(self, happening: Happening | Activity) -> None:
        if self.lost:
            return
        if self.waiting.qsize() >= _MOST_WAITING:
            self.reload()
        else:
            self.waiting.put_nowait(happening)

    def reload(self) -> None:
        """None stands for a gap; nothing else waits, since everything is to be read again."""
        if not self.lost:
            self.lost = True
            while not self.waiting.empty():
                self.waiting.get_nowait()
            self.waiting.put_nowait(None)


class Live:
    """The feed's reader, and the streams that it serves."""

    def __init__(self, pool: pg.Pool, notifications: Notifications, feed: str, activity: str) -> None:
        self._pool, self._notifications, self._sql, self._activity = pool, notifications, feed, activity
        self._hints, self._hinted = Hints(), asyncio.Event()
        notifications.hear_activity = self._hear
        self._followers = streams.Followers[_Stream]()
        self._place: Place | None = None
        self._turn = asyncio.Lock()

    async def follow(self) -> None:
        """Read the feed for everybody until cancelled; while the database is away, nothing is lost."""
        while True:
            changed = self._notifications.next()
            try:
                while await self._advance():
                    pass
            except (*pg.TRANSIENT, asyncpg.QueryCanceledError) as error:
                log.warning("feed_waits", error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await set_within(changed, _POLL_SECONDS)

    async def _advance(self) -> bool:
        """Tell what is new; whether there may be more."""
        async with self._turn:  # a stream that begins in between would be told nothing of what is being read
            known, accounts = self._place, self._followers.accounts
            following = known is not None and bool(accounts)
            reading = await self._read(
                known.change if known else 0, accounts, _MOST_CHANGES if following else 0
            )
            if known is not None and not reading.follows(known):
                for stream in self._followers:
                    stream.reload()
            elif following:
                for account_id, happening in reading.happenings:
                    for stream in self._followers.of(account_id):
                        stream.tell(happening)
                self._place = reading.end
                return reading.end.change < reading.newest
            self._place = Place(reading.end.generation, reading.newest)
            return False

    def _hear(self, payload: str | None) -> None:
        self._hints.add(payload)
        self._hinted.set()

    async def follow_activity(self) -> None:
        """Tell what comes and goes until cancelled, at most every `_ACTIVITY_SECONDS`."""
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            hints, self._hints = self._hints, Hints()
            try:
                await self._tell_activity(hints)
            except (*pg.TRANSIENT, asyncpg.QueryCanceledError) as error:
                log.warning("activity_not_told", error=repr(error))
                self._hear(None)
            await asyncio.sleep(_ACTIVITY_SECONDS)

    async def _tell_activity(self, hints: Hints) -> None:
        if hints.missed:
            for stream in self._followers:
                stream.tell(Activity(()))
        elif accounts := self._followers.accounts:
            connections = sorted(hints.connections)
            rows = await self._pool.fetch(
                self._activity,
                accounts, sorted(hints.devices), [device_id for device_id, _ in connections],
                [account_id for _, account_id in connections],
            )  # fmt: skip
            for row in rows:
                for stream in self._followers.of(row["account_id"]):
                    stream.tell(Activity(row["device_ids"]))

    async def _read(self, after: int, accounts: Sequence[str], most: int = _MOST_CHANGES) -> Reading:
        rows = await self._pool.fetch(self._sql, after, accounts, most)
        generation: int = rows[0]["generation"]
        return Reading(
            end=Place(generation, rows[0]["reached"]),
            oldest=rows[0]["oldest"],
            newest=rows[0]["newest"],
            happenings=[
                (row["account_id"], _happening(generation, row)) for row in rows if row["id"] is not None
            ],
        )

    def require_room(self, account_id: str) -> None:
        """Refuse what would be one stream too many.

        Raises:
            TooManyStreamsError: see there.
        """
        self._followers.require_room(account_id)

    async def stream(self, account_id: str, last_event_id: str | None) -> AsyncGenerator[bytes]:
        """What an account's stream says, from now on or from where it was.

        It ends by itself (`STREAM_SECONDS`), and when the database is away as it begins.
        """
        stream = _Stream()
        try:
            await set_within(self._notifications.listening, _LISTEN_SECONDS)
            while await self._advance():  # what happened before is not told to who begins now
                pass
            async with AsyncExitStack() as following:
                async with self._turn:
                    following.enter_context(self._followers.joined(account_id, stream))
                    place = self._place
                if place is None:
                    return
                if last_event_id is None:
                    yield _event("ready", place)
                else:
                    yield format_sse_event(comment="welcome back")
                    async for happening in self._missed(account_id, Place.parse(last_event_id), place):
                        if happening is None:
                            stream.reload()
                            break
                        place = happening.place
                        yield _told(happening)
                async for text in self._told_from_now_on(stream, place):
                    yield text
        except pg.TRANSIENT as error:
            log.warning("stream_ends", error=repr(error))

    async def _missed(
        self, account_id: str, last: Place | None, until: Place
    ) -> AsyncGenerator[Happening | None]:
        """What happened after ``last`` and up to ``until``; None: it cannot be told."""
        place = last
        while place is not None:
            reading = await self._read(place.change, [account_id])
            if not reading.follows(place) or reading.newest - place.change > _FURTHEST:
                break
            for _, happening in reading.happenings:
                if happening.place.change <= until.change:
                    yield happening
            place = Place(place.generation, max(reading.end.change, place.change))
            if place.change >= until.change:
                return
        yield None

    async def _told_from_now_on(self, stream: _Stream, told: Place) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        ends = loop.time() + streams.STREAM_SECONDS
        while (left := ends - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, streams.KEEP_ALIVE_SECONDS)):
                    happening = await stream.waiting.get()
            except TimeoutError:
                if not stream.waiting.empty():  # it came in the same moment: the place must not pass it
                    continue
                told = max(told, self._place or told)
                yield _event("alive", told)
                continue
            if happening is None:
                told = self._place or told
                stream.lost = False
                yield _event("reload", told)
            elif isinstance(happening, Activity):
                data = to_json({"device_ids": happening.device_ids}).decode()
                yield format_sse_event(event="activity", data_str=data)
            elif happening.place > told:
                told = happening.place
                yield _told(happening)


def _happening(generation: int, row: asyncpg.Record) -> Happening:
    device_ids: Sequence[str] | None = row["device_ids"] or ([] if row["named"] else None)
    return Happening(
        Place(generation, row["id"]), device_ids, row["invited"] or (row["named"] and not row["device_ids"])
    )


def _told(happening: Happening) -> bytes:
    texts: list[bytes] = []
    if happening.device_ids is not None:
        data = to_json({"device_ids": happening.device_ids}).decode()
        texts.append(format_sse_event(event="devices", data_str=data))
    if happening.invitations:
        texts.append(format_sse_event(event="invitations", data_str="{}"))
    # The last of them carries the id: whoever saw only the first is told both again.
    texts[-1] = f"id: {happening.place}\n".encode() + texts[-1]
    return b"".join(texts)


def _event(name: str, place: Place) -> bytes:
    return format_sse_event(event=name, data_str="{}", id=str(place))
