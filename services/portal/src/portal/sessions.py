"""Sign-ins in browsers: a random 256-bit id in a cookie, of which the database keeps the hash only."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from portal.errors import Unavailable
from servicekit import pg
from servicekit.deleted import AccountDeletedError


@contextmanager
def unavailable_when_gone() -> Generator[None]:
    """Make `Unavailable` of what the driver raises while the database is gone."""
    try:
        yield
    except pg.TRANSIENT as error:
        raise Unavailable from error


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()


def csrf_token(session_id: str) -> str:
    """What the forms of a session carry: derived from its id, so that only its own pages can know it."""
    mac = hmac.digest(session_id.encode(), b"latchkey.csrf.v1", "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def csrf_matches(session_id: str, given: str) -> bool:
    """Whether ``given`` is the session's token, compared in constant time."""
    return hmac.compare_digest(csrf_token(session_id).encode(), given.encode())


async def lock_account(connection: pg.Connection, sql: Mapping[str, str], account_id: str) -> None:
    """Let nobody else keep something of the account, or delete it, before this transaction ends.

    Raises:
        AccountDeletedError: it is deleted.
    """
    await connection.execute(sql["lock_account"], account_id)
    if await connection.fetchval(sql["is_deleted"], account_id):
        raise AccountDeletedError


class Sessions:
    """The table of sessions. Every method raises `Unavailable` when the database is gone."""

    def __init__(self, pool: pg.Pool, lifetime: timedelta) -> None:
        self._pool, self.lifetime = pool, lifetime
        self._sql = pg.load_queries("portal")

    async def create(self, account_id: str) -> str:
        """Begin a session; returns its id, which goes into the cookie and nowhere else.

        Raises:
            AccountDeletedError: the account is deleted.
        """
        session_id = secrets.token_urlsafe(32)
        with unavailable_when_gone():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_account(connection, self._sql, account_id)
                await connection.execute(self._sql["forget_expired_sessions"])
                await connection.execute(
                    self._sql["create_session"], _hash(session_id), account_id, self.lifetime
                )
        return session_id

    async def account_of(self, session_id: str) -> str | None:
        """The account that is signed in, or None when there is no such session or it has ended."""
        with unavailable_when_gone():
            return await self._pool.fetchval(self._sql["find_session"], _hash(session_id))

    async def end(self, session_id: str) -> None:
        """End a session; one that is not there is ended already."""
        with unavailable_when_gone():
            await self._pool.execute(self._sql["end_session"], _hash(session_id))

    async def ping(self) -> None:
        """Return when the database answers, for readiness; raises what the driver raises."""
        await self._pool.execute("select")
