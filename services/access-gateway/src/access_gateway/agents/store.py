"""Codes and keys of agents in Postgres: made, exchanged, judged and voided. Only hashes are kept."""

import asyncio
import contextlib
import hmac
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import asyncpg

from access_gateway.agents.protocol import Code, key_hash
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

CODE_SECONDS: Final = 600.0
CODE_TRIES: Final = 5
DEAD_SECONDS: Final = 20.0
"""A gateway that has not been heard of for so long is dead to the others."""
_STATEMENT_SECONDS: Final = 2.0
_REMEMBERED: Final = 100_000
_NO_HASH: Final = bytes(32)
FAILURES: Final = (*pg.TRANSIENT, asyncpg.PostgresError)


class StoreUnavailableError(Exception):
    """The database does not answer: nobody can log in, and nobody is let out."""


class NotTheirsError(Exception):
    """The code or the key is wrong, used, too old or void; or the device is not there, or another's."""


class Standing(StrEnum):
    """What the key of an agent is worth now."""

    GOOD = "good"
    VOID = "void"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A device's agent: whose it is, and the hash of its key."""

    device_id: str
    owner_account_id: str
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class NewCode:
    """A code that was just made; it is told this once."""

    code: str
    expires_at: datetime


class AgentStore:
    """The tables ``agent_code`` and ``agent``. Every method raises StoreUnavailableError."""

    def __init__(self, dsn: str, *, max_staleness: float) -> None:
        self._dsn, self._max_staleness = dsn, max_staleness
        self._sql = pg.load_queries("access_gateway", "agents.sql")
        self._pool: pg.Pool | None = None
        self._enrolled: OrderedDict[str, bool] = OrderedDict()
        self._remembers = False
        self._changes = 0

    async def open(self) -> pg.Pool:
        """Connect; raises what asyncpg raises. Presence uses the same sessions."""
        if self._pool is None:
            self._pool = await pg.open_pool(
                self._dsn, application="access-gateway agents", max_size=4, stateless=True
            )
        return self._pool

    async def close(self) -> None:
        """Let the sessions go."""
        if self._pool is not None:
            self._pool.terminate()

    async def create_code(self, device_id: str, account_id: str) -> NewCode:
        """A one-time code for a device of the account's; an older one of the device is void.

        Raises:
            NotTheirsError: there is no such device, or it is not the account's.
        """
        async with self._transaction() as connection:
            owner = await connection.fetchval(self._sql["owner"], device_id)
            if owner != account_id:
                raise NotTheirsError
            await connection.execute(self._sql["forget_codes"])
            code = Code.new()
            expires_at: datetime = await connection.fetchval(
                self._sql["create_code"], device_id, code.selector, code.secret_hash, account_id,
                CODE_SECONDS, CODE_TRIES,
            )  # fmt: skip
        return NewCode(code.text, expires_at)

    async def enrol(self, code: Code, key: str) -> Enrolment:
        """Exchange a code for the right of this key. The same code and key again get the same answer.

        Raises:
            NotTheirsError: see there; a wrong code that begins like a real one costs that one a try.
        """
        hashed = key_hash(key)
        async with self._transaction() as connection:
            row = await connection.fetchrow(self._sql["find_code"], code.selector)
            stored: bytes = _NO_HASH if row is None else row["secret_hash"]
            if not hmac.compare_digest(stored, code.secret_hash) or row is None:
                if row is not None:
                    last = row["tries_left"] <= 1
                    statement = self._sql["delete_code" if last else "one_try_less"]
                    await connection.execute(statement, row["device_id"])
                enrolment = None
            else:
                enrolment = await self._exchange(connection, row, hashed)
        if enrolment is None:
            raise NotTheirsError
        return enrolment

    async def _exchange(self, connection: pg.Connection, row: Any, hashed: bytes) -> Enrolment | None:
        device_id, owner = row["device_id"], row["owner_account_id"]
        if row["present_owner"] != owner:
            await connection.execute(self._sql["delete_code"], device_id)
            return None
        if row["key_hash"] is not None:
            same = hmac.compare_digest(row["key_hash"], hashed)
            return Enrolment(device_id, owner, hashed) if same else None
        await connection.execute(self._sql["use_code"], device_id, hashed)
        await connection.execute(self._sql["enrol"], device_id, owner, hashed)
        await connection.execute(self._sql["notify"], device_id)
        return Enrolment(device_id, owner, hashed)

    async def log_in(self, device_id: str, key: str) -> Enrolment:
        """Who logs in with a key.

        Raises:
            NotTheirsError: see there.
        """
        found = (await self.judge([device_id])).get(device_id)
        hashed = key_hash(key)
        stored = _NO_HASH if found is None else found[0].key_hash
        if not hmac.compare_digest(stored, hashed) or found is None or found[1] is Standing.VOID:
            raise NotTheirsError
        enrolment, standing = found
        if standing is Standing.UNKNOWN:
            raise StoreUnavailableError
        return enrolment

    async def judge(self, devices: Collection[str]) -> dict[str, tuple[Enrolment, Standing]]:
        """The agents of these devices as they stand now; those whose keys are void are removed."""
        found: dict[str, tuple[Enrolment, Standing]] = {}
        async with self._session() as connection:
            for row in await connection.fetch(self._sql["judge"], list(devices), self._max_staleness):
                enrolment = Enrolment(row["device_id"], row["owner_account_id"], row["key_hash"])
                found[enrolment.device_id] = enrolment, Standing(row["standing"])
        void = [enrolment for enrolment, standing in found.values() if standing is Standing.VOID]
        if void:
            async with self._transaction() as connection:
                names, owners = [item.device_id for item in void], [item.owner_account_id for item in void]
                for row in await connection.fetch(self._sql["void"], names, owners):
                    await connection.execute(self._sql["notify"], row["device_id"])
                    log.info("agent_voided", device_id=row["device_id"])
        return found

    async def remove(self, device_id: str, account_id: str) -> None:
        """Remove the agent of a device of the account's, if it has one, and any code.

        Raises:
            NotTheirsError: there is no such device, or it is not the account's.
        """
        async with self._transaction() as connection:
            if await connection.fetchval(self._sql["owner"], device_id) != account_id:
                raise NotTheirsError
            await connection.execute(self._sql["delete_code"], device_id)
            await connection.execute(self._sql["remove"], device_id)
            await connection.execute(self._sql["notify"], device_id)

    async def enrolled(self, device_id: str) -> bool:
        """Whether the device has an agent; from memory, as long as changes are told to `forget`."""
        known = self._enrolled.get(device_id)
        if known is None:
            changes = self._changes
            known = device_id in await self.judge([device_id])
            if self._remembers and changes == self._changes:
                self._enrolled[device_id] = known
                if len(self._enrolled) > _REMEMBERED:
                    self._enrolled.popitem(last=False)
        return known

    def remember(self, yes: bool) -> None:
        """Whether every change is told to `forget` from now on, so that answers may be remembered."""
        self._remembers = yes
        self._enrolled.clear()
        self._changes += 1

    def forget(self, device_id: str) -> None:
        """Something about the device's agent has changed."""
        self._enrolled.pop(device_id, None)
        self._changes += 1

    def may_be_enrolled(self, device_id: str) -> bool:
        """Whether the device has an agent, as far as memory tells."""
        return self._enrolled.get(device_id, True)

    async def beat(self, gateway_id: str, address: str) -> Sequence[str]:
        """This gateway lives at ``address``; the addresses of all that do."""
        async with self._session() as connection:
            await connection.execute(self._sql["heartbeat"], gateway_id, address)
            rows = await connection.fetch(self._sql["gateways"], DEAD_SECONDS)
        return [row["agent_address"] for row in rows]

    async def farewell(self, gateway_id: str) -> None:
        """This gateway lives no longer."""
        async with self._session() as connection:
            await connection.execute(self._sql["farewell"], gateway_id)

    async def left_behind(self, started: str) -> Sequence[str]:
        """Devices of gateways that died, and of the gateway ``started``, which has just come, if any."""
        async with self._session() as connection:
            rows = await connection.fetch(self._sql["left_behind"], DEAD_SECONDS, started)
        return [row["device_id"] for row in rows]

    async def presence(
        self, devices: Sequence[str], *, here: Sequence[str], gateway_id: str
    ) -> Sequence[Any]:
        """Note which of the devices are connected ``here``; what is so now over all gateways, as rows."""
        gone = sorted(set(devices).difference(here))
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_agents"], list(devices))
            await connection.execute(
                self._sql["drop_connections"], gateway_id, gone, list(devices), DEAD_SECONDS
            )
            await connection.execute(self._sql["save_connections"], gateway_id, list(here))
            return await connection.fetch(self._sql["presence"], list(devices), gateway_id)

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncGenerator[pg.Connection]:
        if self._pool is None:
            raise StoreUnavailableError
        try:
            async with asyncio.timeout(_STATEMENT_SECONDS), self._pool.acquire() as connection:
                yield connection
        except FAILURES as error:
            log.warning("agents_database_failed", error=type(error).__name__)
            raise StoreUnavailableError from error

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[pg.Connection]:
        async with self._session() as connection, connection.transaction():
            yield connection
