"""Events: what happened to shares and on connections, of an account as a whole and of single devices.

Who may see what is as in `history`; what is told of each event is decided in its SQL.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final, Literal
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from contracts.base import Moment
from contracts.permissions import Terms
from permission_projector import cursors
from permission_projector.history import Outcome
from permission_projector.projection import ShareState
from permission_projector.reader import Person, Somebody, Told, reached, shown, somebody
from servicekit import pg

Kind = Literal["share", "connection"]

_BEFORE: Final = TypeAdapter(tuple[Moment, UUID])
_PIECES: Final = (
    "told", "joined", "given", "had", "asked", "mine", "theirs", "of_device", "to_device", "within", "before",
    "first", "since", "by_share",
)  # fmt: skip


class NamedService(Told):
    """A service that an event is about; the name is None where the caller does not see the service now."""

    service_id: str
    name: str | None


class ShareChange(Told):
    """An event of a share, and the share after it. ``terms`` are those in force then."""

    share_id: UUID
    version: int
    kind: str
    state: ShareState
    terms: Terms
    reason: str | None


class ConnectionUse(Told):
    """A connection as it is now, or a try that was refused; see ``ConnectionAnswer``."""

    connection_id: UUID
    share_id: UUID | None
    permission: str
    opened_at: datetime | None
    ended_at: datetime | None
    outcome: Outcome
    in_doubt: bool
    reason: str | None
    bytes_to_device: int | None
    bytes_from_device: int | None


class Event(Told):
    """Something that happened; either ``share`` or ``connection`` is set, as ``type`` says.

    ``owner`` is who gave the share, or who owns the device now (None: the caller does not see it any more).
    ``account`` is who had accepted the share by then, or who connected. Whoever gave the share sees the
    invited ``email`` or ``phone``. ``services`` are those of the connection or of the share's terms: none
    where these are about the whole device. ``device_name``, and the owner's e-mail, are told of devices that
    the caller has now.
    """

    event_id: UUID
    type: Kind
    at: datetime
    device_id: str | None
    device_name: str | None
    owner: Person | None
    account: Somebody | None
    email: str | None
    phone: str | None
    services: list[NamedService]
    share: ShareChange | None
    connection: ConnectionUse | None


class EventPage(Told):
    """Events, the newest first. ``total`` counts all that match (None: not asked). ``next`` is the cursor
    that goes on (None: there are no more); ``last`` is the place of the last item, whether more come or not.
    """

    items: list[Event]
    total: int | None
    hasMore: bool
    next: str | None
    last: str | None


class EventsOfDevice(EventPage):
    """A page of events of one device."""

    device_id: str


class EventsOfDevices(Told):
    """A page for each device that was asked for and has events, in the order of their ids."""

    devices: list[EventsOfDevice]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: of these kinds, from ``since`` to ``until`` (both included). A page begins after
    ``cursor``, and passes over ``start`` events; ``counted`` asks for the total."""

    kinds: Sequence[Kind] | None = None
    since: datetime | None = None
    until: datetime | None = None
    size: int = 100
    start: int = 0
    cursor: str | None = None
    counted: bool = False


def load_statements() -> dict[str, str]:
    """The statements `events` and `device_events`, put together."""
    history, sql = (pg.load_queries("permission_projector", file) for file in ("history.sql", "events.sql"))
    sql |= {piece: history[piece] for piece in ("since", "by_share")}
    statements = {name: sql[name] for name in ("events", "device_events")}
    for piece in _PIECES:
        statements = {name: text.replace(f"{{{piece}}}", sql[piece]) for name, text in statements.items()}
    return statements


class Events:
    """The answers about what happened that accounts may have."""

    def __init__(self, pool: pg.Pool, sql: Mapping[str, str]) -> None:
        self._pool, self._sql = pool, sql

    async def of_account(self, account_id: str, asked: EventFilter) -> EventPage:
        """What happened to shares that the account gave or had, and on its connections and to its devices.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        rows = await self._pool.fetch(self._sql["events"], *_arguments(account_id, asked))
        return _page(rows, asked)

    async def of_devices(
        self, account_id: str, device_ids: Sequence[str], asked: EventFilter
    ) -> EventsOfDevices:
        """The same of each of some devices, a page of each.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        rows = await self._pool.fetch(
            self._sql["device_events"], *_arguments(account_id, asked), list(device_ids)
        )
        pages = (
            EventsOfDevice(device_id=device_id, **dict(_page(list(of_it), asked)))
            for device_id, of_it in groupby(rows, key=lambda row: row["asked_device_id"])
        )
        return EventsOfDevices(devices=[page for page in pages if page.items or page.total])


def _arguments(account_id: str, asked: EventFilter) -> tuple[object, ...]:
    at, event_id = (None, None) if asked.cursor is None else cursors.decode(asked.cursor, _BEFORE)
    kinds = asked.kinds or ("share", "connection")
    return (
        account_id, asked.since, asked.until, "share" in kinds, "connection" in kinds, at, event_id,
        asked.size, asked.start, asked.counted,
    )  # fmt: skip


def _page(rows: Sequence[asyncpg.Record], asked: EventFilter) -> EventPage:
    found = [row for row in rows if row["id"] is not None]
    items = [_event(row) for row in found[: asked.size]]
    more = len(found) > asked.size
    last = cursors.encode(items[-1].at, items[-1].event_id) if items else None
    return EventPage(
        items=items, total=rows[0]["total"], hasMore=more, next=last if more else None, last=last
    )


def _event(row: asyncpg.Record) -> Event:
    owner_id: str | None = row["owner_id"]
    happened = row["kind"] is not None
    return Event(
        event_id=row["id"],
        type="share" if happened else "connection",
        at=row["at"],
        device_id=row["device_id"],
        device_name=row["device_name"],
        owner=None
        if owner_id is None
        else Person(account_id=owner_id, name=row["owner_name"], email=shown(row["owner_address"])),
        account=somebody(row, "account"),
        **reached(row["address"]),
        services=json.loads(row["services"] or "[]"),
        share=ShareChange.model_validate({**dict(row), "terms": json.loads(row["terms"])})
        if happened
        else None,
        connection=None if happened else ConnectionUse.model_validate(dict(row)),
    )
