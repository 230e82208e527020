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
    """One share of a device. ``account_id`` is absent until somebody accepted; ``phone`` is of who was
    invited by telephone.
    """

    share_id: UUID
    state: State
    account_id: str | None = None
    email: str | None = None
    phone: str | None = None
    terms: Terms
    since: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


class Device(Fact):
    """A device that the caller owns or that is shared with him.

    ``access`` has the first entries of the list; ``access_total`` counts all, ``invited_total`` those of them
    that nobody has accepted yet. ``online`` is None when nobody knows; ``last_seen`` is since when it is so,
    or until when it was known. ``begins_at`` is when the next of the caller's shares of it begins, of those
    that had not when this was answered.
    """

    device_id: str
    name: str
    kind: str | None = None
    created_at: AwareDatetime | None = None
    owner: Person
    owned: bool
    share_state: Literal["none", "in", "out", "both"] = "none"
    scripting: bool = False
    online: bool | None = None
    last_seen: AwareDatetime | None = None
    services: tuple[Service, ...] = ()
    access: tuple[Access, ...] = ()
    access_total: int = 0
    invited_total: int = 0
    begins_at: AwareDatetime | None = None


class AccessPage(Fact):
    """Entries of one device's access list; ``next`` is the cursor that goes on."""

    items: tuple[Access, ...]
    next: str | None = None


class DevicePage(Fact):
    """Some devices of a longer list; ``next`` is the cursor that goes on, ``total`` only when asked for."""

    items: tuple[Device, ...]
    total: int | None = None
    has_more: Annotated[bool, Field(alias="hasMore")]
    next: str | None = None


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
    expires_at: AwareDatetime | None = None


class InvitationPage(Fact):
    """Some of them; ``next`` is the cursor that goes on."""

    items: tuple[Invitation, ...]
    next: str | None = None


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
    expires_at: AwareDatetime | None = None
    message: str | None = None


class Contact(Fact):
    """Somebody in the caller's contact book; ``address`` as people write it, ``remark`` the caller's own.

    ``name`` is known of who showed his contact code.
    """

    contact_id: UUID
    address: str
    name: str | None = None
    remark: str | None = None
    last_used_at: AwareDatetime | None = None

    @property
    def is_phone(self) -> bool:
        """Whether the address is a telephone number."""
        return "@" not in self.address


class Contacts(Fact):
    """The caller's contact book, newest first."""

    contacts: tuple[Contact, ...]


class DeletedAccount(Fact):
    """An account that the registry has deleted; ``there_again``: and has since written anew."""

    number: int
    account_id: str
    there_again: bool


class DeletedAccounts(Fact):
    """Some of them, ascending by ``number``."""

    items: tuple[DeletedAccount, ...]


class ContactId(Fact):
    """A contact of the caller's book."""

    contact_id: UUID
    name: str | None = None


class ContactCode(Fact):
    """What to show as a QR code, and until when it can be scanned."""

    code: str
    ends_at: AwareDatetime


class AcceptedOwner(Fact):
    """An owner whose shares the caller always accepts."""

    owner_account_id: str
    name: str | None = None
    since: AwareDatetime


class AcceptedOwners(Fact):
    """All of them."""

    owners: tuple[AcceptedOwner, ...]


class GivenShare(Fact):
    """A live share of the caller's device, as share-command has it now."""

    share_id: UUID
    contact_id: UUID
    address: str
    remark: str | None = None
    state: State
    terms: Terms
    version: int
    invitation_version: int
    expires_at: AwareDatetime | None = None
    message: str | None = None


class GivenShares(Fact):
    """All of one device."""

    shares: tuple[GivenShare, ...]


class Messages(Fact):
    """Share id → the owner's words to the recipient."""

    messages: dict[UUID, str]


class AgentCode(Fact):
    """A one-time code with which an agent is enrolled, and where that can dial."""

    device_id: str
    code: str
    expires_at: AwareDatetime
    gateways: tuple[str, ...]


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


class StreamPassword(Fact):
    """Addresses of a camera's stream, and what a player shows there in place of a token."""

    urls: tuple[str, ...]
    web_urls: tuple[str, ...]
    password: str
    ends_at: AwareDatetime


class Somebody(Fact):
    """An account in a history."""

    account_id: str
    name: str | None = None


class PastShare(Fact):
    """A share that the caller gave or had, as it is now."""

    share_id: UUID
    device_id: str
    device_name: str | None = None
    given: bool
    state: State
    owner: Somebody
    account: Somebody | None = None
    email: str | None = None
    phone: str | None = None
    terms: Terms
    requested_at: AwareDatetime
    since: AwareDatetime
    expires_at: AwareDatetime | None = None
    version: int


class PastShares(Fact):
    """Some of them, the newest first."""

    items: tuple[PastShare, ...]
    next: str | None = None


class ShareHappening(Fact):
    """An event of a share, and what the share was after it."""

    version: int
    kind: str
    at: AwareDatetime
    share_id: UUID
    account: Somebody | None = None
    email: str | None = None
    phone: str | None = None
    state: State
    terms: Terms | None = None
    reason: str | None = None


class DeviceHistory(Fact):
    """Some of a device's events, the newest first."""

    items: tuple[ShareHappening, ...]
    next: str | None = None


class ConnectionRecord(Fact):
    """A connection, or a try that was refused."""

    connection_id: UUID
    device_id: str | None = None
    service_id: str
    account: Somebody
    permission: str
    opened_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    outcome: str
    in_doubt: bool = False
    reason: str | None = None


class ConnectionRecords(Fact):
    """Some of them, the newest first."""

    items: tuple[ConnectionRecord, ...]
    next: str | None = None
