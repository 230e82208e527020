"""Runs commands: once for each id, in one transaction, again when the database was away."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import NAMESPACE_URL, uuid5

import asyncpg

from contracts.commands import (
    AnyCommand,
    ChangeShare,
    CommandAccepted,
    RequestShare,
)
from contracts.outcomes import BulkDone, BulkShare, Explanation, ItemOutcome
from contracts.positions import Position
from servicekit import pg
from servicekit.logging import get_logger
from servicekit.telemetry import correlated
from share_command import domain
from share_command.book import Book
from share_command.errors import (
    IdempotencyConflict,
    RateLimited,
    Refused,
    ShareCommandError,
    TimedOut,
    Unavailable,
)
from share_command.gate import Gate
from share_command.handlers import answers, naming
from share_command.handlers.bounds import require_bulk_size, require_size
from share_command.handlers.commands import Context, Limits, Work, run
from share_command.handlers.together import Entry, Together
from share_command.metrics import APART, COMMANDS, RETRIES
from share_command.store import Store, StoredCommand

log = get_logger(__name__)

_TRANSIENT = (*pg.TRANSIENT, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)
_ATTEMPTS = 4
_FIRST_DELAY_SECONDS = 0.05
_ACQUIRE_SECONDS = 5.0
_BULK = '{"bulk": true}'

_T = TypeVar("_T")


def system_clock() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


class _NothingDone(Exception):
    """Undoes a savepoint."""


class Handlers:
    """Runs commands against the database; ``committed`` is called after each commit that may have news."""

    def __init__(
        self,
        pool: pg.Pool,
        committed: Callable[[], None],
        *,
        clock: Callable[[], datetime] = system_clock,
        rules: domain.Rules | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._pool, self._committed, self._clock = pool, committed, clock
        self._rules, self._limits = rules or domain.Rules(), limits or Limits()
        self._together = Together(self._run)
        self._sql = {**pg.load_queries("share_command"), **pg.load_queries("share_command", "book.sql")}

    def now(self) -> datetime:
        """The time by the clock that decides."""
        return self._clock()

    async def handle(self, command: AnyCommand) -> CommandAccepted:
        """Run a command once, whichever way and however often it comes.

        Raises:
            Refused: decided so, now or when the id was first used.
            IdempotencyConflict: the id was used for another command.
            RateLimited: too early; nothing is stored under the id.
            TimedOut: the database is there, and ended each attempt for taking too long.
            Unavailable: the database is away; whether it was done is answered by sending it again.
        """
        name = type(command).__name__
        try:
            require_size(command)
            accepted = await self._together.answer(command)
        except ShareCommandError as error:
            COMMANDS.labels(name, error.code).inc()
            log.info("command_refused", command=name, command_id=command.command_id, code=error.code)
            raise
        COMMANDS.labels(name, "accepted").inc()
        log.info("command_accepted", command=name, command_id=command.command_id,
                 positions=[str(position) for position in accepted.positions])  # fmt: skip
        return accepted

    async def _run(self, entries: Sequence[Entry]) -> None:
        """Answer commands, in one transaction if that goes; what one of them is refused for is its own."""
        if len(entries) > 1 and await self._shared(entries):
            return
        await asyncio.wait(
            [asyncio.create_task(self._apart(entry), context=entry.context) for entry in entries]
        )

    async def _apart(self, entry: Entry) -> None:
        """Answer a command in a transaction of its own."""
        try:
            _settle(entry, await self._retried(lambda: self._once(entry.command)))
        except Exception as error:
            _settle(entry, error)

    async def _shared(self, entries: Sequence[Entry]) -> bool:
        """Whether all were run in one transaction; if not, nothing is done, and nobody was waited for."""
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection, connection.transaction():
                gate = Gate(connection, self._sql, len(entries))
                members = [
                    asyncio.create_task(self._member(connection, gate, entry), context=entry.context)
                    for entry in entries
                ]
                await asyncio.wait(members)
                errors = [error for member in members if (error := member.exception()) is not None]
                if errors:  # all were looked at: one that nobody asks for would be reported as a fault
                    raise errors[0]
                results = [member.result() for member in members]
                found = [
                    accepted or _again(entry.command, stored)
                    for entry, (accepted, stored) in zip(entries, results, strict=True)
                ]
        except Exception as error:  # by itself, each command meets its own
            APART.labels(type(error).__name__).inc()
            return False
        for entry, answer in zip(entries, found, strict=True):
            _settle(entry, answer)
        self._committed()
        return True

    async def _member(
        self, connection: pg.Connection, gate: Gate, entry: Entry
    ) -> tuple[CommandAccepted | None, StoredCommand | None]:
        try:
            return await self._decided(entry.command, Store(connection, self._sql, gate))
        finally:
            gate.leave()

    async def _decided(
        self, command: AnyCommand, store: Store
    ) -> tuple[CommandAccepted | None, StoredCommand | None]:
        """Decide and append: accepted, or what is stored under the id."""
        stored = await store.claim(command.command_id, answers.digest(command, without="command_id"))
        if stored is not None:
            return None, stored
        work = await run(command, self._context(store, strict=True))
        accepted = CommandAccepted(command_id=command.command_id, positions=work.positions)
        await _append(command, work, store, answers.to_json(command, accepted))
        return accepted, None

    async def _once(self, command: AnyCommand) -> CommandAccepted:
        accepted = None
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection, connection.transaction():
                accepted, stored = await self._decided(command, Store(connection, self._sql))
        except Refused as refusal:  # all is undone; the answer is kept
            stored = await self._keep(command, answers.digest(command, without="command_id"), refusal)
        if accepted is None:
            answer = _again(command, stored)
            if isinstance(answer, ShareCommandError):
                raise answer
            return answer
        self._committed()
        return accepted

    async def _keep(self, command: AnyCommand, digest: bytes, refusal: Refused) -> StoredCommand:
        """Store a refusal; or what a twin of the command has stored meanwhile."""
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection, connection.transaction():
            store = Store(connection, self._sql)
            stored = await store.claim(command.command_id, digest)
            if stored is None:
                stored = StoredCommand(digest, answers.to_json(command, refusal))
                await store.finish(command.command_id, stored.result)
            return stored

    def _context(self, store: Store, *, strict: bool) -> Context:
        return Context(store, self._clock, self._rules, self._limits, strict)

    async def bulk(self, order: BulkShare) -> BulkDone:
        """Share each device with each recipient, a transaction for each device, and go on where it stopped.

        All events carry one correlation id, also those of later attempts.

        Raises:
            LimitReached: more than one bulk may hold.
            ServiceNotOnDevice: a service listed is on none of the devices; nothing was done.
            IdempotencyConflict: the operation id was used for another bulk.
            TimedOut, Unavailable: as for `handle`; what was done stays, the same operation goes on.
        """
        require_bulk_size(order)
        items: list[ItemOutcome] = []
        positions: list[Position] = []
        correlation = uuid5(NAMESPACE_URL, f"latchkey:bulk:{order.actor}:{order.operation_id}")
        with correlated(str(correlation)):
            await self._retried(lambda: self._claim_bulk(order))
            for device_id in dict.fromkeys(order.device_ids):
                fields = order.model_dump(exclude={"operation_id", "device_ids"})
                command = RequestShare(
                    command_id=f"{order.operation_id}/{device_id}", device_ids=(device_id,), **fields
                )
                done, at = await self._retried(lambda command=command: self._bulk_device(command))
                items += done
                positions += at
            log.info("bulk_done", operation_id=order.operation_id, shares=len(items))
        return BulkDone(operation_id=order.operation_id, items=tuple(items), positions=tuple(positions))

    async def _claim_bulk(self, order: BulkShare) -> None:
        digest = answers.digest(order, without="operation_id")
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection, connection.transaction():
            store = Store(connection, self._sql)
            stored = await store.claim(order.operation_id, digest)
            if stored is None:
                named = await naming.named(order.device_ids, order.actor, store)
                own = [item.device_id for item in named if item.owner_account_id == order.actor]
                if own:  # else every device is refused, each by itself
                    domain.require_services(order.services, (await store.devices(own)).values())
                await store.finish(order.operation_id, _BULK)
            elif stored.digest != digest:
                raise IdempotencyConflict

    async def _bulk_device(self, command: RequestShare) -> tuple[list[ItemOutcome], list[Position]]:
        digest = answers.digest(command, without="command_id")
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection, connection.transaction():
            store = Store(connection, self._sql)
            stored: StoredCommand | None = await store.claim(command.command_id, digest)
            if stored is not None:
                items, at = answers.items_from_json(command, digest, stored)
                return items, [Position.parse(text) for text in at]
            items, positions = await self._device_done(
                connection, command, self._context(store, strict=False)
            )
        for item in items:
            COMMANDS.labels("BulkShare", item.code or "accepted").inc()
        self._committed()
        return items, list(positions)

    async def _device_done(
        self, connection: pg.Connection, command: RequestShare, context: Context
    ) -> tuple[list[ItemOutcome], tuple[Position, ...]]:
        """Decide, append and store the answer; when all of it is refused, nothing else is changed."""
        work = Work(self._clock())
        try:
            async with connection.transaction():  # a savepoint
                work = await run(command, context)
                if all(item.refusal is not None for item in work.items):
                    raise _NothingDone
                items = [answers.outcome(item) for item in work.items]
                answer = answers.items_to_json(command, items, work.positions)
                await _append(command, work, context.store, answer)
                return items, work.positions
        except _NothingDone:
            pass
        except Refused as refusal:
            if not work.items:  # of whoever asks, not of one of the shares
                raise
            for item in work.items:
                item.refusal = item.refusal or refusal.about(
                    device_id=item.device_id, recipient=item.recipient
                )
        items = [answers.outcome(item) for item in work.items]
        await context.store.finish(command.command_id, answers.items_to_json(command, items, ()))
        return items, ()

    async def explain(self, command: AnyCommand) -> Explanation:
        """What the command would do now, by the very decision that would be made; does nothing.

        Raises:
            TimedOut, Unavailable: as for `handle`.
        """
        try:
            require_size(command)
            work, refusal = await self._retried(lambda: self._undone(command))
        except (Refused, RateLimited) as refused:
            return Explanation(would_be_accepted=False, code=refused.code, message=refused.message)
        return Explanation(
            would_be_accepted=refusal is None,
            items=tuple(answers.explanation(item, work.now) for item in work.items),
            code=refusal and refusal.code,
            message=refusal and refusal.message,
        )

    async def _undone(self, command: AnyCommand) -> tuple[Work, Refused | None]:
        """Handle it, then undo it; when it is refused, decide each share by itself to tell which are."""
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                context = self._context(Store(connection, self._sql), strict=True)
                try:
                    async with connection.transaction():
                        work = await run(command, context)
                        await _append(command, work, context.store)
                        return work, None
                except Refused as refusal:
                    try:
                        return await run(command, replace(context, strict=False)), refusal
                    except Refused:  # of the command as a whole
                        return Work(self._clock()), refusal
            finally:
                await transaction.rollback()

    async def outside(self, ask: Callable[[Book], Awaitable[_T]]) -> _T:
        """Read or change, in one transaction, what is in no event: contact book, rules of recipients.

        Raises:
            ShareCommandError: what ``ask`` raises; TimedOut and Unavailable as for `handle`.
        """

        async def once() -> _T:
            async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection, connection.transaction():
                return await ask(Book(connection, self._sql, self._clock()))

        result = await self._retried(once)
        self._committed()
        return result

    async def _retried(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        delay = _FIRST_DELAY_SECONDS
        too_long = False
        for left in reversed(range(_ATTEMPTS)):
            try:
                return await attempt()
            except _TRANSIENT as error:
                too_long = _took_too_long(error)
                RETRIES.inc()
                log.warning("database_attempt_failed", error=type(error).__name__, attempts_left=left)
            if left:
                await asyncio.sleep(delay)
                delay *= 2
        raise TimedOut if too_long else Unavailable


async def _append(command: AnyCommand, work: Work, store: Store, answer: str | None = None) -> None:
    """What was decided, with the owner's words and, if given, the answer that is stored."""
    await store.append(work.decided, work.versions, work.now, causation=command.command_id, answer=answer)
    if isinstance(command, RequestShare | ChangeShare) and command.message is not None:
        await store.save_message(
            [
                share_id
                for item in work.items
                if item.refusal is None and (share_id := answers.outcome(item).share_id) is not None
            ],
            command.message,
        )


def _settle(entry: Entry, answer: CommandAccepted | BaseException) -> None:
    if entry.answer.done():  # its sender has gone
        return
    if isinstance(answer, BaseException):
        entry.answer.set_exception(answer)
    else:
        entry.answer.set_result(answer)


def _again(command: AnyCommand, stored: StoredCommand | None) -> CommandAccepted | ShareCommandError:
    """The answer that is stored under a command's id."""
    assert stored is not None, "it was refused, stored before, or accepted"
    try:
        return answers.from_json(command, answers.digest(command, without="command_id"), stored)
    except ShareCommandError as error:
        return error


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
