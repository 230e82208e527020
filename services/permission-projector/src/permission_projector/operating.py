"""``permission-projector who-had-access`` and ``why``: the past, for who runs the installation.

They are asked past every rule of who may see what: by the right to read the database.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import asyncpg
from pydantic import TypeAdapter, ValidationError

from contracts.base import Moment
from contracts.permissions import Permission
from permission_projector import looking_back
from permission_projector.generation import LIVE
from permission_projector.looking_back import PastAccess, PastEvent, Why
from permission_projector.settings import NAME
from servicekit import pg
from servicekit.settings import PostgresSettings, load

_T = TypeVar("_T")
_MOMENT: Final = TypeAdapter[datetime](Moment)
_UNREACHABLE: Final = 3


def _moment(text: str) -> datetime:
    try:
        return _MOMENT.validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time with its zone, as in 2026-03-01T12:00:00Z"
        ) from None


def add_verbs(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage] - it has no public name
) -> None:
    """Declare both verbs; what they were given has a ``run``, which answers the exit code."""
    who = verbs.add_parser("who-had-access", help="who had access to a device at a time, and by which event")
    who.add_argument("device")
    who.add_argument("--service", help="to this service of it only")
    who.add_argument("--at", type=_moment, required=True, metavar="TIME", help="2026-03-01T12:00:00Z")
    who.set_defaults(run=_who_had_access)
    why = verbs.add_parser("why", help="why an account may do something with a service, or may not")
    why.add_argument("account")
    why.add_argument("device")
    why.add_argument("service")
    why.add_argument("permission", type=Permission, choices=list(Permission), metavar="permission")
    why.add_argument("--at", type=_moment, metavar="TIME", help="now, unless given")
    why.set_defaults(run=_why)
    for verb in (who, why):
        verb.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _who_had_access(given: argparse.Namespace) -> int:
    async def ask(pool: pg.Pool, sql: dict[str, str]) -> list[PastAccess]:
        return await looking_back.who_had_access(pool, sql, given.device, given.service, given.at)

    def tell(found: list[PastAccess]) -> None:
        about = {"device_id": given.device, "service_id": given.service, "at": given.at.isoformat()}
        if given.json:
            _write(json.dumps({**about, "items": [item.model_dump(mode="json") for item in found]}))
            return
        for item in found:
            address = item.email or item.phone or item.account.name or "-"
            _write(f"{item.role}\t{item.account.account_id}\t{address}\t{_event(given.device, item.by)}")
        if not found:
            _write("Nobody: no such device was known at that time.")

    return asyncio.run(_answer(ask, tell))


def _why(given: argparse.Namespace) -> int:
    at = given.at or datetime.now(UTC)

    async def ask(pool: pg.Pool, sql: dict[str, str]) -> Why:
        return await looking_back.why(
            pool, sql, given.account, given.device, given.service, given.permission, at
        )

    def tell(found: Why) -> None:
        if given.json:
            _write(json.dumps({"at": at.isoformat(), **found.model_dump(mode="json")}))
            return
        allowed = "allowed" if found.allowed else "not allowed"
        _write(f"{allowed}\t{found.reason}\t{_event(given.device, found.by)}")
        for step in found.steps:
            event = _event(given.device, step.event)
            _write(f"  share {step.share_id}\t{step.state}\t{event}\t{step.verdict or ''}")

    return asyncio.run(_answer(ask, tell))


async def _answer(ask: Callable[[pg.Pool, dict[str, str]], Awaitable[_T]], tell: Callable[[_T], None]) -> int:
    dsn = load(PostgresSettings).postgres_dsn.get_secret_value()
    try:
        pool = await pg.open_pool(
            dsn,
            application=f"{NAME}-operating",
            search_path=LIVE,
            max_size=1,
            settings={"default_transaction_read_only": "on"},
        )
        async with pool:
            tell(await ask(pool, pg.load_queries("permission_projector", "history.sql")))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        sys.stderr.write("The database lacks the read models' tables. Run: permission-projector migrate\n")
        return _UNREACHABLE
    except (*pg.TRANSIENT, asyncpg.PostgresError) as error:
        sys.stderr.write(f"The database does not answer ({error}). See LATCHKEY_POSTGRES_DSN.\n")
        return _UNREACHABLE
    return 0


def _event(device: str, event: PastEvent | None) -> str:
    return f"{event.kind} {device}@{event.version} {event.at.isoformat()}" if event else "-"


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
