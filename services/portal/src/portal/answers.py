"""What the other services answer, as docs/architecture.md describes it. Unknown fields are ignored."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.base import Fact
from contracts.permissions import Permission, Terms

State = str
"""State of a share: requested, active, rejected, revoked, left, expired."""


class Me(Fact):
    """The caller's own account."""

    account_id: str
    name: str | None = None
    email: str | None = None


class Person(Fact):
    """Another account, as far as the caller may know it."""

    account_id: str
    name: str | None = None
    email: str | None = None


class Service(Fact):
    """A service of a device and what the caller may do with it."""

    service_id: str
    name: str
    protocol: str
    channel: int | None = None
    permissions: frozenset[Permission] = frozenset()


class Access(Fact):
    """One share of a device. ``account_id`` is absent until somebody accepted."""

    share_id: UUID
    state: State
    account_id: str | None = None
    email: str | None = None
    terms: Terms
    since: AwareDatetime | None = None


class Device(Fact):
    """A device that the caller owns or that is shared with him."""

    device_id: str
    name: str
    kind: str | None = None
    created_at: AwareDatetime | None = None
    owner: Person
    owned: bool
    share_state: Literal["none", "in", "out", "both"] = "none"
    scripting: bool = False
    services: tuple[Service, ...] = ()
    access: tuple[Access, ...] = ()


class DevicePage(Fact):
    """Some devices of a longer list."""

    items: tuple[Device, ...]
    total: int
    has_more: Annotated[bool, Field(alias="hasMore")]


class Invitation(Fact):
    """A share that the caller may accept now. ``service_names`` are of the services in ``terms``."""

    share_id: UUID
    device_id: str
    device_name: str
    owner: Person
    terms: Terms
    service_names: dict[str, str] = Field(default_factory=dict)
    invitation_version: int
    created_at: AwareDatetime | None = None


class Invitations(Fact):
    """All of them."""

    items: tuple[Invitation, ...]


class LinkedInvitation(Fact):
    """The invitation behind a link, as it stands now."""

    share_id: UUID
    device_id: str
    device_name: str
    owner_name: str | None
    state: State
    invitation_version: int
    purpose: Literal["accept", "reject"]
    terms: Terms
    service_names: dict[str, str] = Field(default_factory=dict)
    changed_since_link: bool


class Contact(Fact):
    """Somebody in the caller's contact book; ``address`` is canonical."""

    contact_id: UUID
    address: str


class Contacts(Fact):
    """The caller's contact book, newest first."""

    contacts: tuple[Contact, ...]


class Connection(Fact):
    """A port that was opened for the caller at the gateway."""

    connection_id: str
    service_id: str
    device_id: str
    host: str
    port: int
    protocol: str
    created_at: AwareDatetime
    timeout_seconds: float
