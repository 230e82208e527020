"""What the names in a command stand for: addresses and contacts, devices and services."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from contracts.contacts import InvalidAddressError, canonical_address
from share_command.errors import ContactNotFound, InvalidAddress, InvalidEmail, InvalidPhone, Refused
from share_command.store import Named, Store

_CONTACT = "contact:"


@dataclass(slots=True)
class Addresses:
    """Canonical address → as written, each once; and those that are none, as written → why."""

    usable: dict[str, str] = field(default_factory=dict[str, str])
    refused: dict[str, Refused] = field(default_factory=dict[str, Refused])


async def addresses(recipients: Iterable[str], actor: str, store: Store) -> Addresses:
    """Read recipients: addresses, or contacts of the actor's book."""
    found = Addresses()
    recipients = list(recipients)
    book = await _book(recipients, actor, store)
    for written in recipients:
        try:
            if written.startswith(_CONTACT):
                if written not in book:
                    raise ContactNotFound
                found.usable.setdefault(book[written], written)
            else:
                found.usable.setdefault(read_address(written), written)
        except Refused as refusal:
            found.refused[written] = refusal
    return found


def read_address(written: str) -> str:
    """The canonical form of an address; raises InvalidEmail or InvalidPhone."""
    try:
        return canonical_address(written)
    except InvalidAddressError as error:
        kind: type[InvalidAddress] = InvalidPhone if error.code == InvalidPhone.code else InvalidEmail
        raise kind(str(error)) from None


async def _book(recipients: list[str], actor: str, store: Store) -> Mapping[str, str]:
    """Those written as contacts of the book → their addresses."""
    asked: dict[UUID, str] = {}
    for written in recipients:
        if written.startswith(_CONTACT):
            try:
                asked[UUID(written.removeprefix(_CONTACT))] = written
            except ValueError:
                continue
    if not asked:
        return {}
    known = await store.book_addresses(actor, asked)
    return {asked[contact_id]: address for contact_id, address in known.items()}


async def named(names: Iterable[str], owner: str | None, store: Store) -> list[Named]:
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


def by_device(items: Iterable[Named]) -> dict[str, list[Named]]:
    """Device id → all that named it."""
    grouped: dict[str, list[Named]] = {}
    for item in items:
        grouped.setdefault(item.device_id, []).append(item)
    return grouped
