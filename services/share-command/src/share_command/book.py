"""What is in no event: the owner's contact book with his remarks, the rules of recipients, and what both look
at before they decide. Nothing here commits: the transaction is the caller's."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.contacts import display_address
from servicekit import pg
from share_command.errors import ContactNotFound, InvalidContactCode, LimitReached, SelfShare
from share_command.handlers.naming import read_address
from share_command.store import Store

_MOST_RULES = 1_000


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact of a book: the address as people write it, and the owner's private remark.

    ``name`` is that of the account that showed the owner its contact code, and of no other.
    """

    contact_id: UUID
    address: str
    name: str | None
    remark: str | None
    last_used_at: datetime


class Book:
    """Reads and writes of one transaction at the time ``now``."""

    def __init__(self, connection: pg.Connection, sql: Mapping[str, str], now: datetime) -> None:
        self._connection, self._sql, self._now = connection, sql, now
        self._store = Store(connection, sql)

    async def contacts(self, owner: str, containing: str | None, most: int) -> list[Contact]:
        """The owner's contacts, the last used first; those that hold ``containing`` somewhere."""
        rows = await self._connection.fetch(self._sql["contact_book"], owner, containing, most)
        return [
            Contact(
                contact_id=row["contact_id"],
                address=display_address(row["address"]),
                name=row["name"],
                remark=row["remark"],
                last_used_at=row["last_used_at"],
            )
            for row in rows
        ]

    async def add(self, owner: str, recipient: str, remark: str | None) -> UUID:
        """Put an address into the owner's book; returns its contact id.

        Raises:
            InvalidAddress: the recipient is none.
            SelfShare: it is an address of the owner's own.
        """
        address = read_address(recipient)
        if address in await self._store.verified_addresses(owner):
            raise SelfShare
        contact_id = await self._add(owner, address)
        if remark is not None:
            await self.set_remark(owner, contact_id, remark)
        return contact_id

    async def _add(self, owner: str, address: str) -> UUID:
        ids = await self._store.book_contacts(owner, [address], self._now, causation="contact-book")
        return ids[address]

    async def set_remark(self, owner: str, contact_id: UUID, remark: str) -> None:
        """Note something on a contact, for the owner alone; empty takes it away.

        Raises:
            ContactNotFound: it is not in the owner's book.
        """
        if await self._connection.fetchval(self._sql["save_remark"], owner, contact_id, remark) is None:
            raise ContactNotFound

    async def add_account(self, owner: str, account_id: str) -> tuple[UUID, str]:
        """Put the account that showed its contact code into the owner's book: contact id and name.

        Raises:
            InvalidContactCode: the account is gone, or has no verified address.
            SelfShare: it is the owner's own.
        """
        if account_id == owner:
            raise SelfShare
        row = await self._connection.fetchrow(self._sql["first_address"], account_id)
        if row is None:
            raise InvalidContactCode
        contact_id = await self._add(owner, row["address"])
        await self._connection.execute(self._sql["note_who_showed"], owner, contact_id, account_id)
        return contact_id, row["name"]

    async def always_accept(self, account_id: str, owner: str) -> None:
        """From now on the account accepts whatever the owner shares with it.

        Raises:
            LimitReached: the account has as many such rules as one may have.
        """
        if await self._connection.fetchval(self._sql["other_rules"], owner, account_id) >= _MOST_RULES:
            raise LimitReached(f"You may always accept from {_MOST_RULES} sharers. Take one away first.")
        await self._connection.execute(self._sql["always_accept"], owner, account_id, self._now)

    async def never_accept(self, account_id: str, owner: str) -> None:
        """From now on the account decides on each share of the owner's by itself; none is changed by this."""
        await self._connection.execute(self._sql["never_accept"], owner, account_id)

    async def accepting_from(self, account_id: str) -> list[dict[str, Any]]:
        """The owners whose shares the account always accepts: owner_account_id, name, since."""
        rows = await self._connection.fetch(self._sql["accepting_from"], account_id)
        return [dict(row) for row in rows]

    async def deletions(self, after: int, most: int) -> list[dict[str, Any]]:
        """Accounts that the registry has deleted, from a number on (columns of the query)."""
        rows = await self._connection.fetch(self._sql["deletions"], after, most)
        return [dict(row) for row in rows]

    async def given_shares(self, owner: str, device_id: str) -> list[dict[str, Any]]:
        """The live shares of the owner's device, as they are now (columns of the query)."""
        rows = await self._connection.fetch(self._sql["given_shares"], owner, device_id)
        return [
            {**row, "terms": json.loads(row["terms"]), "address": display_address(row["address"])}
            for row in rows
        ]

    async def messages(self, account_id: str, share_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The owner's words of those live shares that the account gives or may accept."""
        rows = await self._connection.fetch(self._sql["messages"], account_id, list(share_ids))
        return {row["share_id"]: row["message"] for row in rows}

    async def invitation(
        self, share_id: UUID, device_id: str, contact_id: UUID, account_id: str
    ) -> Mapping[str, Any] | None:
        """What an invitation says, if the account is the one that may see it (columns of the query)."""
        row = await self._connection.fetchrow(
            self._sql["invitation"], share_id, device_id, contact_id, account_id
        )
        if row is None:
            return None
        return {**row, **{name: json.loads(row[name]) for name in ("terms", "service_names")}}
