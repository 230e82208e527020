"""Erases a person's address from all that share-command keeps, on an operator's order (docs/ops/erasure.md).

The events stay: they name the contact by an opaque id, and from now on nothing leads from it to the address.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

import asyncpg

from contracts.topics import DIRECTORY_CONTACTS
from servicekit import pg
from servicekit.kafka import partition_of
from servicekit.logging import get_logger
from servicekit.telemetry import correlated
from share_command import domain
from share_command.store import Store

log = get_logger(__name__)

_HEARTBEAT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, or would be: ``contact_id`` is None when the address is not known here."""

    contact_id: UUID | None
    shares_ended: int = 0
    books: int = 0


async def erase(
    connection: pg.Connection, address: str, *, clock: Callable[[], datetime], dry_run: bool = False
) -> Erased:
    """End all shares with a canonical address, take it out of every contact book, and forget it.

    One transaction. Done again, it finds nothing.
    """
    sql = pg.load_queries("share_command", "erasing.sql")
    transaction = connection.transaction()
    await transaction.start()
    try:
        erased = await _erase(connection, sql, address, clock)
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.rollback() if dry_run else transaction.commit())
    return erased


async def _erase(
    connection: pg.Connection, sql: Mapping[str, str], address: str, clock: Callable[[], datetime]
) -> Erased:
    contact_id: UUID | None = await connection.fetchval(sql["contact_of"], address)
    if contact_id is None:
        return Erased(None)
    store = Store(connection, pg.load_queries("share_command"))
    devices = [row["device_id"] for row in await connection.fetch(sql["devices_shared_with"], contact_id)]
    versions = await store.lock_streams(devices)
    now = clock()  # after the locks: times do not run backwards in a stream
    decided = [
        (share, (event,))
        for share in await store.live_shares(devices)
        if share.contact_id == contact_id and (event := domain.follow_erasure(share, now)) is not None
    ]
    with correlated(None):
        await store.append(decided, versions, now, causation="erasure")
    await connection.execute(sql["forget_words"], contact_id)
    books = await connection.fetch(sql["forget_from_books"], contact_id)
    await connection.execute(sql["erase_address"], contact_id)
    await connection.execute(sql["append_tombstones"], DIRECTORY_CONTACTS.name, [str(contact_id)])
    return Erased(contact_id, len(decided), len(books))


def _a_key_of_each_partition() -> list[str]:
    """Contact ids that nobody has, one for each partition of directory.contacts."""
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < DIRECTORY_CONTACTS.partitions:
        key = str(uuid5(NAMESPACE_URL, f"latchkey:heartbeat:{number}"))
        keys.setdefault(partition_of(key.encode(), DIRECTORY_CONTACTS.partitions), key)
        number += 1
    return list(keys.values())


HEARTBEAT_KEYS: Final = _a_key_of_each_partition()


class Heartbeat:
    """Deletes, now and then, contacts that do not exist, so that those that were erased go.

    Kafka compacts a partition only up to the segment that is written, and ends that segment when something is
    appended: where nobody writes any more, a deleted value would stay for ever.
    """

    def __init__(self, dsn: str, seconds: float = _HEARTBEAT_SECONDS) -> None:
        self._dsn, self._seconds = dsn, seconds
        self._sql = pg.load_queries("share_command", "erasing.sql")

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                connection = await asyncpg.connect(self._dsn)
                try:
                    await connection.execute(
                        self._sql["append_tombstones"], DIRECTORY_CONTACTS.name, HEARTBEAT_KEYS
                    )
                finally:
                    await connection.close()
            except pg.TRANSIENT as error:
                log.warning("heartbeat_left_out", error=type(error).__name__)  # the next one will do
