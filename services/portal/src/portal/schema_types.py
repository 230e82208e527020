"""The objects of the GraphQL schema, in the names that remote.it's clients use.

A null argument means its default. What this installation does not know yet is answered as unknown, never
as a guess; each field's description says so.
"""

from datetime import UTC, datetime
from enum import Enum
from typing import Self

import strawberry

from contracts.permissions import AllServices
from portal import answers
from portal.context import Context
from portal.event_schema import DeviceEventFields
from portal.event_types import Session
from portal.people import Person
from portal.unkept_fields import Attributes, UnkeptDeviceFields

_Info = strawberry.Info[Context, None]


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
    phone: str | None = strawberry.field(description="Of who was invited by telephone.")
    scripting: bool
    created: datetime | None


@strawberry.type(description="A label of a device.")
class Tag:
    """There are none yet."""

    name: str


def matches_none(
    application: list[int] | None,
    platform: list[int] | None,
    hardware_id: str | None,
    tag: ListFilter | None,
) -> bool:
    """Whether a filter asks for something of which nothing is kept; null and empty ask for nothing."""
    return bool(application or platform or hardware_id or (tag and tag.values))


_ONLINE = "True when its agent is connected to a gateway. False also when that is not known."
_STATE = (
    '"active": its agent is connected; "inactive": it is not; "unknown": it has none, or nobody can tell.'
)


def state_of(device: answers.Device) -> str:
    """Whether a device is connected, in remote.it's words."""
    return {True: "active", False: "inactive", None: "unknown"}[device.online]


@strawberry.type(description="With whom a device is shared, in short. Not in remote.it's schema.")
class SharedWith:
    """Of one's own device; all is 0 for others."""

    accepted: int
    invited: int
    first: list[str] = strawberry.field(description="Addresses of the first 20 of both.")


@strawberry.type(description="One service of a device.")
class Service(Attributes):
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
    state: str = strawberry.field(description=_STATE)
    online: bool = strawberry.field(description=_ONLINE)

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
            state=state_of(device),
            online=device.online is True,
        )

    @strawberry.field(description="Who else may use it; a recipient sees himself only.")
    async def access(self, info: _Info) -> list[Access]:
        """Accepted shares that contain this service."""
        return [
            _access(entry)
            for entry in await info.context.access_of(self.device)
            if entry.state == "active" and _contains(entry, self.answer.service_id)
        ]

    @strawberry.field(description="What the caller may do with it. Not in remote.it's schema.")
    def permissions(self) -> list[str]:
        """In alphabetical order."""
        return sorted(self.answer.permissions)


@strawberry.type(description="A device that the caller owns, or that is shared with him and accepted.")
class Device(DeviceEventFields, UnkeptDeviceFields):
    """Answers what the read API knows of a device."""

    id: strawberry.ID
    name: str
    created: datetime | None
    owner: Person
    scripting: bool = strawberry.field(description="Whether the caller may run scripts on it.")
    state: str = strawberry.field(description=_STATE)
    online: bool = strawberry.field(description=_ONLINE)
    last_reported: datetime | None = strawberry.field(
        description="Since when it is active or inactive; null: it never was."
    )
    tags: list[Tag] = strawberry.field(description="None are kept: an empty list.")

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
            state=state_of(device),
            online=device.online is True,
            last_reported=device.last_seen,
            tags=[],
        )

    @strawberry.field(
        description="In how many seconds the next of the caller's shares of it begins, which no event tells; "
        "null: all have begun. Not in remote.it's schema."
    )
    def begins_in(self) -> float | None:
        """By the server's clock, since that of a browser may be wrong."""
        begins = self.answer.begins_at
        return None if begins is None else max(0.0, (begins - datetime.now(UTC)).total_seconds())

    @strawberry.field(
        description="Who else has access to at least one service; a recipient sees himself only."
    )
    async def access(self, info: _Info) -> list[Access]:
        """Accepted shares."""
        entries = await info.context.access_of(self.answer)
        return [_access(entry) for entry in entries if entry.state == "active"]

    @strawberry.field(description="Who is invited and has not answered. Not in remote.it's schema.")
    async def pending(self, info: _Info) -> list[PendingShare]:
        """Requested shares, for the owner."""
        return [
            PendingShare(
                share_id=strawberry.ID(str(entry.share_id)),
                email=entry.email,
                phone=entry.phone,
                scripting=entry.terms.scripting,
                created=entry.since,
            )
            for entry in await info.context.access_of(self.answer)
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

    @strawberry.field(
        description="The services that the caller may use. What is not kept (applications, platforms, "
        "hardware ids, tags) matches none; `sort` and `owner` change nothing."
    )
    def services(
        self,
        *,
        sort: str | None = "name",
        application: list[int] | None = strawberry.UNSET,
        hardware_id: str | None = strawberry.UNSET,
        id: list[str] | None = strawberry.UNSET,
        name: str | None = strawberry.UNSET,
        owner: bool | None = strawberry.UNSET,
        platform: list[int] | None = strawberry.UNSET,
        state: str | None = strawberry.UNSET,
        tag: ListFilter | None = strawberry.UNSET,
    ) -> list[Service]:
        """In the order of the device; ``name`` is a part of the name, in any case."""
        del sort, owner
        if matches_none(application, platform, hardware_id, tag) or (
            state and state != state_of(self.answer)
        ):
            return []
        return [
            Service.of(service, self.answer)
            for service in self.answer.services
            if (not id or service.service_id in id)
            and (not name or name.casefold() in service.name.casefold())
        ]

    @strawberry.field(
        description="none, in (shared with the caller), out (shared by him), both. Not in remote.it's schema."
    )
    def share_state(self) -> str:
        """As the read API tells it."""
        return self.answer.share_state

    @strawberry.field(description="Whether the caller owns it. Not in remote.it's schema.")
    def owned(self) -> bool:
        """As the read API tells it."""
        return self.answer.owned

    @strawberry.field(
        description="computer, camera, recorder, alarm_panel or another word of its registry. Not in "
        "remote.it's schema."
    )
    def kind(self) -> str | None:
        """As the read API tells it."""
        return self.answer.kind

    @strawberry.field(
        description="What the caller calls a device that is shared with him. Not in remote.it's schema."
    )
    async def alias(self, info: _Info) -> str | None:
        """Nobody else's."""
        return None if self.answer.owned else await info.context.alias_of(self.answer.device_id)

    @strawberry.field(
        description="With whom the caller shares it, in short: how many, and the first of them. Not in "
        "remote.it's schema."
    )
    def shared_with(self) -> "SharedWith":
        """Costs nothing beyond the device itself, unlike `access` and `pending` of a long list."""
        device = self.answer
        if not device.owned:
            return SharedWith(accepted=0, invited=0, first=[])
        return SharedWith(
            accepted=device.access_total - device.invited_total,
            invited=device.invited_total,
            first=[entry.email or entry.phone or "" for entry in device.access],
        )


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
