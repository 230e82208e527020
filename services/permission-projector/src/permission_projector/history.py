"""What happened: histories of shares and connections, as accounts may see them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from contracts.base import Moment
from contracts.permissions import Terms
from permission_projector import cursors
from permission_projector.looking_back import PastAccess, past_access
from permission_projector.projection import ShareState
from permission_projector.reader import Somebody, Told, reached, somebody
from servicekit import pg

Outcome = Literal["open", "closed", "cut", "refused"]

_BEFORE_ALL: Final = 10**18
_BEFORE_VERSION: Final = TypeAdapter(tuple[int])
_BEFORE_SHARE: Final = TypeAdapter(tuple[UUID])
_BEFORE_CONNECTION: Final = TypeAdapter(tuple[Moment, UUID])


class ShareHappening(Told):
    """An event of a share, and what the share was after it. ``account`` is who had accepted it by then.

    Whoever gave it sees the invited ``email`` or ``phone``. ``terms`` stand where the event brought some.
    """

    version: int
    kind: str
    at: datetime
    share_id: UUID
    account: Somebody | None
    email: str | None
    phone: str | None
    state: ShareState
    terms: Terms | None
    reason: str | None


class DeviceHistory(Told):
    """Events, the newest first; ``next`` is the cursor that goes on to older ones (None: there are none)."""

    items: list[ShareHappening]
    next: str | None


class PastShare(Told):
    """A share that the caller gave (``given``) or had, as it is now. ``device_name`` is None for a device
    that he does not see any more. ``since`` is when the state began."""

    share_id: UUID
    device_id: str
    device_name: str | None
    given: bool
    state: ShareState
    owner: Somebody
    account: Somebody | None
    email: str | None
    phone: str | None
    terms: Terms
    requested_at: datetime
    since: datetime
    expires_at: datetime | None
    version: int


class ShareHistory(Told):
    """Shares, the newest first; ``next`` is the cursor that goes on to older ones (None: there are none)."""

    items: list[PastShare]
    next: str | None


class ConnectionAnswer(Told):
    """A connection, or a try that was refused. ``in_doubt``: it was open when its gateway was last heard of,
    and that is long ago. ``service_name`` is told to those who have the service now, ``email`` and ``phone``
    of whom it was shared with to the one who shared it."""

    connection_id: UUID
    device_id: str | None
    service_id: str
    service_name: str | None
    account: Somebody
    email: str | None
    phone: str | None
    share_id: UUID | None
    permission: str
    opened_at: datetime | None
    ended_at: datetime | None
    outcome: Outcome
    in_doubt: bool
    reason: str | None
    bytes_to_device: int | None
    bytes_from_device: int | None


class ConnectionPage(Told):
    """Connections, the newest first; ``next`` is the cursor that goes on to older ones (None: none)."""

    items: list[ConnectionAnswer]
    next: str | None


class History:
    """The answers about the past that accounts may have."""

    def __init__(self, pool: pg.Pool, sql: Mapping[str, str]) -> None:
        self._pool, self._sql = pool, sql

    async def of_device(
        self, account_id: str, device_id: str, size: int, cursor: str | None
    ) -> DeviceHistory | None:
        """Events of the shares that the account gave or had; None: there are none, and he has no such device.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        before = _BEFORE_ALL if cursor is None else cursors.decode(cursor, _BEFORE_VERSION)[0]
        if not 0 <= before <= _BEFORE_ALL:
            before = 0
        rows = await self._pool.fetch(self._sql["device_history"], account_id, device_id, before, size)
        found = [row for row in rows if row["version"] is not None]
        if not found and not rows[0]["visible"]:
            return None
        items = [
            ShareHappening(
                version=row["version"],
                kind=row["kind"],
                at=row["at"],
                share_id=row["share_id"],
                account=somebody(row, "account"),
                **reached(row["address"]),
                state=row["state"],
                terms=_terms(row),
                reason=row["reason"],
            )
            for row in found[:size]
        ]
        place = cursors.encode(items[-1].version) if len(found) > size else None
        return DeviceHistory(items=items, next=place)

    async def of_account(
        self, account_id: str, size: int, cursor: str | None, given: bool | None
    ) -> ShareHistory:
        """Shares that the account gave or had, those that have ended included.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        before = None if cursor is None else cursors.decode(cursor, _BEFORE_SHARE)[0]
        rows = await self._pool.fetch(self._sql["share_history"], account_id, before, size, given)
        items = [
            PastShare(
                share_id=row["share_id"],
                device_id=row["device_id"],
                device_name=row["device_name"],
                given=row["given"],
                state=row["state"],
                owner=Somebody(account_id=row["owner_account_id"], name=row["owner_name"]),
                account=somebody(row, "account"),
                **reached(row["address"]),
                terms=Terms.model_validate_json(row["terms"]),
                requested_at=row["requested_at"],
                since=row["since"],
                expires_at=row["expires_at"],
                version=row["version"],
            )
            for row in rows[:size]
        ]
        return ShareHistory(
            items=items, next=cursors.encode(items[-1].share_id) if len(rows) > size else None
        )

    async def connections_of_device(
        self, account_id: str, device_id: str, size: int, cursor: str | None
    ) -> ConnectionPage | None:
        """Connections to a device: all for its owner, else the account's own; None: see `of_device`.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        rows = await self._pool.fetch(
            self._sql["device_connections"], account_id, device_id, *_before(cursor), size
        )
        found = [row for row in rows if row["connection_id"] is not None]
        return _connection_page(found, size) if found or rows[0]["visible"] else None

    async def connections(self, account_id: str, size: int, cursor: str | None) -> ConnectionPage:
        """Connections of the account, and of others to its devices.

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        rows = await self._pool.fetch(self._sql["connections"], account_id, *_before(cursor), size)
        return _connection_page(rows, size)

    async def open_connections(
        self, account_id: str, size: int, cursor: str | None, device_ids: Sequence[str] | None
    ) -> ConnectionPage:
        """Those of them that are open now, of some devices alone (None: of all).

        Raises:
            InvalidCursorError: the cursor is none of this list.
        """
        rows = await self._pool.fetch(
            self._sql["open_connections"], account_id, *_before(cursor), size, device_ids
        )
        return _connection_page(rows, size)

    async def access_at(self, account_id: str, device_id: str, at: datetime) -> list[PastAccess] | None:
        """Who had access to a device of the account's by a share of his at a time; None: it is not his."""
        rows = await self._pool.fetch(self._sql["who_had_access"], device_id, None, at, account_id)
        return past_access(rows) if rows[0]["owned"] else None


def _before(cursor: str | None) -> tuple[datetime, UUID] | tuple[None, None]:
    return (None, None) if cursor is None else cursors.decode(cursor, _BEFORE_CONNECTION)


def _connection_page(rows: Sequence[asyncpg.Record], size: int) -> ConnectionPage:
    shown_rows = rows[:size]
    items = [
        ConnectionAnswer.model_validate(
            {**dict(row), **reached(row["address"]), "account": somebody(row, "account")}
        )
        for row in shown_rows
    ]
    more = len(rows) > size
    last = cursors.encode(shown_rows[-1]["at"], shown_rows[-1]["connection_id"]) if more else None
    return ConnectionPage(items=items, next=last)


def _terms(row: asyncpg.Record) -> Terms | None:
    return None if row["terms"] is None else Terms.model_validate_json(row["terms"])
