"""What the bytes of a record say, in a form that can be stored. Pure.

Every reader raises `UnreadableError` for a value that is none of ours or cannot be stored, so that one bad
record never fails the batch it came in. No message repeats a value of the input.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar, overload
from uuid import UUID

from pydantic import TypeAdapter

from contracts.base import AccountId, Id
from contracts.codec import DecodeError, decode_as
from contracts.contacts import InvalidAddressError, canonical_address, is_phone
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.events import (
    SHARE_EVENT_TYPES,
    AnyShareEvent,
    InvitationResent,
    ShareChanged,
    ShareRequested,
)
from contracts.topics import DEVICE_PARTITIONS, DIRECTORY_DEVICES, SHARE_EVENTS
from contracts.watermarks import TopicEnds, Watermark
from permission_projector.projection import VersionedEvent

_DEVICE_KEY: Final = TypeAdapter[str](Id)
_ACCOUNT_KEY: Final = TypeAdapter[str](AccountId)
_S = TypeVar("_S", DeviceSnapshot, AccountSnapshot, ContactSnapshot)
_MOST_INT: Final = 2**31 - 1
_MOST_VERSION: Final = 10**18 - 1
"""A position has at most 18 digits (contracts.positions)."""


class UnreadableError(ValueError):
    """A value that cannot be used.

    ``code`` is stable: those of `contracts.codec.DecodeError`, ``UNREADABLE_KEY``, ``KEY_MISMATCH`` (the
    value is about something else than the key says), ``NOT_STORABLE`` (the database cannot hold a
    number or a time), ``WRONG_PARTITION`` (another than murmur2 of the key gives).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnreadableKeyError(ValueError):
    """A record of a device topic whose key names no device, so that nobody knows whom it was about."""


class ReadEvent(NamedTuple):
    """A share event and the id of the request it came of."""

    event: VersionedEvent
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """An account with its verified addresses in canonical form, each once: those of e-mail, then telephone
    numbers, both in the registry's order."""

    account_id: str
    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """A device topic, by its full name; ``end_offsets[p]`` is partition p's, None when it was not told."""

    topic: str
    topic_id: str
    end_offsets: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class DeviceWatermark:
    """What a watermark says of the two device topics."""

    as_of: datetime
    events: Ends
    devices: Ends


@lru_cache(maxsize=100_000)
def read_device_key(key: bytes | None) -> str:
    """The device that a record is about.

    Raises:
        UnreadableKeyError: there is no key, or it is no device id.
    """
    try:
        return _DEVICE_KEY.validate_python((key or b"").decode())
    except ValueError:
        raise UnreadableKeyError(
            "The record's key names no device, so its partition waits: find out what it was, then move the "
            "stored offset past it by hand, or rebuild."
        ) from None


def read_share_event(device_id: str, value: bytes | None) -> ReadEvent:
    """A record of share.events; ``device_id`` is its key."""
    try:
        message, data = decode_as(value, SHARE_EVENT_TYPES)
    except DecodeError as error:
        raise UnreadableError(error.code, str(error)) from None
    _require_key(data.device_id == device_id)
    if message.version is None:
        raise UnreadableError("INVALID_DATA", "The event has no version.")
    if message.version > _MOST_VERSION:
        raise UnreadableError("NOT_STORABLE", "The event's version is too large.")
    try:
        event_id = UUID(message.id)
    except ValueError:
        raise UnreadableError("INVALID_DATA", "The event's id is no UUID.") from None
    event = VersionedEvent(event_id, message.version, _in_utc(message.time), _with_times_in_utc(data))
    return ReadEvent(event, message.correlationid)


_WITH_TIMES: Final = frozenset({ShareRequested, ShareChanged, InvitationResent})


def _with_times_in_utc(data: AnyShareEvent) -> AnyShareEvent:
    if type(data) not in _WITH_TIMES:
        return data
    terms, expires_at = getattr(data, "terms", None), getattr(data, "expires_at", None)
    if _is_utc(expires_at) and (terms is None or (_is_utc(terms.starts_at) and _is_utc(terms.ends_at))):
        return data
    update: dict[str, object] = {"expires_at": _in_utc(expires_at)}
    if terms is not None:
        window = {"starts_at": _in_utc(terms.starts_at), "ends_at": _in_utc(terms.ends_at)}
        update["terms"] = terms.model_copy(update=window)
    return data.model_copy(update=update)


def _is_utc(time: datetime | None) -> bool:
    return time is None or not time.utcoffset()


def read_device(device_id: str, value: bytes) -> DeviceSnapshot:
    """A record of directory.devices; ``device_id`` is its key."""
    device = _snapshot(value, DeviceSnapshot)
    _require_key(device.device_id == device_id)
    ids = [service.service_id for service in device.services]
    if len(set(ids)) != len(ids):
        raise UnreadableError("INVALID_DATA", "A service id stands twice.")
    for service in device.services:
        if service.channel is not None and abs(service.channel) > _MOST_INT:
            raise UnreadableError("NOT_STORABLE", "A channel's number is too large.")
    return device.model_copy(update={"created_at": _in_utc(device.created_at)})


def read_account(key: bytes | None, value: bytes | None) -> tuple[str, Account | None]:
    """A record of directory.accounts: whose it is, and None when the account was deleted.

    An address that is none is left out: nobody can be invited by it.
    """
    try:
        account_id = _ACCOUNT_KEY.validate_python((key or b"").decode())
    except ValueError:
        raise UnreadableError("UNREADABLE_KEY", "The key is no account's id.") from None
    if value is None:
        return account_id, None
    account = _snapshot(value, AccountSnapshot)
    _require_key(account.account_id == account_id)
    addresses = dict.fromkeys(
        [
            *_canonical(account.verified_emails, phones=False),
            *_canonical(account.verified_phones, phones=True),
        ]
    )
    return account_id, Account(account_id, account.name, tuple(addresses))


def _canonical(texts: Iterable[str], *, phones: bool) -> Iterator[str]:
    for text in texts:
        try:
            address = canonical_address(text)
        except InvalidAddressError:
            continue
        if is_phone(address) == phones:
            yield address


def read_contact(key: bytes | None, value: bytes | None) -> tuple[UUID, ContactSnapshot | None]:
    """A record of directory.contacts: which contact, and None when it was deleted."""
    try:
        contact_id = UUID((key or b"").decode())
    except ValueError:
        raise UnreadableError("UNREADABLE_KEY", "The key is no contact's id.") from None
    if value is None:
        return contact_id, None
    contact = _snapshot(value, ContactSnapshot)
    _require_key(contact.contact_id == contact_id)
    return contact_id, contact


def read_watermark(value: bytes | None, prefix: str) -> DeviceWatermark:
    """A record of share.watermarks. It names topics without the ``prefix`` that they have in the cluster."""
    try:
        _, watermark = decode_as(value, Watermark)
    except DecodeError as error:
        raise UnreadableError(error.code, str(error)) from None
    return DeviceWatermark(
        _in_utc(watermark.as_of),
        _ends(prefix, SHARE_EVENTS.name, watermark.topics),
        _ends(prefix, DIRECTORY_DEVICES.name, watermark.topics),
    )


def _ends(prefix: str, name: str, topics: Mapping[str, TopicEnds]) -> Ends:
    told = topics.get(name)
    if told is None:
        raise UnreadableError("INVALID_DATA", "The watermark does not tell of both device topics.")
    offsets = tuple(told.end_offsets.get(number) for number in range(DEVICE_PARTITIONS))
    if any(offset is not None and not 0 <= offset <= _MOST_VERSION for offset in offsets):
        raise UnreadableError("INVALID_DATA", "The watermark has an offset that none can be.")
    return Ends(prefix + name, told.topic_id, offsets)


def _snapshot(value: bytes, kind: type[_S]) -> _S:
    try:
        return decode_as(value, kind)[1]
    except DecodeError as error:
        raise UnreadableError(error.code, str(error)) from None


def _require_key(same: bool) -> None:
    if not same:
        raise UnreadableError("KEY_MISMATCH", "The value is about something else than its key says.")


@overload
def _in_utc(time: datetime) -> datetime: ...
@overload
def _in_utc(time: datetime | None) -> datetime | None: ...
def _in_utc(time: datetime | None) -> datetime | None:
    try:
        return None if time is None else time.astimezone(UTC)
    except OverflowError:
        raise UnreadableError("NOT_STORABLE", "A time is outside the years 1 to 9999.") from None
