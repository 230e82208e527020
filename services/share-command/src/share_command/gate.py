"""One transaction for several commands: what all of them ask of the database is asked once."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import asyncpg

from servicekit import pg

_ORDER: Final = (
    "claim_command",
    "stored_command",
    "book_addresses",
    "resolve_names",
    "lock_owner",
    "accounts",
    "deleted_accounts",
    "share",
    "book_contacts",
    "add_contacts",
    "append_outbox",
    "contacts",
    "shares_of_recipient",
    "add_streams",
    "lock_streams",
    "devices",
    "shares_of_contacts",
    "live_counts",
    "append",
    "save_message",
    "finish_command",
)
"""The statements that commands may share, in the order in which all take their locks."""

_IF_FREE: Final = {"lock_owner": "lock_owner_if_free", "lock_streams": "lock_streams_if_free"}
"""What commands that share a transaction do instead: none of them waits for the locks of another's owner."""

_APART: Final = frozenset({"claim_command", "lock_owner", "lock_streams"})
"""What these lock must be one command's: two of them would decide on the same state."""


class ApartError(RuntimeError):
    """What a command of a shared transaction must lock is locked: it wants a transaction of its own."""


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    columns: tuple[Sequence[object], ...]
    rows: "asyncio.Future[list[asyncpg.Record]]"


class Gate:
    """Runs the statements of so many ``commands`` in the order of `_ORDER`.

    Each statement takes arrays and nothing else. A command waits at its statement until each of the others
    waits too, or has left; then the first of the statements runs with all their arrays joined, and each
    command gets all rows, its own among them. So the locks are taken in one order, whatever the commands are.
    """

    def __init__(self, connection: pg.Connection, sql: Mapping[str, str], commands: int = 1) -> None:
        self._connection, self._sql = connection, sql
        self._alone, self._left = commands == 1, commands
        self._waiting: list[_Asked] = []
        self._running: asyncio.Task[None] | None = None

    async def fetch(self, name: str, *columns: Sequence[object]) -> list[asyncpg.Record]:
        """The rows of a statement for what this command asks, and maybe others' among them.

        Raises:
            ApartError: another command of this transaction locks the same.
            asyncpg.PostgresError: the statement failed, and the transaction with it.
        """
        if self._alone:
            return await self._connection.fetch(self._sql[name], *columns)
        asked = _Asked(name, columns, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._turn()
        return await asked.rows

    def leave(self) -> None:
        """This command asks for nothing more."""
        self._left -= 1
        self._turn()

    def _turn(self) -> None:
        if self._waiting and len(self._waiting) == self._left:
            self._running = asyncio.create_task(self._run_first())

    async def _run_first(self) -> None:
        first = min((asked.name for asked in self._waiting), key=_ORDER.index)
        together = [asked for asked in self._waiting if asked.name == first]
        self._waiting = [asked for asked in self._waiting if asked.name != first]
        columns: list[list[Any]] = [
            list(chain.from_iterable(parts))
            for parts in zip(*(asked.columns for asked in together), strict=True)
        ]
        try:
            if first in _APART and len(set(columns[0])) < len(columns[0]):
                raise ApartError
            rows = await self._connection.fetch(self._sql[_IF_FREE.get(first, first)], *columns)
        except Exception as error:
            for asked in together:
                if not asked.rows.done():
                    asked.rows.set_exception(error)
        else:
            for asked in together:
                if not asked.rows.done():
                    asked.rows.set_result(rows)
