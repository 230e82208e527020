"""Hints that what somebody reads may be other now, for the instances that stream to him (`changes`).

They travel as payloads of `NOTIFY`, in the transaction that stores what they are about, and name ids only:
whose the address of a contact is, is asked when they are heard.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from pydantic import TypeAdapter
from pydantic_core import to_json

CHANNEL: Final = "notifier_changed"
Event = Literal["notices", "notice_settings"]
"""What may be other: the inbox, or what its reader chose about notices."""
EVENTS: Final[tuple[Event, ...]] = ("notices", "notice_settings")

_IDS_OF_A_PAYLOAD: Final = 50
"""So many fit into the 8,000 bytes of a payload, as long as they may be."""


@dataclass(slots=True)
class Readers:
    """Accounts, whoever has verified the address of contacts, and who has to do with devices' live shares."""

    accounts: set[str] = field(default_factory=set[str])
    contacts: set[UUID] = field(default_factory=set[UUID])
    devices: set[str] = field(default_factory=set[str])

    def add(self, other: "Readers") -> None:
        """Those too."""
        self.accounts |= other.accounts
        self.contacts |= other.contacts
        self.devices |= other.devices

    def __len__(self) -> int:
        return len(self.accounts) + len(self.contacts) + len(self.devices)


_PAYLOAD: Final = TypeAdapter[tuple[Event, Readers]](tuple[Event, Readers])


def payloads(event: Event, readers: Readers) -> Iterator[str]:
    """The hint, in as many payloads as it takes."""
    for kind, ids in (
        ("accounts", readers.accounts),
        ("contacts", readers.contacts),
        ("devices", readers.devices),
    ):
        ordered = sorted(map(str, ids))
        for start in range(0, len(ordered), _IDS_OF_A_PAYLOAD):
            part = ordered[start : start + _IDS_OF_A_PAYLOAD]
            yield to_json((event, {kind: part})).decode()


def read(payload: str) -> tuple[Event, Readers]:
    """What `payloads` wrote; raises ValidationError for one of another release."""
    return _PAYLOAD.validate_json(payload)
