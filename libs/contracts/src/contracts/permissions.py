"""Permissions, and the terms of a share: which services, which functions."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, PlainSerializer

from contracts.base import Fact, Id, Moment, Order


class Permission(StrEnum):
    """One function of a device. What is not granted is refused."""

    CONNECT = "connect"
    SCRIPTING = "scripting"
    LIVE_VIEW = "live_view"
    PLAYBACK = "playback"
    TWO_WAY_AUDIO = "two_way_audio"
    PTZ = "ptz"
    ALARM_NOTIFICATIONS = "alarm_notifications"
    ARM = "arm"


def _without_scripting(value: frozenset[Permission]) -> frozenset[Permission]:
    if Permission.SCRIPTING in value:
        raise ValueError("scripting belongs to the share as a whole: set `scripting`, not a permission")
    return value


Permissions = Annotated[frozenset[Permission], PlainSerializer(sorted, return_type=list[str])]
"""A set of permissions; serialised sorted, so that equal sets are equal bytes."""

ExplicitPermissions = Annotated[Permissions, Field(min_length=1), AfterValidator(_without_scripting)]
"""What a sharer chose: at least one permission, scripting not among them."""

PermissionSet = Literal["all"] | ExplicitPermissions
"""``"all"`` means every permission that the service supports, now and later; a list is a list."""


class AllServices(Fact):
    """Every service of the device, those added later included."""

    kind: Literal["all"] = "all"
    permissions: PermissionSet = "all"


class SomeServices(Fact):
    """Exactly the services named, each with its own permissions."""

    kind: Literal["some"] = "some"
    services: Annotated[dict[Id, PermissionSet], Field(min_length=1)]


Scope = Annotated[AllServices | SomeServices, Field(discriminator="kind")]


class Terms(Fact):
    """What a share gives, and when: from ``starts_at`` on (absent: from acceptance on) until ``ends_at``,
    which is not part of it any more (absent: until somebody ends it)."""

    scope: Scope
    scripting: bool = False
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None


class _AllServicesOrder(AllServices):
    model_config = ConfigDict(extra="forbid")


class _SomeServicesOrder(SomeServices):
    model_config = ConfigDict(extra="forbid")
    services: Annotated[dict[Id, PermissionSet], Field(max_length=1000)]


class TermsOrder(Order):
    """`Terms` as an instruction: a misspelt ``ends_at`` must never mean for ever.

    A scope of some services may list none: then nothing is left of the share.
    """

    scope: Annotated[_AllServicesOrder | _SomeServicesOrder, Field(discriminator="kind")]
    scripting: bool = False
    starts_at: Moment | None = None
    ends_at: Moment | None = None

    def as_terms(self) -> Terms:
        """The same as a fact; raises ValidationError when no service is listed."""
        return Terms.model_validate(self.model_dump())


def granted(terms: Terms, service_id: str, supported: frozenset[Permission]) -> frozenset[Permission]:
    """The permissions that ``terms`` give on one service of the shared device.

    ``supported`` is what the service can do (directory.devices). Start and end are the caller's to judge.
    A permission that the service does not support is never granted, whatever the terms list. Scripting is
    granted with the share as a whole, on each service that is in its scope.
    """
    match terms.scope:
        case AllServices(permissions=permissions):
            chosen = permissions
        case SomeServices(services=services):
            if service_id not in services:
                return frozenset()
            chosen = services[service_id]
    functions = supported if chosen == "all" else supported & chosen
    functions -= {Permission.SCRIPTING}
    return functions | {Permission.SCRIPTING} if terms.scripting else functions
