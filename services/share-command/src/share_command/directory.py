"""directory.devices and directory.accounts into tables: the newest snapshot of each key, null deletes.

What follows for shares is decided in the same transaction.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from contracts import codec
from contracts.base import AccountId, Id
from contracts.contacts import InvalidAddressError, canonical_address
from contracts.directory import AccountSnapshot, DeviceSnapshot
from contracts.events import AnyShareEvent
from contracts.topics import DIRECTORY_ACCOUNTS, DIRECTORY_DEVICES
from servicekit import pg
from servicekit.kafka import Record
from servicekit.logging import get_logger
from servicekit.telemetry import correlated
from share_command import domain
from share_command.metrics import DEAD_LETTERS
from share_command.store import Store

log = get_logger(__name__)

_DEVICE_ID: TypeAdapter[str] = TypeAdapter(Id)
_ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(AccountId)

Decided = list[tuple[domain.Share | None, tuple[AnyShareEvent, ...]]]

PutAside = Callable[[Record, str, str], Awaitable[None]]
"""Keeps an unreadable record: the record, a code, and what is wrong."""


@dataclass(frozen=True, slots=True)
class _DeviceNow:
    record: Record
    device_id: str
    snapshot: DeviceSnapshot | None


@dataclass(frozen=True, slots=True)
class _AccountNow:
    record: Record
    account_id: str
    snapshot: AccountSnapshot | None


class Directory:
    """Applies records of the directories; one that cannot be read is put aside and the next one applied.

    Shares follow in the same transaction: those of a device that is removed or another's end, those that list
    a service that is removed become less, and those of an account that is deleted end. ``committed`` is
    called when there may be events.
    """

    def __init__(
        self,
        topic_prefix: str,
        put_aside: PutAside,
        *,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._devices_topic = topic_prefix + DIRECTORY_DEVICES.name
        self._accounts_topic = topic_prefix + DIRECTORY_ACCOUNTS.name
        self._put_aside, self._committed, self._clock = put_aside, committed, clock
        self._sql = pg.load_queries("share_command")

    @property
    def topics(self) -> tuple[str, str]:
        """What to subscribe to."""
        return self._devices_topic, self._accounts_topic

    async def apply(self, connection: pg.Connection, records: list[Record]) -> None:
        """A `servicekit.inbox.Handle`."""
        store = Store(connection, self._sql)
        read = [item for record in records if (item := await self._read(record)) is not None]
        versions = await self._lock(store, read)
        for item in read:
            cause = f"{item.record.topic}/{item.record.partition}/{item.record.offset}"
            with correlated(None):
                if isinstance(item, _DeviceNow):
                    decided = await self._device(connection, store, item, versions)
                else:
                    decided = await self._account(connection, store, item, versions)
                if decided:
                    versions.update(await store.append(decided, versions, self._clock(), causation=cause))
                    log.info("shares_followed_directory", shares=len(decided), cause=cause)
                    self._committed()

    async def _read(self, record: Record) -> "_DeviceNow | _AccountNow | None":
        try:
            if record.topic == self._devices_topic:
                key = _key(record, _DEVICE_ID)
                if record.value is None:
                    return _DeviceNow(record, key, None)
                _, device = codec.decode_as(record.value, DeviceSnapshot)
                _require_key(key, device.device_id)
                return _DeviceNow(record, key, device)
            key = _key(record, _ACCOUNT_ID)
            if record.value is None:
                return _AccountNow(record, key, None)
            _, account = codec.decode_as(record.value, AccountSnapshot)
            _require_key(key, account.account_id)
            return _AccountNow(record, key, account)
        except codec.DecodeError as error:
            log.warning("directory_record_unreadable", topic=record.topic, partition=record.partition,
                        offset=record.offset, code=error.code)  # fmt: skip
            DEAD_LETTERS.labels(error.code).inc()
            await self._put_aside(record, error.code, str(error))
            return None

    async def _lock(self, store: Store, read: "Sequence[_DeviceNow | _AccountNow]") -> dict[str, int]:
        """Lock the streams of devices whose shares may change, all at once and in order, before anything.

        Of a device that is new here there is no share, and a command about it waits for its snapshot.
        """
        named = [item.device_id for item in read if isinstance(item, _DeviceNow)]
        known = await store.devices(named)
        concerned = set(known)
        deleted = {
            item.account_id for item in read if isinstance(item, _AccountNow) and item.snapshot is None
        }
        for account_id in sorted(deleted):
            await store.lock_account(account_id)
            concerned.update(await store.devices_of_account(account_id))
        return await store.lock_streams(concerned) if concerned else {}

    async def _device(
        self, connection: pg.Connection, store: Store, item: _DeviceNow, versions: Mapping[str, int]
    ) -> Decided:
        device = item.snapshot
        if device is None:
            await connection.execute(self._sql["drop_device"], item.device_id)
        else:
            services = {service.service_id: service for service in device.services}
            await connection.execute(
                self._sql["save_device"], device.device_id, device.owner_account_id, device.name
            )
            await connection.execute(self._sql["drop_other_services"], device.device_id, list(services))
            await connection.execute(
                self._sql["add_services"],
                device.device_id,
                list(services),
                [service.name for service in services.values()],
                [",".join(sorted(service.permissions)) for service in services.values()],
            )
        if item.device_id not in versions:
            return []
        now = None
        if device is not None:
            now = domain.Device(
                device.device_id,
                device.owner_account_id,
                {service.service_id: service.permissions for service in device.services},
            )
        return [
            (share, (event,))
            for share in await store.live_shares([item.device_id])
            if (event := domain.follow_device(share, now, self._clock())) is not None
        ]

    async def _account(
        self, connection: pg.Connection, store: Store, item: _AccountNow, versions: Mapping[str, int]
    ) -> Decided:
        account = item.snapshot
        if account is not None:
            addresses = sorted(_addresses(account))
            await connection.execute(self._sql["unmark_deleted"], account.account_id)
            await connection.execute(self._sql["save_account"], account.account_id, account.name)
            await connection.execute(self._sql["drop_other_addresses"], account.account_id, addresses)
            await connection.execute(self._sql["add_addresses"], account.account_id, addresses)
            return []
        await connection.execute(self._sql["mark_deleted"], item.account_id)
        await connection.execute(self._sql["drop_account"], item.account_id)
        await connection.execute(self._sql["forget_book"], item.account_id)
        await connection.execute(self._sql["forget_rules"], item.account_id)
        return [
            (share, (event,))
            for share in await store.live_shares(versions)
            if item.account_id in (share.owner_account_id, share.account_id)
            and (event := domain.follow_account_deletion(share, self._clock())) is not None
        ]


def _key(record: Record, kind: TypeAdapter[str]) -> str:
    try:
        return kind.validate_python((record.key or b"").decode())
    except UnicodeDecodeError:
        raise codec.DecodeError("MALFORMED", "The record's key is not text.") from None
    except ValidationError:
        raise codec.DecodeError("INVALID_DATA", "The record's key is no id.") from None


def _require_key(key: str, named: str) -> None:
    if key != named:
        raise codec.DecodeError("INVALID_DATA", "The record's key is not the id that its value names.")


def _addresses(account: AccountSnapshot) -> set[str]:
    """Canonical addresses; one that is none gives its account nothing, and takes no other away."""
    addresses: set[str] = set()
    for written in (*account.verified_emails, *account.verified_phones):
        try:
            addresses.add(canonical_address(written))
        except InvalidAddressError:
            log.warning("verified_address_unusable", account_id=account.account_id)
    return addresses
