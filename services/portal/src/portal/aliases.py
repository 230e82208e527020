"""What an account calls devices that are shared with it: its own words, which nobody else gets."""

from typing import Final

from portal.errors import InvalidRequest, LimitReached
from portal.sessions import lock_account, unavailable_when_gone
from servicekit import pg

MAX_LENGTH: Final = 120
MAX_ALIASES: Final = 10_000


class Aliases:
    """The table of aliases. Every method raises `Unavailable` when the database is gone."""

    def __init__(self, pool: pg.Pool) -> None:
        self._pool = pool
        self._sql = pg.load_queries("portal")

    async def of(self, account_id: str) -> dict[str, str]:
        """Device id → alias."""
        with unavailable_when_gone():
            rows = await self._pool.fetch(self._sql["list_device_aliases"], account_id)
        return {row["device_id"]: row["alias"] for row in rows}

    async def set(self, account_id: str, device_id: str, alias: str) -> None:
        """Call a device ``alias`` from now on.

        Raises:
            InvalidRequest: it is longer than `MAX_LENGTH`, or cannot be stored.
            LimitReached: the account has `MAX_ALIASES` already.
            AccountDeletedError: it is deleted.
        """
        if len(alias) > MAX_LENGTH or "\x00" in alias:
            raise InvalidRequest(f"An alias has at most {MAX_LENGTH} characters.")
        with unavailable_when_gone():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_account(connection, self._sql, account_id)
                others = await connection.fetchval(
                    self._sql["count_other_device_aliases"], account_id, device_id
                )
                if others >= MAX_ALIASES:
                    raise LimitReached(f"You have {MAX_ALIASES} aliases already.")
                await connection.execute(self._sql["set_device_alias"], account_id, device_id, alias)

    async def forget(self, account_id: str, device_id: str) -> None:
        """Call a device by its own name again; one without an alias is called so already."""
        with unavailable_when_gone():
            await self._pool.execute(self._sql["forget_device_alias"], account_id, device_id)
