"""Accounts that the registry has deleted: what is kept of them here goes, and nobody comes in as one of them.

share-command, which decides about them too, is asked every second for those after the last that was heard of
(`deletions_heard`). While it does not answer, what is known goes on to hold: a deleted account gets nothing
from any other service meanwhile, and everybody else can go on taking back what he has shared.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from portal.answers import DeletedAccount
from portal.own_changes import OwnChanges
from portal.peers import ShareCommand
from portal.sessions import unavailable_when_gone
from servicekit import pg
from servicekit.deleted import DeletedAccounts
from servicekit.http import ApiError
from servicekit.listening import Listener
from servicekit.logging import get_logger

log = get_logger(__name__)

CHANNEL: Final = "portal_deleted"
"""Told to every process, before its streams are, when accounts were deleted."""

_PAUSE_SECONDS: Final = 1.0
_AS_THE_PORTAL: Final = "portal"
"""Nobody's account: whom the portal names when it asks for itself."""


class Deletions:
    """Follows them, and knows those of which was heard."""

    def __init__(
        self, pool: pg.Pool, listener: Listener, share_command: ShareCommand, own_changes: OwnChanges
    ) -> None:
        self._pool, self._share_command, self._own_changes = pool, share_command, own_changes
        self._sql = pg.load_queries("portal")
        self.accounts = DeletedAccounts(self._is_deleted)
        """Those that are deleted, for whoever checks a token."""
        listener.on(CHANNEL, lambda _payload: self.accounts.forget())

    async def follow(self) -> None:
        """Hear of deletions until cancelled."""
        while True:
            try:
                while await self._go_on():
                    pass
            except (*pg.TRANSIENT, ApiError) as error:
                log.warning("deletions_not_heard", error=type(error).__name__)
            except Exception:  # without this task nobody's sign-in would be ended any more
                log.exception("deletions_not_heard")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _go_on(self) -> bool:
        """Hear of some; whether there may be more."""
        heard: int = await self._pool.fetchval(self._sql["deletions_heard"])
        found = await self._share_command.deleted_accounts(_AS_THE_PORTAL, heard)
        if found:
            await self._forget(heard, found)
        return bool(found)

    async def _forget(self, heard: int, found: Sequence[DeletedAccount]) -> None:
        account_ids = sorted(item.account_id for item in found)
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(self._sql["lock_deletions_heard"]) != heard:
                return  # another process was quicker
            for account_id in account_ids:
                await connection.execute(self._sql["lock_account"], account_id)
            # Also of those that are there again: what was kept is not the new account's.
            for table in ("sessions", "access_keys", "device_aliases"):
                await connection.execute(self._sql[f"forget_{table}_of"], account_ids)
            await connection.execute(
                self._sql["mark_deleted"], [item.account_id for item in found if not item.there_again]
            )
            await connection.execute(
                self._sql["unmark_deleted"], [item.account_id for item in found if item.there_again]
            )
            await connection.execute(self._sql["hear_deletions"], max(item.number for item in found))
            await connection.execute(self._sql["tell_deleted"])
            for account_id in account_ids:
                await self._own_changes.tell_with(connection, account_id, "access_keys")
        log.info("accounts_forgotten", account_ids=account_ids)

    async def _is_deleted(self, account_id: str) -> bool:
        with unavailable_when_gone():
            return await self._pool.fetchval(self._sql["is_deleted"], account_id)
