"""Objects of the schema about sharing: the entries of `share`, and what remote.it's schema does not have."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Self

import strawberry

from contracts import outcomes
from contracts.outcomes import EffectivePermissions
from contracts.permissions import AllServices, Permission, PermissionSet, SomeServices, Terms
from portal import answers
from portal.sharing import ServiceEntry, SharingAction


@strawberry.enum(description="One function of a device.")
class SharePermission(Enum):
    """What a share may give; scripting belongs to a share as a whole."""

    CONNECT = "connect"
    LIVE_VIEW = "live_view"
    PLAYBACK = "playback"
    TWO_WAY_AUDIO = "two_way_audio"
    PTZ = "ptz"
    ALARM_NOTIFICATIONS = "alarm_notifications"
    ARM = "arm"


def chosen(permissions: Sequence[SharePermission] | None) -> PermissionSet:
    """The permissions of an argument; absent or null: all that a service supports."""
    if not isinstance(permissions, Sequence):
        return "all"
    return frozenset(Permission(item.value) for item in permissions)


strawberry.enum(SharingAction, description="What to do with a share or with a service of it.")


@strawberry.input(description="One service of a share and what is to become of it.")
class ServiceSharingOptions:
    """An entry of the argument `services`."""

    service_id: str
    action: SharingAction | None = SharingAction.ADD
    permissions: list[SharePermission] | None = strawberry.field(
        default=None,
        description="With ADD: what may be done on it. Absent: the call's. Not in remote.it's schema.",
    )

    def as_entry(self) -> ServiceEntry:
        """As `portal.sharing` reads it."""
        return ServiceEntry(
            self.service_id,
            self.action or SharingAction.ADD,
            None if self.permissions is None else chosen(self.permissions),
        )


@strawberry.input(description="Permissions on one service.")
class ServicePermissionsInput:
    """`permissions` absent: all that the service supports."""

    service_id: str
    permissions: list[SharePermission] | None = None


@strawberry.input(description="The terms of a share, whole.")
class TermsInput:
    """Either every service, those added later included, or those listed; an empty list leaves nothing."""

    services: list[ServicePermissionsInput] | None = strawberry.field(
        default=None, description="The services shared. Absent: every service, those added later included."
    )
    permissions: list[SharePermission] | None = strawberry.field(
        default=None, description="When every service is shared: what may be done. Absent: all."
    )
    scripting: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def as_order(self) -> dict[str, Any]:
        """What `contracts.permissions.TermsOrder` is made of."""
        scope: dict[str, Any] = {"kind": "all", "permissions": chosen(self.permissions)}
        if self.services is not None:
            services = {item.service_id: chosen(item.permissions) for item in self.services}
            scope = {"kind": "some", "services": services}
        return {
            "scope": scope,
            "scripting": self.scripting,
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
        }


@strawberry.type(description="What may be done on one service.")
class ServicePermissions:
    """`permissions` null: all that the service supports, now and later."""

    service_id: strawberry.ID
    permissions: list[SharePermission] | None
    scripting: bool

    @classmethod
    def of(cls, given: Mapping[str, EffectivePermissions]) -> list[Self]:
        """One for each service, in order of id."""
        return [
            cls(
                service_id=strawberry.ID(service_id),
                permissions=listed(permissions),
                scripting=Permission.SCRIPTING in permissions,
            )
            for service_id, permissions in sorted(given.items())
        ]


def listed(permissions: EffectivePermissions) -> list[SharePermission] | None:
    """As the schema shows a set: null for all."""
    if isinstance(permissions, str):
        return None
    return [SharePermission(item.value) for item in sorted(permissions - {Permission.SCRIPTING})]


@strawberry.type(description="The terms of a share.")
class ShareTerms:
    """`services` null: every service, those added later included, with `permissions`."""

    services: list[ServicePermissions] | None
    permissions: list[SharePermission] | None
    scripting: bool
    starts_at: datetime | None
    ends_at: datetime | None

    @classmethod
    def of(cls, terms: Terms) -> Self:
        """As the schema shows them."""
        scope = terms.scope
        services: list[ServicePermissions] | None = None
        permissions: list[SharePermission] | None = None
        match scope:
            case SomeServices():
                services = ServicePermissions.of(scope.services)
            case AllServices():
                permissions = listed(scope.permissions)
        return cls(
            services=services,
            permissions=permissions,
            scripting=terms.scripting,
            starts_at=terms.starts_at,
            ends_at=terms.ends_at,
        )


@strawberry.enum(description="What became of one device with one recipient.")
class ShareOutcome(Enum):
    """`ACCEPTED`: the recipient accepts whatever this owner shares. `REFUSED`: see `code`."""

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    CHANGED = "changed"
    RESENT = "resent"
    REJECTED = "rejected"
    LEFT = "left"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@strawberry.type(description="One device with one recipient, as they were written.")
class ShareItem:
    """What became of it."""

    device_id: str
    recipient: str | None
    outcome: ShareOutcome
    share_id: strawberry.ID | None
    service_id: str | None
    code: str | None = strawberry.field(description="Why it was refused.")
    message: str | None

    @classmethod
    def of(cls, item: outcomes.ItemOutcome) -> Self:
        """As share-command answers it."""
        return cls(**_item(item))


def _item(item: outcomes.ItemOutcome) -> dict[str, Any]:
    return {
        "device_id": item.device_id,
        "recipient": item.recipient,
        "outcome": ShareOutcome(item.outcome),
        "share_id": None if item.share_id is None else strawberry.ID(str(item.share_id)),
        "service_id": item.service_id,
        "code": item.code,
        "message": item.message,
    }


@strawberry.type(description="What became of a bulk.")
class ShareBulkResult:
    """The same operation id again gives the same, and doubles nothing."""

    operation_id: str
    items: list[ShareItem]


@strawberry.type(description="What would become of one device with one recipient.")
class ExplainedItem(ShareItem):
    """Permissions are those of the terms: in force once accepted, and within start and end."""

    state_before: str | None
    state_after: str | None
    before: list[ServicePermissions]
    after: list[ServicePermissions]

    @classmethod
    def of(cls, item: outcomes.ItemOutcome) -> Self:
        """As share-command answers it."""
        assert isinstance(item, outcomes.ItemExplanation)
        return cls(
            **_item(item),
            state_before=item.state_before,
            state_after=item.state_after,
            before=ServicePermissions.of(item.permissions_before),
            after=ServicePermissions.of(item.permissions_after),
        )


@strawberry.type(description="What a call would do now; nothing was done.")
class Explanation:
    """`code` and `message` tell why it would be refused."""

    would_be_accepted: bool
    items: list[ExplainedItem]
    code: str | None
    message: str | None

    @classmethod
    def of(cls, told: outcomes.Explanation) -> Self:
        """As share-command answers it."""
        return cls(
            would_be_accepted=told.would_be_accepted,
            items=[ExplainedItem.of(item) for item in told.items],
            code=told.code,
            message=told.message,
        )


@strawberry.type(description="A share or open invitation that the caller gives, to be edited.")
class GivenShare:
    """`version` is what `changeShare` takes as `expectedVersion`."""

    id: strawberry.ID
    contact_id: strawberry.ID
    address: str
    remark: str | None = strawberry.field(description="The caller's own note on this contact; nobody else's.")
    state: str
    terms: ShareTerms
    version: int
    expires_at: datetime | None
    message: str | None

    @classmethod
    def of(cls, share: answers.GivenShare) -> Self:
        """As share-command answers it."""
        return cls(
            id=strawberry.ID(str(share.share_id)),
            contact_id=strawberry.ID(str(share.contact_id)),
            address=share.address,
            remark=share.remark,
            state=share.state,
            terms=ShareTerms.of(share.terms),
            version=share.version,
            expires_at=share.expires_at,
            message=share.message,
        )
