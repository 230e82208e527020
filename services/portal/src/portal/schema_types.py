"""The objects of the GraphQL schema, in the names that remote.it's clients use.

A null argument means its default. What this installation does not know yet is answered as unknown, never
as a guess; each field's description says so.
"""

from datetime import datetime
from enum import Enum
from typing import Self

import strawberry
from strawberry.scalars import JSON

from contracts.contacts import display_address
from contracts.permissions import AllServices, Permission
from portal import answers
from portal.sharing import SharingAction

strawberry.enum(SharingAction, description="What to do with a share or with a service of it.")


@strawberry.enum(description="What somebody may do with a device as a whole.")
class RolePermission(Enum):
    """The five that remote.it's clients know."""

    VIEW = "VIEW"
    CONNECT = "CONNECT"
    SCRIPTING = "SCRIPTING"
    MANAGE = "MANAGE"
    ADMIN = "ADMIN"


@strawberry.enum(description="How the values of a list filter are joined.")
class ListFilterOperator(Enum):
    """Every value, or at least one."""

    ALL = "ALL"
    ANY = "ANY"


@strawberry.input(description="Chooses by a list of values.")
class ListFilter:
    """For tags, of which there are none yet: whatever it asks for matches no device."""

    values: list[str]
    operator: ListFilterOperator | None = ListFilterOperator.ANY


@strawberry.input(description="One service of a share and what is to become of it.")
class ServiceSharingOptions:
    """An entry of the argument `services`."""

    service_id: str
    action: SharingAction | None = SharingAction.ADD


@strawberry.type(description="Somebody else: an owner, a recipient, a contact.")
class Person:
    """An account or a contact, by its id and address."""

    id: strawberry.ID
    email: str | None

    @classmethod
    def from_owner(cls, person: answers.Person) -> Self:
        """An owner."""
        return cls(id=strawberry.ID(person.account_id), email=person.email)

    @classmethod
    def from_contact(cls, contact: answers.Contact) -> Self:
        """An entry of the contact book."""
        return cls(id=strawberry.ID(str(contact.contact_id)), email=display_address(contact.address))


@strawberry.type(description="Somebody has access.")
class Access:
    """An accepted share."""

    created: datetime | None = strawberry.field(description="Since when.")
    scripting: bool
    user: Person


@strawberry.type(description="An invitation that is not accepted yet. Not in remote.it's schema.")
class PendingShare:
    """Seen by the owner."""

    share_id: strawberry.ID
    email: str | None
    scripting: bool
    created: datetime | None


@strawberry.type(description="A label of a device.")
class Tag:
    """There are none yet."""

    name: str


_UNKNOWN_ONLINE = "True when it is known to be reachable now. Presence is not observed yet: false throughout."
_UNKNOWN_STATE = 'Presence is not observed yet: "unknown" throughout.'
STATE_UNKNOWN = "unknown"


@strawberry.type(description="One service of a device.")
class Service:
    """Answers what the read API knows of a service."""

    answer: strawberry.Private[answers.Service]
    device: strawberry.Private[answers.Device]

    id: strawberry.ID
    name: str
    protocol: str = strawberry.field(description="tcp, ssh, http, rtsp, …")
    channel: int | None = strawberry.field(
        description="The channel of a camera or recorder. Not in remote.it's schema."
    )
    created: datetime | None = strawberry.field(description="Not recorded for single services: null.")
    application: int | None = strawberry.field(
        description="remote.it's number of a protocol; not kept: null."
    )
    port: int | None = strawberry.field(description="The device's own port is told to nobody: null.")
    host: str | None = strawberry.field(description="The device's own address is told to nobody: null.")
    enabled: bool = strawberry.field(description="Every service that is listed is offered: true.")
    state: str = strawberry.field(description=_UNKNOWN_STATE)
    online: bool = strawberry.field(description=_UNKNOWN_ONLINE)
    attributes: JSON = strawberry.field(description="None are kept: an empty object.")

    @classmethod
    def of(cls, service: answers.Service, device: answers.Device) -> Self:
        """A service of a device."""
        return cls(
            answer=service,
            device=device,
            id=strawberry.ID(service.service_id),
            name=service.name,
            protocol=service.protocol,
            channel=service.channel,
            created=None,
            application=None,
            port=None,
            host=None,
            enabled=True,
            state=STATE_UNKNOWN,
            online=False,
            attributes=JSON({}),
        )

    @strawberry.field(description="Who else may use it; a recipient sees himself only.")
    def access(self) -> list[Access]:
        """Accepted shares that contain this service."""
        return [
            _access(entry)
            for entry in self.device.access
            if entry.state == "active" and _contains(entry, self.answer.service_id)
        ]

    @strawberry.field(description="What the caller may do with it. Not in remote.it's schema.")
    def permissions(self) -> list[str]:
        """In alphabetical order."""
        return sorted(self.answer.permissions)


@strawberry.type(description="A device that the caller owns, or that is shared with him and accepted.")
class Device:
    """Answers what the read API knows of a device."""

    answer: strawberry.Private[answers.Device]

    id: strawberry.ID
    name: str
    created: datetime | None
    owner: Person
    scripting: bool = strawberry.field(description="Whether the caller may run scripts on it.")
    state: str = strawberry.field(description=_UNKNOWN_STATE)
    online: bool = strawberry.field(description=_UNKNOWN_ONLINE)
    last_reported: datetime | None = strawberry.field(description="Presence is not observed yet: null.")
    attributes: JSON = strawberry.field(description="None are kept: an empty object.")
    tags: list[Tag] = strawberry.field(description="None are kept: an empty list.")
    category_a: str | None = strawberry.field(description="Not kept: null.")
    category_b: str | None = strawberry.field(description="Not kept: null.")
    category_c: str | None = strawberry.field(description="Not kept: null.")
    category_d: str | None = strawberry.field(description="Not kept: null.")
    category_e: str | None = strawberry.field(description="Not kept: null.")

    @classmethod
    def of(cls, device: answers.Device) -> Self:
        """A device as the read API answers it."""
        return cls(
            answer=device,
            id=strawberry.ID(device.device_id),
            name=device.name,
            created=device.created_at,
            owner=Person.from_owner(device.owner),
            scripting=device.scripting or device.owned,
            state=STATE_UNKNOWN,
            online=False,
            last_reported=None,
            attributes=JSON({}),
            tags=[],
            category_a=None,
            category_b=None,
            category_c=None,
            category_d=None,
            category_e=None,
        )

    @strawberry.field(
        description="Who else has access to at least one service; a recipient sees himself only."
    )
    def access(self) -> list[Access]:
        """Accepted shares."""
        return [_access(entry) for entry in self.answer.access if entry.state == "active"]

    @strawberry.field(description="Who is invited and has not answered. Not in remote.it's schema.")
    def pending(self) -> list[PendingShare]:
        """Requested shares, for the owner."""
        return [
            PendingShare(
                share_id=strawberry.ID(str(entry.share_id)),
                email=entry.email,
                scripting=entry.terms.scripting,
                created=entry.since,
            )
            for entry in self.answer.access
            if entry.state == "requested"
        ]

    @strawberry.field(description="What the caller may do with the device.")
    def permissions(self) -> list[RolePermission]:
        """An owner has all; a recipient sees and connects, and runs scripts when that was granted."""
        return role_permissions(self.answer)

    @strawberry.field(description="Whether the caller has one of the permissions.")
    def can(self, permission: RolePermission) -> bool:
        """Membership in `permissions`."""
        return permission in role_permissions(self.answer)

    @strawberry.field(description="The services that the caller may use.")
    def services(self) -> list[Service]:
        """In the read API's order."""
        return [Service.of(service, self.answer) for service in self.answer.services]

    @strawberry.field(
        description="none, in (shared with the caller), out (shared by him), both. Not in remote.it's schema."
    )
    def share_state(self) -> str:
        """As the read API tells it."""
        return self.answer.share_state


def role_permissions(device: answers.Device) -> list[RolePermission]:
    """The roles that a caller has on a device."""
    if device.owned:
        return list(RolePermission)
    scripting = [RolePermission.SCRIPTING] if device.scripting else []
    return [RolePermission.VIEW, RolePermission.CONNECT, *scripting]


def _contains(entry: answers.Access, service_id: str) -> bool:
    scope = entry.terms.scope
    return isinstance(scope, AllServices) or service_id in scope.services


def _access(entry: answers.Access) -> Access:
    return Access(
        created=entry.since,
        scripting=entry.terms.scripting,
        user=Person(id=strawberry.ID(entry.account_id or ""), email=entry.email),
    )


@strawberry.type(description="Some devices of a longer list.")
class DeviceList:
    """A page."""

    items: list[Device]
    total: int = strawberry.field(description="Of all pages.")
    has_more: bool
    last: strawberry.ID | None = strawberry.field(description="Hand it over as `after` to get the next page.")


@strawberry.type(description="A device as an invitation names it.")
class InvitedDevice:
    """Nothing else of it is told before the invitation is accepted."""

    id: strawberry.ID
    name: str


@strawberry.type(description="A service in the terms of an invitation.")
class InvitedService:
    """`permissions` null means all that the service supports, now and later."""

    id: strawberry.ID
    permissions: list[str] | None


@strawberry.type(description="A share that the caller may accept or reject. Not in remote.it's schema.")
class Invitation:
    """`services` null means every service of the device, those added later included."""

    id: strawberry.ID
    device: InvitedDevice
    owner: Person
    invitation_version: int = strawberry.field(
        description="Hand it over when accepting: terms that changed meanwhile are refused with CONFLICT."
    )
    created: datetime | None
    scripting: bool
    services: list[InvitedService] | None
    permissions: list[str] | None = strawberry.field(
        description="When every service is shared: what may be done; null means all that is supported."
    )

    @classmethod
    def of(cls, invitation: answers.Invitation) -> Self:
        """An invitation as the read API answers it."""
        scope = invitation.terms.scope
        every = isinstance(scope, AllServices)
        return cls(
            id=strawberry.ID(str(invitation.share_id)),
            device=InvitedDevice(id=strawberry.ID(invitation.device_id), name=invitation.device_name),
            owner=Person.from_owner(invitation.owner),
            invitation_version=invitation.invitation_version,
            created=invitation.created_at,
            scripting=invitation.terms.scripting,
            services=None
            if every
            else [
                InvitedService(id=strawberry.ID(service_id), permissions=_listed(permissions))
                for service_id, permissions in scope.services.items()
            ],
            permissions=_listed(scope.permissions) if every else None,
        )


def _listed(permissions: str | frozenset[Permission]) -> list[str] | None:
    return None if isinstance(permissions, str) else sorted(permissions)


@strawberry.type(description="The session of a connection.")
class Session:
    """Its id."""

    id: strawberry.ID


@strawberry.type(description="A port that was opened for the caller: any TCP client may connect to it.")
class Connection:
    """As the gateway answers it."""

    id: strawberry.ID
    host: str
    port: int
    url: str = strawberry.field(description="Protocol, host and port in one.")
    created: datetime
    timeout: int = strawberry.field(description="Seconds until the port is closed when nobody connects.")
    reverse_proxy: bool = strawberry.field(description="There is none: false.")
    session: Session

    @classmethod
    def of(cls, opened: answers.Connection) -> Self:
        """A connection as the gateway answers it."""
        return cls(
            id=strawberry.ID(opened.connection_id),
            host=opened.host,
            port=opened.port,
            url=f"{opened.protocol}://{opened.host}:{opened.port}",
            created=opened.created_at,
            timeout=round(opened.timeout_seconds),
            reverse_proxy=False,
            session=Session(id=strawberry.ID(opened.connection_id)),
        )
