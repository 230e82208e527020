"""What terms say, and how a request changes them. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from contracts.commands import ServiceChange
from contracts.outcomes import EffectivePermissions
from contracts.permissions import (
    AllServices,
    Permission,
    PermissionSet,
    Scope,
    SomeServices,
    Terms,
    granted,
)
from share_command.domain.share import Device
from share_command.errors import Conflict, InvalidPeriod


def apply(scope: Scope | None, changes: Iterable[ServiceChange], device: Device) -> Scope | None:
    """The scope after the entries, in order; None when nothing is left.

    Raises:
        Conflict: one service of a share of all would get permissions of its own.
    """
    every = scope if isinstance(scope, AllServices) else None
    services: dict[str, PermissionSet] = dict(scope.services) if isinstance(scope, SomeServices) else {}
    for change in changes:
        if every is None:
            services.pop(change.service_id, None)
            if change.action == "ADD":
                services[change.service_id] = change.permissions
        elif change.action == "REMOVE":
            services = dict.fromkeys(sorted(device.services.keys() - {change.service_id}), every.permissions)
            every = None
        elif change.permissions != every.permissions:
            raise Conflict(
                "All services of this device are shared with the same permissions. Request the whole device "
                "with the permissions wanted, or take services out first.",
                service_id=change.service_id,
            )
    if every is not None:
        return every
    return SomeServices(services=services) if services else None  # once: it looks at each service again


def require_period(starts_at: datetime | None, ends_at: datetime | None, now: datetime) -> None:
    """A share must have some time left in which it gives something; raises InvalidPeriod."""
    if ends_at is not None and (ends_at <= now or (starts_at is not None and ends_at <= starts_at)):
        raise InvalidPeriod


def effective(terms: Terms | None, device: Device | None) -> Mapping[str, EffectivePermissions]:
    """Service → permissions that the terms give on it, for each that they give any; start and end aside.

    Where it is not known what a service supports, what was chosen stands as it is.
    """
    given: dict[str, EffectivePermissions] = {}
    if terms is None or device is None:
        return given
    for service_id, supported in device.services.items():
        if supported is not None:
            permissions = granted(terms, service_id, supported)
        elif isinstance(terms.scope, AllServices):
            permissions = terms.scope.permissions
        else:
            permissions = terms.scope.services.get(service_id, frozenset[Permission]())
        if permissions:
            given[service_id] = permissions
    return given
