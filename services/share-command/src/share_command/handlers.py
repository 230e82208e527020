"""Commands, from wherever they come: load, lock, decide, append. One transaction each, in `Handlers.handle`.

A command too large to be decided within a transaction is refused before one is begun. Locks are taken in
this order by every command: its id, contacts by address, devices by id.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar, assert_never
from uuid import UUID

import asyncpg

from contracts.base import new_id
from contracts.commands import (
    AcceptShare,
    AnyCommand,
    CommandAccepted,
    LeaveShare,
    RejectShare,
    RequestShare,
    RevokeShare,
)
from contracts.contacts import InvalidAddressError, canonical_address
from contracts.events import AnyShareEvent
from contracts.positions import Position
from servicekit import pg
from servicekit.logging import get_logger
from share_command import domain
from share_command.errors import (
    REFUSALS,
    DeviceNotFound,
    IdempotencyConflict,
    InvalidEmail,
    LimitReached,
    NotARecipient,
    Refused,
    TimedOut,
    Unavailable,
)
from share_command.metrics import COMMANDS, RETRIES
from share_command.store import Named, Store, StoredCommand

log = get_logger(__name__)

TRANSIENT = (
    *pg.TRANSIENT,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""The database ended the attempt for reasons that pass."""

_MOST_SHARES = 1_000
"""Devices times recipients of one command, which are decided without a pause while the devices are locked."""

_ATTEMPTS = 4
_FIRST_DELAY_SECONDS = 0.05
_ACQUIRE_SECONDS = 5.0

_T = TypeVar("_T")

Decided = list[tuple[domain.Share | None, tuple[AnyShareEvent, ...]]]


class Handlers:
    """Runs commands against the database; ``committed`` is called after each commit that may have news."""

    def __init__(self, pool: pg.Pool, committed: Callable[[], None]) -> None:
        self._pool, self._committed = pool, committed
        self._sql = pg.load_queries("share_command")

    async def handle(self, command: AnyCommand) -> CommandAccepted:
        """Run a command once, whichever way and however often it comes.

        Raises:
            Refused: decided so, now or when the id was first used.
            IdempotencyConflict: the id was used for another command.
            TimedOut: the database is there, and ended each attempt for taking too long.
            Unavailable: the database is away; whether it was done is answered by sending it again.
        """
        name = type(command).__name__
        try:
            _require_limits(command)
            accepted = await self._retried(lambda: self._once(command))
        except (Refused, IdempotencyConflict, TimedOut, Unavailable) as error:
            COMMANDS.labels(name, error.code).inc()
            log.info("command_refused", command=name, command_id=command.command_id, code=error.code)
            raise
        COMMANDS.labels(name, "accepted").inc()
        log.info("command_accepted", command=name, command_id=command.command_id,
                 positions=[str(position) for position in accepted.positions])  # fmt: skip
        return accepted

    async def _once(self, command: AnyCommand) -> CommandAccepted:
        now = datetime.now(UTC)
        digest = _digest(command)
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection, connection.transaction():
            store = Store(connection, self._sql)
            stored = await store.claim(command.command_id, digest)
            if stored is not None:
                return _stored_answer(command, digest, stored)
            try:
                async with connection.transaction():  # a savepoint: a refusal undoes all but the answer
                    answer = CommandAccepted(
                        command_id=command.command_id, positions=await _run(command, store, now)
                    )
            except Refused as refusal:
                answer = refusal
            await store.finish(command.command_id, _to_json(command, answer))
        if isinstance(answer, Refused):
            raise answer
        self._committed()
        return answer

    async def read(self, ask: Callable[[Store], Awaitable[_T]]) -> _T:
        """Ask the database outside of any command; raises TimedOut and Unavailable as `handle` does."""

        async def once() -> _T:
            async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
                return await ask(Store(connection, self._sql))

        return await self._retried(once)

    async def _retried(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        delay = _FIRST_DELAY_SECONDS
        too_long = False
        for left in reversed(range(_ATTEMPTS)):
            try:
                return await attempt()
            except TRANSIENT as error:
                too_long = _took_too_long(error)
                RETRIES.inc()
                log.warning("database_attempt_failed", error=type(error).__name__, attempts_left=left)
            if left:
                await asyncio.sleep(delay)
                delay *= 2
        raise TimedOut if too_long else Unavailable


def _took_too_long(error: BaseException | None) -> bool:
    """Whether the server ended the attempt for its length.

    A session ended while it idles in a transaction is reported by asyncpg as a lost connection, whose
    message is the server's; what closing the transaction raises then comes on top of it.
    """
    while error is not None:
        if isinstance(error, (asyncpg.QueryCanceledError, asyncpg.IdleInTransactionSessionTimeoutError)):
            return True
        if isinstance(error, asyncpg.PostgresConnectionError) and "idle-in-transaction" in str(error):
            return True
        error = error.__context__
    return False


def _require_limits(command: AnyCommand) -> None:
    if isinstance(command, AcceptShare | RejectShare):
        return
    devices, recipients = len(set(command.device_ids)), len(set(command.recipients)) or 1
    if devices * recipients > _MOST_SHARES:
        raise LimitReached(
            f"{devices} devices with {recipients} recipients are {devices * recipients} shares; at most "
            f"{_MOST_SHARES} go into one command. Split it into smaller ones, each with an id of its own."
        )


async def _run(command: AnyCommand, store: Store, now: datetime) -> tuple[Position, ...]:
    match command:
        case RequestShare():
            return await request_share(command, store=store, now=now)
        case RevokeShare():
            return await revoke_share(command, store=store, now=now)
        case LeaveShare():
            return await leave_share(command, store=store, now=now)
        case AcceptShare() | RejectShare():
            return await answer_invitation(command, store=store, now=now)
        case _:
            assert_never(command)


async def request_share(command: RequestShare, *, store: Store, now: datetime) -> tuple[Position, ...]:
    """All devices with all recipients, or nothing."""
    addresses = _addresses(command.recipients)
    named = await _named(command.device_ids, command.actor, store)
    for item in named:
        if item.owner_account_id != command.actor:
            raise DeviceNotFound(device_id=item.written)
    own = await store.verified_addresses(command.actor)
    if not command.services or any(change.action == "ADD" for change in command.services):
        contacts = await store.lock_contacts(list(addresses), now, causation=command.command_id)
        await store.use_contacts(command.actor, contacts.values(), now)
    else:  # taking services out makes no contact
        contacts = await store.contacts(addresses)
    by_device = _by_device(named)
    versions = await store.lock_streams(by_device)
    devices = await store.devices(by_device)
    domain.require_services(command, devices.values())
    shares = await store.shares_of_contacts(by_device, contacts.values())
    decided: Decided = []
    for device_id, items in by_device.items():
        for address, written in addresses.items():
            if address not in contacts and address not in own:
                continue
            contact_id = contacts.get(address, new_id())
            subject = _subject(items, contact_id, devices.get(device_id), verified=address in own)
            _decide(decided, shares.get((device_id, contact_id)), command, subject, items, written)
    return _positions(await store.append(decided, versions, now, causation=command.command_id))


async def revoke_share(command: RevokeShare, *, store: Store, now: datetime) -> tuple[Position, ...]:
    """By the owner: ends the shares with all recipients. By the recipient: he leaves."""
    addresses = _addresses(command.recipients)
    named = await _named(command.device_ids, command.actor, store)
    own = await store.verified_addresses(command.actor)
    contacts = await store.contacts(addresses)
    by_device = _by_device(named)
    versions = await store.lock_streams(by_device)
    devices = await store.devices(by_device)
    shares = await store.shares_of_contacts(by_device, contacts.values())
    decided: Decided = []
    for device_id, items in by_device.items():
        for address, written in addresses.items():
            contact_id = contacts.get(address, new_id())  # an unknown contact has no share
            subject = _subject(items, contact_id, devices.get(device_id), verified=address in own)
            _decide(decided, shares.get((device_id, contact_id)), command, subject, items, written)
    return _positions(await store.append(decided, versions, now, causation=command.command_id))


async def leave_share(command: LeaveShare, *, store: Store, now: datetime) -> tuple[Position, ...]:
    """Give back what the actor has of the devices, by all his addresses or those named."""
    own = await store.verified_addresses(command.actor)
    addresses = _addresses(command.recipients)
    for address, written in addresses.items():
        if address not in own:
            raise NotARecipient(recipient=written)
    named = await _named(command.device_ids, None, store)
    contacts = await store.contacts(own)
    chosen = {contacts[address] for address in addresses if address in contacts}
    by_device = _by_device(named)
    versions = await store.lock_streams(by_device)
    shares = await store.shares_of_recipient(by_device, command.actor, contacts.values())
    verified = set(contacts.values())
    decided: Decided = []
    for device_id, items in by_device.items():
        mine = [
            share
            for share in shares
            if share.device_id == device_id
            and (not addresses or share.contact_id in chosen)
            and domain.is_recipient(share, command.actor, verified=share.contact_id in verified)
        ]
        if not mine:
            raise DeviceNotFound(device_id=items[0].written)
        for share in mine:
            subject = _subject(items, share.contact_id, None, verified=share.contact_id in verified)
            _decide(decided, share, command, subject, items, None)
    return _positions(await store.append(decided, versions, now, causation=command.command_id))


async def answer_invitation(
    command: AcceptShare | RejectShare, *, store: Store, now: datetime
) -> tuple[Position, ...]:
    """Accept or reject one invitation."""
    if await store.share(command.share_id, command.device_id) is None:  # makes no stream for what is not
        raise DeviceNotFound(device_id=command.device_id)
    versions = await store.lock_streams([command.device_id])
    found = await store.share(command.share_id, command.device_id)
    assert found is not None, "shares are never deleted"
    share, address = found
    own = await store.verified_addresses(command.actor)
    devices = await store.devices([command.device_id])
    item = Named(command.device_id, command.device_id, None, share.owner_account_id)
    subject = _subject([item], share.contact_id, devices.get(command.device_id), verified=address in own)
    decided: Decided = []
    _decide(decided, share, command, subject, [item], None)
    return _positions(await store.append(decided, versions, now, causation=command.command_id))


def _decide(  # noqa: PLR0917 - as many as name one decision
    decided: Decided,
    share: domain.Share | None,
    command: AnyCommand,
    subject: domain.Subject,
    items: list[Named],
    recipient: str | None,
) -> None:
    """Decide one share, and name what was refused as the caller wrote it."""
    try:
        events = domain.decide(share, command, subject)
    except Refused as refusal:
        raise refusal.about(device_id=items[0].written, recipient=recipient) from None
    if events:
        decided.append((share, events))


def _addresses(recipients: Iterable[str]) -> dict[str, str]:
    """Canonical address → as written; each once."""
    addresses: dict[str, str] = {}
    for written in recipients:
        try:
            addresses.setdefault(canonical_address(written), written)
        except InvalidAddressError as error:
            raise InvalidEmail(str(error), recipient=written) from None
    return addresses


async def _named(names: Iterable[str], owner: str | None, store: Store) -> list[Named]:
    """What each name stands for: a device of the owner, else a service of his; else those of others.

    A name that the directory does not know may still be a device that was: it stands for itself, owned by
    nobody, so that a recipient can give it back.
    """
    found: dict[str, list[Named]] = {}
    names = list(dict.fromkeys(names))
    for item in await store.resolve(names):
        found.setdefault(item.written, []).append(item)

    def best(name: str) -> Named:
        candidates = found.get(name)
        if candidates is None:
            return Named(name, name, None, "")
        return min(candidates, key=lambda item: (item.owner_account_id != owner, item.service_id is not None))

    return [best(name) for name in names]


def _by_device(named: Iterable[Named]) -> dict[str, list[Named]]:
    by_device: dict[str, list[Named]] = {}
    for item in named:
        by_device.setdefault(item.device_id, []).append(item)
    return by_device


def _subject(
    items: list[Named], contact_id: UUID, device: domain.Device | None, *, verified: bool
) -> domain.Subject:
    services = [item.service_id for item in items]
    return domain.Subject(
        device_id=items[0].device_id,
        contact_id=contact_id,
        share_id=new_id(),
        device=device,
        verified=verified,
        named_services=() if None in services else tuple(item for item in services if item is not None),
    )


def _positions(versions: dict[str, int]) -> tuple[Position, ...]:
    return tuple(Position(device_id, version) for device_id, version in versions.items())


def _digest(command: AnyCommand) -> bytes:
    """Same command, same digest; a field added later with a default does not change it."""
    body = command.model_dump_json(exclude={"command_id"}, exclude_defaults=True)
    return hashlib.sha256(f"{type(command).__name__} {body}".encode()).digest()


def _to_json(command: AnyCommand, answer: CommandAccepted | Refused) -> str:
    """The answer without any address: a recipient is stored as his place in the command."""
    if isinstance(answer, CommandAccepted):
        return json.dumps({"accepted": answer.model_dump(mode="json")})
    details = dict(answer.details)
    if "recipient" in details:
        details["recipient"] = _recipients(command).index(str(details["recipient"]))
    message = None if isinstance(answer, InvalidEmail) else answer.message  # it may repeat the address
    return json.dumps({"refused": {"code": answer.code, "message": message, "details": details}})


def _recipients(command: AnyCommand) -> tuple[str, ...]:
    return () if isinstance(command, AcceptShare | RejectShare) else command.recipients


def _stored_answer(command: AnyCommand, digest: bytes, stored: StoredCommand) -> CommandAccepted:
    if stored.digest != digest:
        raise IdempotencyConflict
    result: dict[str, Any] = json.loads(stored.result)
    if "accepted" in result:
        return CommandAccepted.model_validate(result["accepted"])
    refused = result["refused"]
    kind, details = REFUSALS[refused["code"]], refused["details"]
    if "recipient" in details:
        details["recipient"] = _recipients(command)[details["recipient"]]
        if kind is InvalidEmail:
            _addresses([details["recipient"]])  # says again what is wrong with it
    raise kind(refused["message"], **details)
