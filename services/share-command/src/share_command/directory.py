"""directory.devices and directory.accounts into tables: the newest snapshot of each key, null deletes."""

from collections.abc import Awaitable, Callable

from pydantic import TypeAdapter, ValidationError

from contracts import codec
from contracts.base import AccountId, Id
from contracts.contacts import InvalidAddressError, canonical_address
from contracts.directory import AccountSnapshot, DeviceSnapshot
from contracts.topics import DIRECTORY_ACCOUNTS, DIRECTORY_DEVICES
from servicekit import pg
from servicekit.kafka import Record
from servicekit.logging import get_logger
from share_command.metrics import DEAD_LETTERS

log = get_logger(__name__)

_DEVICE_ID: TypeAdapter[str] = TypeAdapter(Id)
_ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(AccountId)

PutAside = Callable[[Record, str, str], Awaitable[None]]
"""Keeps an unreadable record: the record, a code, and what is wrong."""


class Directory:
    """Applies records of the directories; one that cannot be read is put aside and the next one applied."""

    def __init__(self, topic_prefix: str, put_aside: PutAside) -> None:
        self._devices_topic = topic_prefix + DIRECTORY_DEVICES.name
        self._accounts_topic = topic_prefix + DIRECTORY_ACCOUNTS.name
        self._put_aside = put_aside
        self._sql = pg.load_queries("share_command")

    @property
    def topics(self) -> tuple[str, str]:
        """What to subscribe to."""
        return self._devices_topic, self._accounts_topic

    async def apply(self, connection: pg.Connection, records: list[Record]) -> None:
        """A `servicekit.inbox.Handle`."""
        for record in records:
            try:
                if record.topic == self._devices_topic:
                    await self._device(connection, record)
                else:
                    await self._account(connection, record)
            except codec.DecodeError as error:
                log.warning("directory_record_unreadable", topic=record.topic, partition=record.partition,
                            offset=record.offset, code=error.code)  # fmt: skip
                DEAD_LETTERS.labels(error.code).inc()
                await self._put_aside(record, error.code, str(error))

    async def _device(self, connection: pg.Connection, record: Record) -> None:
        key = _key(record, _DEVICE_ID)
        if record.value is None:
            await connection.execute(self._sql["drop_device"], key)
            return
        _, device = codec.decode_as(record.value, DeviceSnapshot)
        _require_key(key, device.device_id)
        names = {service.service_id: service.name for service in device.services}
        services = list(names)
        await connection.execute(
            self._sql["save_device"], device.device_id, device.owner_account_id, device.name
        )
        await connection.execute(self._sql["drop_other_services"], device.device_id, services)
        await connection.execute(self._sql["add_services"], device.device_id, services, list(names.values()))

    async def _account(self, connection: pg.Connection, record: Record) -> None:
        key = _key(record, _ACCOUNT_ID)
        if record.value is None:
            await connection.execute(self._sql["drop_account"], key)
            return
        _, account = codec.decode_as(record.value, AccountSnapshot)
        _require_key(key, account.account_id)
        addresses = sorted(_addresses(account))
        await connection.execute(self._sql["save_account"], account.account_id, account.name)
        await connection.execute(self._sql["drop_other_addresses"], account.account_id, addresses)
        await connection.execute(self._sql["add_addresses"], account.account_id, addresses)


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
    for email in account.verified_emails:
        try:
            addresses.add(canonical_address(email))
        except InvalidAddressError:
            log.warning("verified_address_unusable", account_id=account.account_id)
    return addresses
