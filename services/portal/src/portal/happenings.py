"""What the read API answers about events, sessions and access in the past (docs/architecture.md)."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.base import Fact
from contracts.permissions import Terms
from portal.answers import Person, State


class Who(Fact):
    """An account in a history."""

    account_id: str
    name: str | None = None


class NamedService(Fact):
    """A service; its name is None for whom it is not there now."""

    service_id: str
    name: str | None = None


class ShareChange(Fact):
    """An event of a share, and the share after it."""

    share_id: UUID
    version: int
    kind: str
    state: State
    terms: Terms
    reason: str | None = None


class ConnectionUse(Fact):
    """A connection as it is now, or a try that was refused."""

    connection_id: UUID
    opened_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    outcome: Literal["open", "closed", "cut", "refused"]
    reason: str | None = None
    bytes_to_device: int | None = None
    bytes_from_device: int | None = None


class Event(Fact):
    """Something that happened: of a share, or of a connection.

    ``account`` is who had accepted the share, or who connected; ``email`` and ``phone`` are whom the caller
    invited.
    """

    event_id: UUID
    at: AwareDatetime
    device_id: str | None = None
    device_name: str | None = None
    owner: Person | None = None
    account: Who | None = None
    email: str | None = None
    phone: str | None = None
    services: tuple[NamedService, ...] = ()
    share: ShareChange | None = None
    connection: ConnectionUse | None = None


class EventPage(Fact):
    """Some events, the newest first; ``last`` is the place of the last of them."""

    items: tuple[Event, ...] = ()
    total: int | None = None
    has_more: Annotated[bool, Field(alias="hasMore")] = False
    last: str | None = None


class EventsOfDevice(EventPage):
    """Those of one device."""

    device_id: str


class EventsOfDevices(Fact):
    """A page for each device that has events."""

    devices: tuple[EventsOfDevice, ...]


class OpenConnection(Fact):
    """A connection that is open now."""

    connection_id: UUID
    device_id: str
    service_id: str
    service_name: str | None = None
    account: Who
    email: str | None = None
    opened_at: AwareDatetime


class OpenConnections(Fact):
    """Some of them; ``next`` is the cursor that goes on."""

    items: tuple[OpenConnection, ...]
    next: str | None = None


class DecidingEvent(Fact):
    """The event by which somebody had access."""

    event_id: UUID
    kind: str
    version: int
    at: AwareDatetime


class PastAccess(Fact):
    """Somebody who had access at a time."""

    role: Literal["owner", "recipient"]
    account: Who
    email: str | None = None
    phone: str | None = None
    share_id: UUID | None = None
    by: DecidingEvent | None = None
    terms: Terms | None = None


class PastAccessList(Fact):
    """All of them."""

    items: tuple[PastAccess, ...]
