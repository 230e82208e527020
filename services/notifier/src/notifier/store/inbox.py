"""What people read and choose: inboxes, settings, preferences, subscriptions."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, time
from typing import Literal, cast
from uuid import UUID

import asyncpg

from contracts.base import new_id
from notifier.hints import Event, Readers, payloads
from notifier.planner import Channel, Template
from servicekit import pg
from servicekit.deleted import AccountDeletedError

Mark = Literal["read", "unread", "later"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """An account's language (BCP 47), zone (IANA) and quiet hours; None is what it never said."""

    language: str | None = None
    time_zone: str | None = None
    quiet_from: time | None = None
    quiet_until: time | None = None


class Inboxes:
    """Each call is a transaction of its own. An account has at most ``most_subscriptions``."""

    def __init__(self, pool: pg.Pool, *, most_subscriptions: int) -> None:
        self._pool, self._most = pool, most_subscriptions
        self._sql = pg.load_queries("notifier", "inbox.sql")

    async def page(
        self,
        account_id: str,
        size: int,
        after: tuple[datetime, UUID] | None,
        *,
        unread: bool,
        put_off: bool,
    ) -> list[asyncpg.Record]:
        """Entries, the newest first; ``after`` is the time and id of the last one that is known."""
        moment, notice_id = after or (None, None)
        return await self._pool.fetch(
            self._sql["inbox_page"], account_id, moment, notice_id, size, unread, put_off
        )

    async def unread(self, account_id: str) -> int:
        """How many entries are not read, counted to 100."""
        return await self._pool.fetchval(self._sql["unread"], account_id)

    async def mark(
        self, account_id: str, notice_ids: Sequence[UUID], mark: Mark, until: datetime | None
    ) -> None:
        """Mark entries; what is not the account's stays as it is."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(self._sql["mark"], account_id, list(notice_ids), mark, until)
            await self._tell(
                connection,
                "notices",
                Readers(
                    accounts={account_id} if rows else set(),
                    contacts={row["contact_id"] for row in rows if row["account_id"] is None},
                ),
            )

    async def is_deleted(self, account_id: str) -> bool:
        """Whether the registry has deleted the account."""
        return await self._pool.fetchval(self._sql["is_deleted"], account_id)

    @asynccontextmanager
    async def _keeping(self, account_id: str) -> AsyncGenerator[pg.Connection]:
        """A transaction that keeps something of an account (empty: of a contact), not beside its deletion.

        Raises:
            AccountDeletedError: it is deleted.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if account_id:
                await connection.execute(self._sql["lock_account"], account_id)
                if await connection.fetchval(self._sql["is_deleted"], account_id):
                    raise AccountDeletedError
            yield cast("pg.Connection", connection)

    async def chosen(self, account_id: str) -> Chosen:
        """What the account said of itself."""
        row = await self._pool.fetchrow(self._sql["settings"], account_id)
        return Chosen(*row) if row is not None else Chosen()

    async def choose(self, account_id: str, chosen: Chosen) -> None:
        """Replace it; raises AccountDeletedError, as all that keep something of an account."""
        async with self._keeping(account_id) as connection:
            await connection.execute(
                self._sql["save_settings"],
                account_id, chosen.language, chosen.time_zone, chosen.quiet_from, chosen.quiet_until,
            )  # fmt: skip
            await self._tell(connection, "notice_settings", Readers(accounts={account_id}))

    async def preferences(self, reader: str) -> dict[tuple[Template, Channel], bool]:
        """What a reader (`planner.Notice.reader`) said about kinds of notice and ways."""
        rows = await self._pool.fetch(self._sql["preferences"], reader)
        return {(Template(row["template"]), Channel(row["channel"])): row["wanted"] for row in rows}

    async def prefer(self, reader: str, wanted: Mapping[tuple[Template, Channel], bool]) -> None:
        """Add to it."""
        pairs = sorted(wanted)
        if not pairs:
            return
        _, _, account_id = reader.partition("account ")
        async with self._keeping(account_id) as connection:
            await connection.execute(
                self._sql["save_preferences"],
                reader,
                [template for template, _ in pairs],
                [channel for _, channel in pairs],
                [wanted[pair] for pair in pairs],
            )
            # A contact's choices are shown nowhere.
            await self._tell(connection, "notice_settings", Readers({account_id} if account_id else set()))

    async def _tell(self, connection: pg.Connection, event: Event, readers: Readers) -> None:
        """Hint to whoever follows, at the commit."""
        if readers:
            await connection.execute(self._sql["tell"], list(payloads(event, readers)))

    async def subscriptions(self, account_id: str) -> list[asyncpg.Record]:
        """The account's, the oldest first."""
        return await self._pool.fetch(self._sql["subscriptions"], account_id)

    async def subscribe(
        self, account_id: str, channel: Channel, endpoint: str, public_key: str, auth_secret: str
    ) -> UUID:
        """Add one; the oldest go when there are too many."""
        async with self._keeping(account_id) as connection:
            identity = await connection.fetchval(
                self._sql["add_subscription"],
                new_id(), account_id, channel, endpoint, public_key, auth_secret,
            )  # fmt: skip
            await connection.execute(self._sql["trim_subscriptions"], account_id, self._most)
        return identity

    async def unsubscribe(self, account_id: str, subscription_id: UUID) -> None:
        """Take one away, if it is the account's."""
        await self._pool.execute(self._sql["remove_subscription"], account_id, subscription_id)
