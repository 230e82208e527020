"""One statement at a time, each on a connection of its own: a rebuild of hours may lie between two."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from pydantic import SecretStr

from servicekit import pg

_CONNECT_SECONDS = 10


class Database:
    """The database as the role of ``dsn``.

    Each call raises OSError or asyncpg.PostgresError when there is no answer.
    """

    def __init__(self, dsn: SecretStr, schema: str = "permission_projector") -> None:
        self._dsn, self._schema = dsn, schema
        self.sql: Mapping[str, str] = pg.load_queries("latchkey_ops")

    async def rows(self, name: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """The rows of the statement ``name``."""
        connection = await asyncpg.connect(
            self._dsn.get_secret_value(),
            timeout=_CONNECT_SECONDS,
            server_settings={
                "search_path": self._schema,
                "application_name": "latchkey-ops",
                "statement_timeout": "30s",
            },
        )
        try:
            return [dict(row) for row in await connection.fetch(self.sql[name], *arguments)]
        finally:
            await connection.close()
