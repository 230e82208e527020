"""Every change leaves a row in ``permission_projector.operation``: written before it, and again after it."""

import contextlib
import getpass
import json
import os
import socket
from collections.abc import AsyncGenerator, Mapping

from latchkey_ops.database import Database
from latchkey_ops.errors import OpsError

_MOST_DETAIL = 1_000


class Audit:
    """``reason`` is what the operator gives."""

    def __init__(self, database: Database, reason: str | None) -> None:
        self._database, self._reason = database, reason

    @contextlib.asynccontextmanager
    async def recorded(self, what: str, arguments: Mapping[str, object]) -> AsyncGenerator[None]:
        """Record the change that the block makes: ``failed`` when it raises.

        A row that stays at ``begun`` tells that the process was killed meanwhile.
        """
        (row,) = await self._database.rows(
            "begin_operation", _who(), self._reason, what, json.dumps(arguments)
        )
        number: int = row["operation_id"]
        try:
            yield
        except BaseException as error:
            await self._end(number, "failed", str(error) if isinstance(error, OpsError) else repr(error))
            raise
        await self._end(number, "done", None)

    async def _end(self, number: int, outcome: str, detail: str | None) -> None:
        await self._database.rows("end_operation", number, outcome, detail and detail[:_MOST_DETAIL])


def _who() -> str:
    """The operating system's user and host; of a user without a name, as containers have them, his number."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
