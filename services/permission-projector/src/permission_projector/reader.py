"""What the read API tells an account: one statement an answer, and who may see what is in its SQL."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from contracts.base import Moment
from contracts.contacts import display_address, is_phone
from contracts.permissions import Permission, Terms
from contracts.positions import Position, format_positions
from permission_projector import cursors
from permission_projector.errors import InvalidCursorError
from permission_projector.projection import ShareState
from servicekit import pg

Order = Literal["name", "-name", "created", "-created"]
Shared = Literal["none", "in", "out"]
Presence = Literal["online", "offline", "unknown"]

SHOWN_ENTRIES: Final = 20
"""Of a device's access list in a list of devices; `access_total` tells how many there are."""

FROM_THE_START: Final = UUID(int=0)
_ORDER_PIECES: Final[Mapping[Order, str]] = {
    "name": "name",
    "-name": "name_back",
    "created": "created",
    "-created": "created_back",
}
_TIME_KEY = Annotated[str, Field(pattern=r"^-?infinity$|^\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$")]
_PLACES: Final[Mapping[Order, TypeAdapter[Any]]] = {
    "name": TypeAdapter(tuple[Literal["name"], str, str]),
    "-name": TypeAdapter(tuple[Literal["-name"], str, str]),
    "created": TypeAdapter(tuple[Literal["created"], _TIME_KEY, str]),
    "-created": TypeAdapter(tuple[Literal["-created"], _TIME_KEY, str]),
}
_AFTER_SHARE: Final = TypeAdapter(tuple[UUID])
_BEFORE_INVITATION: Final = TypeAdapter(tuple[Moment, UUID])


class Told(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Person(Told):
    """An account as others see it. ``email`` is the first that it has verified; both may be unknown here."""

    account_id: str
    name: str | None
    email: str | None


class Somebody(Told):
    """An account by its id and name; the name is None when the directory does not tell it (any more)."""

    account_id: str
    name: str | None


class ServiceAnswer(Told):
    """A service and the permissions that the caller has on it."""

    service_id: str
    name: str
    protocol: str
    channel: int | None
    permissions: list[Permission]


class Access(Told):
    """A share of the device. ``account_id`` is set once accepted; ``since`` is when its state began.

    The recipient was invited by ``email`` or by ``phone`` (E.164); the other is None. ``expires_at`` is until
    when an invitation can be accepted (None: no end); ``version`` is the one to name when editing the share.
    """

    share_id: UUID
    state: ShareState
    account_id: str | None
    email: str | None
    phone: str | None
    terms: Terms
    since: datetime
    expires_at: datetime | None
    version: int


class Device(Told):
    """A device of the caller, or one shared with him. ``access`` is everybody's for the owner, else his own.

    ``share_state``: ``out`` the caller shares it, ``in`` it is shared with him, ``both``, ``none``.
    ``access`` has the first 20 entries, ``access_total`` counts all, and ``invited_total`` those of them that
    nobody has accepted yet. ``online`` is whether the device is connected to a gateway, and ``last_seen``
    since when it is or is not; None when nobody knows. ``begins_at`` is when the next of the
    caller's shares of it begins, which no event tells; None: all have begun.
    """

    device_id: str
    name: str
    kind: str
    created_at: datetime | None
    owner: Person
    owned: bool
    share_state: Literal["none", "in", "out", "both"]
    scripting: bool
    online: bool | None
    last_seen: datetime | None
    services: list[ServiceAnswer]
    access: list[Access]
    access_total: int
    invited_total: int
    begins_at: datetime | None = None


class DevicePage(Told):
    """One page. ``total`` counts all that match (None: not asked), ``hasMore`` tells whether some come after
    this page, and ``next`` is the cursor that continues it (None: nothing comes, or ids were asked for)."""

    items: list[Device]
    total: int | None
    hasMore: bool
    next: str | None


class AccessPage(Told):
    """Entries of one device's access list; ``next`` is the cursor that continues it (None: nothing comes)."""

    items: list[Access]
    next: str | None


class Invitation(Told):
    """A share that the caller may accept until ``expires_at`` (None: no end). Accepting names
    ``invitation_version``.

    ``service_names`` are those of the services that ``terms`` name, by id; of others the caller learns none.
    """

    share_id: UUID
    device_id: str
    device_name: str
    owner: Person
    terms: Terms
    service_names: dict[str, str]
    invitation_version: int
    created_at: datetime
    expires_at: datetime | None


class InvitationPage(Told):
    """Invitations that the caller may accept now, the newest first; ``next`` is the cursor that continues it
    (None: nothing comes)."""

    items: list[Invitation]
    next: str | None


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which of the visible devices, and in what order. None means any.

    ``services`` are ids of services, to be found on the device and for the caller to use; ``account_id`` and
    ``contact_id`` choose own devices that are shared with them. A page begins after
    ``cursor``, else at ``start``; ``counted`` asks for the total.
    """

    ids: Sequence[str] | None = None
    services: Sequence[str] | None = None
    name: str | None = None
    owned: bool | None = None
    kinds: Sequence[str] | None = None
    shared: Shared | None = None
    account_id: str | None = None
    contact_id: UUID | None = None
    presence: Presence | None = None
    sort: Order = "name"
    size: int = 100
    start: int = 0
    cursor: str | None = None
    counted: bool = True


class Body(NamedTuple):
    """An answer as it goes out: JSON, and the positions of the devices that it is about."""

    json: bytes
    positions: str


class Variant(NamedTuple):
    """Which form of the statement `devices` answers a question."""

    sort: Order
    by: Literal["id", "service"] | None
    filtered: bool
    goes_on: bool


def load_statements() -> dict[str, str]:
    """All statements of the read API by name."""
    sql: dict[str, str] = {}
    for file in ("reading.sql", "devices.sql", "history.sql"):
        sql |= pg.load_queries("permission_projector", file)
    for piece in ("entry", "visible", "connection_told", "since", "by_share"):
        sql = {name: text.replace(f"{{{piece}}}", sql[piece]) for name, text in sql.items()}
    return sql


def device_statements(sql: Mapping[str, str]) -> dict[Variant, str]:
    """The statement `devices` in each of its forms, so that each has the plan that it needs and no other."""
    statements: dict[Variant, str] = {}
    switches = (False, True)
    ways: tuple[Literal["id", "service"] | None, ...] = (None, "id", "service")
    for order, by, (filtered, goes_on) in product(_ORDER_PIECES, ways, product(switches, switches)):
        piece, kind = _ORDER_PIECES[order], "_by_id" if by else ""
        text = sql["devices"]
        for place, value in (
            ("{candidates}", sql[f"candidates{kind}"]),
            ("{count}", sql[f"count{kind}"]),
            ("{own}", sql["own"]),
            ("{given}", sql["given"]),
            ("{by_id}", sql["by_service" if by == "service" else "by_id"]),
            ("{filters}", sql["filters"] if filtered else ""),
            ("{after}", sql[f"after_{piece}"] if goes_on else ""),
            ("{order}", sql[f"order_{piece}"]),
            ("{key}", sql[f"key_{piece}"]),
        ):
            text = text.replace(place, value)
        statements[Variant(order, by, filtered, goes_on)] = text
    return statements


class Reader:
    """Answers from the read models, each with the positions of the devices that it is about."""

    def __init__(self, pool: pg.Pool, sql: Mapping[str, str]) -> None:
        self._pool, self._sql = pool, sql
        self._devices = device_statements(sql)

    async def me(self, account_id: str) -> Person:
        """The caller himself; name and address are None while the directory has not told of him."""
        row = await self._pool.fetchrow(self._sql["me"], account_id)
        assert row is not None
        return Person(account_id=account_id, name=row["name"], email=shown(row["address"]))

    async def devices(self, account_id: str, asked: DeviceFilter) -> Body:
        """The caller's own devices and those shared with him: a `DevicePage`.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        key, device_id = None, None
        chosen = asked.ids is not None or asked.services is not None
        if asked.cursor is not None:
            if chosen:
                raise InvalidCursorError
            _, key, device_id = cursors.decode(asked.cursor, _PLACES[asked.sort])
        items, row = await self._fetch(account_id, asked, key, device_id)
        place = (
            cursors.encode(asked.sort, row["last_key"], row["last_id"])
            if row["more"] and not chosen
            else None
        )
        rest = {"total": row["total"], "hasMore": row["more"], "next": place}
        return Body(f'{{"items":{items},{json.dumps(rest)[1:]}'.encode(), row["positions"] or "")

    async def device(self, account_id: str, device_id: str) -> Body | None:
        """One of them: a `Device`; None when there is none of this id that he may see."""
        items, row = await self._fetch(account_id, DeviceFilter(ids=[device_id], counted=False))
        return Body(items[1:-1].encode(), row["positions"]) if row["positions"] else None

    async def _fetch(
        self, account_id: str, asked: DeviceFilter, key: str | None = None, device_id: str | None = None
    ) -> tuple[str, asyncpg.Record]:
        filters = (
            asked.name, asked.owned, asked.kinds, asked.shared, asked.account_id, asked.contact_id
        )  # fmt: skip
        filtered = any(value is not None for value in (*filters, asked.presence))
        by = "service" if asked.services is not None else None if asked.ids is None else "id"
        variant = Variant(asked.sort, by, filtered, device_id is not None)
        row = await self._pool.fetchrow(
            self._devices[variant],
            account_id, asked.size, asked.start, asked.counted, asked.ids, *filters, key, device_id,
            SHOWN_ENTRIES, asked.services, asked.presence,
        )  # fmt: skip
        assert row is not None
        return row["items"], row

    async def access(self, account_id: str, device_id: str, size: int, cursor: str | None) -> Body | None:
        """Who has a device or is invited to it, in the order of the shares' ids: an `AccessPage`. None: see
        `device`.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        after = FROM_THE_START if cursor is None else cursors.decode(cursor, _AFTER_SHARE)[0]
        row = await self._pool.fetchrow(self._sql["access"], account_id, device_id, after, size)
        if row is None:
            return None
        place = None if row["last_id"] is None else cursors.encode(row["last_id"])
        return Body(
            f'{{"items":{row["items"]},"next":{json.dumps(place)}}}'.encode(),
            format_positions((Position(device_id, row["version"]),)),
        )

    async def invitations(self, account_id: str, size: int, cursor: str | None) -> Body:
        """What waits for an address that the caller has verified, newest first: an `InvitationPage`.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        before = (None, None) if cursor is None else cursors.decode(cursor, _BEFORE_INVITATION)
        found = await self._pool.fetch(self._sql["invitations"], account_id, *before, size)
        rows = found[:size]
        answers = [
            Invitation(
                share_id=row["share_id"],
                device_id=row["device_id"],
                device_name=row["device_name"],
                owner=Person(
                    account_id=row["owner_account_id"],
                    name=row["owner_name"],
                    email=shown(row["owner_address"]),
                ),
                terms=Terms.model_validate_json(row["terms"]),
                service_names=json.loads(row["service_names"]),
                invitation_version=row["invitation_version"],
                created_at=row["requested_at"],
                expires_at=row["expires_at"],
            )
            for row in rows
        ]
        positions = dict.fromkeys(Position(row["device_id"], row["version"]) for row in rows)
        more = len(found) > size
        place = cursors.encode(answers[-1].created_at, answers[-1].share_id) if more else None
        body = InvitationPage(items=answers, next=place).model_dump_json().encode()
        return Body(body, format_positions(tuple(positions)))

    async def alive(self) -> None:
        """A `servicekit.http.ReadyCheck`: the read models are there."""
        if await self._pool.fetchval(self._sql["alive"]) is None:
            raise RuntimeError("there is no live generation")


def shown(address: str | None) -> str | None:
    """An address as a person reads it."""
    return None if address is None else display_address(address)


def somebody(row: asyncpg.Record, who: str) -> Somebody | None:
    """The account in the columns ``<who>_id`` and ``<who>_name``."""
    account_id: str | None = row[f"{who}_id"]
    return None if account_id is None else Somebody(account_id=account_id, name=row[f"{who}_name"])


def reached(address: str | None) -> dict[str, Any]:
    """The fields ``email`` and ``phone`` of an address."""
    by_phone = address is not None and is_phone(address)
    return {"email": None if by_phone else shown(address), "phone": shown(address) if by_phone else None}
